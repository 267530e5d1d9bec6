//! The ends of a terminal.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::{adopt, check};

/// The end that a process gets, of the master that is given: without a path, whatever namespaces both are in.
pub(crate) fn slave_of(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags, and touches no memory of ours; the descriptor is borrowed, so it is open.
    let fd = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    i32::try_from(fd).map(adopt).map_err(io::Error::other)
}

/// Lets the other end of a master be opened.
pub(crate) fn unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives during the call; the descriptor is borrowed, so it is open.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) }.into()).map(drop)
}

/// Makes a terminal that of this process's session, which has none and which it leads.
pub(crate) fn take(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer, 0: no terminal is taken from another session. The descriptor is borrowed.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}
