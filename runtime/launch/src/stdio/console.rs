//! The terminal of a process: libcontainer makes it, and sends its master over a socket.

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use crate::{LaunchError, sys};

/// The socket to which libcontainer sends the master of a new terminal.
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    pub(super) const NAME: &'static str = "console.sock";

    /// Bound by its short name: a path may be longer than an address. The worker's directory is nobody else's.
    pub(super) fn listen(dir: &Path) -> Result<Self, LaunchError> {
        std::env::set_current_dir(dir).map_err(LaunchError::io("chdir(2)", dir.display().to_string()))?;
        let listener = UnixListener::bind(Self::NAME).map_err(LaunchError::io("bind(2)", Self::NAME))?;
        std::env::set_current_dir("/").map_err(LaunchError::io("chdir(2)", "/"))?;
        Ok(Self { listener, path: dir.join(Self::NAME) })
    }

    /// The master that arrived.
    pub(super) fn master(self) -> Result<OwnedFd, LaunchError> {
        fs::remove_file(&self.path).map_err(LaunchError::io("unlink(2)", self.path.display().to_string()))?;
        self.listener.set_nonblocking(true).map_err(LaunchError::io("fcntl(2)", Self::NAME))?;
        let (socket, _) = self.listener.accept().map_err(LaunchError::io("accept(2)", Self::NAME))?;
        let master = receive_fd(&socket, MsgFlags::MSG_DONTWAIT)?;
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
