//! The terminal of a process, as its worker sees it: it is made in the container, by root, and its master comes over a socket.

use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        stat::makedev,
    },
    unistd::{Gid, Uid, fchown},
};

use super::device::is_device;
use crate::{LaunchError, sys};

/// The device that hands out masters.
///
/// Source: Documentation/admin-guide/devices.txt, `/dev/ptmx`.
pub(super) const PTMX: u64 = makedev(5, 2);

/// Where the master of a new terminal arrives.
pub(crate) struct Console(UnixStream);

impl Console {
    /// With the end that it is sent to.
    pub(super) fn new() -> Result<(Self, OwnedFd), LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::io("socketpair(2)", "terminal"))?;
        Ok((Self(ours), theirs.into()))
    }

    /// The master that arrived, of a terminal that is that user's now.
    pub(super) fn master_for(self, uid: u32) -> Result<OwnedFd, LaunchError> {
        let master = receive_fd(&self.0)?.ok_or(LaunchError::Protocol("no terminal arrived"))?;
        give(&master, uid).map_err(LaunchError::io("fchown(2)", "terminal"))?;
        Ok(master)
    }
}

/// Makes the other end of a master a user's. Nothing else is touched, whatever the container's `/dev/ptmx` is.
fn give(master: &OwnedFd, uid: u32) -> io::Result<()> {
    if !is_device(master, PTMX)? {
        return Err(io::Error::other("what came is no terminal's master"));
    }
    Ok(fchown(sys::terminal::slave_of(master.as_fd())?, Some(Uid::from_raw(uid)), None::<Gid>)?)
}

/// The descriptor that comes with the message that is there.
fn receive_fd(socket: &UnixStream) -> Result<Option<OwnedFd>, LaunchError> {
    let mut text = [0; 64];
    let mut control = cmsg_space!([std::os::fd::RawFd; 1]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut iov = [IoSliceMut::new(&mut text)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)
        .map_err(LaunchError::io("recvmsg(2)", "terminal"))?;
    let mut messages = received.cmsgs().map_err(LaunchError::io("recvmsg(2)", "terminal"))?;
    Ok(messages.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.into_iter().next().map(sys::adopt),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    #[test]
    fn terminal_becomes_the_user_s_and_nothing_else_does() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let owner = |fd: &OwnedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().uid();
        give(&pair.master, 65532).unwrap();
        assert_eq!(owner(&pair.slave), 65532);

        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let before = owner(&file);
        let null = File::open("/dev/null").unwrap().into();
        for other in [&pair.slave, &null, &file] {
            assert!(give(other, 65533).is_err());
        }
        assert_eq!((owner(&pair.slave), owner(&file)), (65532, before));
    }
}
