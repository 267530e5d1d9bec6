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
