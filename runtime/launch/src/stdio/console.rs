//! The terminal of a process: libcontainer makes it, and sends its master over a socket.

use std::{
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use crate::{LaunchError, sys};

/// Where the master of a new terminal arrives.
pub(crate) struct Console(UnixStream);

impl Console {
    /// With the end that libcontainer sends it to.
    pub(super) fn new() -> Result<(Self, OwnedFd), LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::io("socketpair(2)", "terminal"))?;
        Ok((Self(ours), theirs.into()))
    }

    /// The master that arrived.
    pub(super) fn master(self) -> Result<OwnedFd, LaunchError> {
        let master = receive_fd(&self.0, MsgFlags::MSG_DONTWAIT)?;
        master.ok_or(LaunchError::Protocol("no terminal arrived"))
    }
}

/// The descriptor that comes with the next message; none at the end.
pub(super) fn receive_fd(socket: &UnixStream, flags: MsgFlags) -> Result<Option<OwnedFd>, LaunchError> {
    let mut text = [0; 64];
    let mut control = cmsg_space!([std::os::fd::RawFd; 1]);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut iov = [IoSliceMut::new(&mut text)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)
        .map_err(LaunchError::io("recvmsg(2)", "terminal"))?;
    let mut messages = received.cmsgs().map_err(LaunchError::io("recvmsg(2)", "terminal"))?;
    Ok(messages.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.into_iter().next().map(sys::adopt),
        _ => None,
    }))
}
