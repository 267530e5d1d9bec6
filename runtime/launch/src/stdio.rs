//! Standard streams on their way to libcontainer: pipes made the container's user's own, or a new terminal.

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::FileTypeExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use libcontainer::container::builder::ContainerBuilder;
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
    unistd::{Gid, Uid, fchown},
};

use crate::{LaunchError, sys, wire::Streams};

/// Standard streams, ready for libcontainer.
pub(crate) enum Stdio {
    Streams([OwnedFd; 3]),
    Terminal,
}

impl Stdio {
    pub(crate) fn new(
        which: Streams,
        mut fds: impl Iterator<Item = OwnedFd>,
        uid: u32,
    ) -> Result<Self, LaunchError> {
        let Streams::Fds { stdin, stdout, stderr } = which else { return Ok(Self::Terminal) };
        let mut stream = |given: bool| -> Result<OwnedFd, LaunchError> {
            let fd = match given {
                true => fds.next().ok_or(LaunchError::Plan("a stream is missing"))?,
                false => return null(),
            };
            give_pipe_to(&fd, uid)?;
            Ok(fd)
        };
        Ok(Self::Streams([stream(stdin)?, stream(stdout)?, stream(stderr)?]))
    }

    /// Hands the streams over, or a socket on which the terminal will come back.
    pub(crate) fn give_to(
        self,
        builder: ContainerBuilder,
        dir: &Path,
    ) -> Result<(ContainerBuilder, Option<Console>), LaunchError> {
        match self {
            Self::Streams([stdin, stdout, stderr]) => {
                Ok((builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr), None))
            }
            Self::Terminal => {
                let console = Console::listen(dir)?;
                Ok((builder.with_console_socket(Some(dir.join(Console::NAME))), Some(console)))
            }
        }
    }
}

fn null() -> Result<OwnedFd, LaunchError> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(LaunchError::io("open(2)", "/dev/null"))
}

/// A process can reopen its /dev/stdout only if the pipe is its own.
fn give_pipe_to(fd: &OwnedFd, uid: u32) -> Result<(), LaunchError> {
    let file = fs::File::from(fd.try_clone().map_err(LaunchError::io("dup(2)", "stream"))?);
    let kind = file.metadata().map_err(LaunchError::io("fstat(2)", "stream"))?.file_type();
    if kind.is_fifo() {
        fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>).map_err(LaunchError::io("fchown(2)", "stream"))?;
    }
    Ok(())
}

/// The socket to which libcontainer sends the master of a new terminal.
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    const NAME: &'static str = "console.sock";

    /// Bound by its short name: a path may be longer than an address. The worker's directory is nobody else's.
    fn listen(dir: &Path) -> Result<Self, LaunchError> {
        std::env::set_current_dir(dir).map_err(LaunchError::io("chdir(2)", dir.display().to_string()))?;
        let listener = UnixListener::bind(Self::NAME).map_err(LaunchError::io("bind(2)", Self::NAME))?;
        std::env::set_current_dir("/").map_err(LaunchError::io("chdir(2)", "/"))?;
        Ok(Self { listener, path: dir.join(Self::NAME) })
    }

    /// The master that arrived; its other end made the container's user's.
    pub(crate) fn master(self, uid: u32) -> Result<OwnedFd, LaunchError> {
        fs::remove_file(&self.path).map_err(LaunchError::io("unlink(2)", self.path.display().to_string()))?;
        self.listener.set_nonblocking(true).map_err(LaunchError::io("fcntl(2)", Self::NAME))?;
        let (socket, _) = self.listener.accept().map_err(LaunchError::io("accept(2)", Self::NAME))?;
        let master = receive_fd(&socket)?;
        let peer = sys::terminal_peer(master.as_fd()).map_err(LaunchError::io("ioctl(2)", "TIOCGPTPEER"))?;
        fchown(&peer, Some(Uid::from_raw(uid)), None::<Gid>)
            .map_err(LaunchError::io("fchown(2)", "terminal"))?;
        Ok(master)
    }
}

fn receive_fd(socket: &UnixStream) -> Result<OwnedFd, LaunchError> {
    let mut text = [0; 64];
    let mut control = cmsg_space!([std::os::fd::RawFd; 1]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut iov = [IoSliceMut::new(&mut text)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)
        .map_err(LaunchError::io("recvmsg(2)", Console::NAME))?;
    let mut messages = received.cmsgs().map_err(LaunchError::io("recvmsg(2)", Console::NAME))?;
    messages
        .find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.into_iter().next().map(sys::adopt),
            _ => None,
        })
        .ok_or(LaunchError::Protocol("no terminal arrived"))
}
