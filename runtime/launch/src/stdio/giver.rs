//! Gives a new terminal to its user before that user's program runs.
//!
//! ```text
//! worker ─clone─► giver ◄──── the terminal ──── process, at its gate: the user's already, without capabilities
//!                   └ fchown(2) ─── done ─────► process ─► execve(2)
//! ```
//! libcontainer makes the terminal as root, sets the ids, and returns to the worker after the execve(2) of an exec: the
//! worker would come too late, and `/dev/stdout` opened anew meanwhile would be EACCES.
//!
//! Invariant: it changes the owner of one terminal of a devpts, once, and ends; or at the end of those who could ask.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    sys::{
        socket::MsgFlags,
        stat::{SFlag, fstat, major},
        statfs::{DEVPTS_SUPER_MAGIC, fstatfs},
    },
    unistd::{Gid, Uid, fchown},
};

use super::console::receive_fd;
use crate::{
    LaunchError, message,
    sys::{self, Forked},
    zygote::die_with,
};

/// What it answers when it is done; anything else says what failed.
const DONE: &[u8] = b"done";

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256;

/// Majors of a terminal's end that a process gets.
///
/// Source: Documentation/admin-guide/devices.txt, "Unix98 PTY slaves".
const SLAVES: std::ops::RangeInclusive<u64> = 136..=143;

/// The way to a giver.
#[derive(Debug)]
pub(crate) struct Giver {
    socket: UnixStream,
}

impl Giver {
    /// Starts one for that user. Outside of the container's control group: to be called before it is entered.
    pub(super) fn start(uid: u32, server: u32) -> Result<Self, LaunchError> {
        let (socket, far) = UnixStream::pair().map_err(LaunchError::io("socketpair(2)", "terminal"))?;
        match sys::clone_sibling().map_err(LaunchError::io("clone(2)", "giver of a terminal"))? {
            Forked::Parent(_) => Ok(Self { socket }),
            Forked::Child => sys::exit_now(match serve(far, uid, server) {
                Ok(()) => 0,
                Err(_) => 1,
            }),
        }
    }

    /// Has the terminal that is this process's standard input made its user's.
    pub(crate) fn give(&self) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("the terminal is not its user's: {error}");
        message::send(self.socket.as_fd(), b"t", &[io::stdin().as_fd()]).map_err(|error| failed(&error))?;
        let mut answer = Vec::new();
        let mut socket = (&self.socket).take(ANSWER_BYTES_MAX);
        socket.read_to_end(&mut answer).map_err(|error| failed(&error))?;
        if answer == DONE {
            return Ok(());
        }
        Err(failed(&String::from_utf8_lossy(&answer)))
    }
}

/// A giver's life.
fn serve(socket: UnixStream, uid: u32, server: u32) -> Result<(), LaunchError> {
    sys::set_name(c"bulkhead-giver");
    die_with(server)?;
    // Above all the reply socket, whose end tells the server that a process runs.
    sys::arrange(&[socket.as_fd()]).map_err(LaunchError::io("close_range(2)", "giver of a terminal"))?;
    std::mem::forget(socket);
    let mut socket = UnixStream::from(sys::adopt(0));
    let Some(terminal) = receive_fd(&socket, MsgFlags::empty())? else { return Ok(()) };
    let answer = match give(&terminal, uid) {
        Ok(()) => DONE.to_vec(),
        Err(error) => error.to_string().into_bytes(),
    };
    socket.write_all(&answer).map_err(LaunchError::io("write(2)", "terminal"))
}

fn give(terminal: &OwnedFd, uid: u32) -> io::Result<()> {
    if !is_terminal_of_devpts(terminal)? {
        return Err(io::Error::other("it is no terminal of a devpts"));
    }
    Ok(fchown(terminal, Some(Uid::from_raw(uid)), None::<Gid>)?)
}

fn is_terminal_of_devpts(fd: &OwnedFd) -> nix::Result<bool> {
    let found = fstat(fd)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFCHR
        && SLAVES.contains(&major(found.st_rdev))
        && fstatfs(fd)?.filesystem_type() == DEVPTS_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn terminal_becomes_the_user_s_and_nothing_else_does() {
        let pair = nix::pty::openpty(None, None).unwrap();
        assert!(is_terminal_of_devpts(&pair.slave).unwrap());
        give(&pair.slave, 65532).unwrap();
        assert_eq!(std::fs::File::from(pair.slave).metadata().unwrap().uid(), 65532);
        let file = tempfile::tempfile().unwrap();
        let before = file.metadata().unwrap().uid();
        for other in
            [pair.master, std::fs::File::open("/dev/null").unwrap().into(), file.try_clone().unwrap().into()]
        {
            assert!(give(&other, 65532).is_err());
        }
        assert_eq!(file.metadata().unwrap().uid(), before);
    }
}
