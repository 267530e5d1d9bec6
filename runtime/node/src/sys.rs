//! The raw system calls of this crate: questions to the kernel that change nothing.
#![allow(unsafe_code)]

use std::io;

/// The Landlock ABI of the kernel.
///
/// Source: landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`.
pub(crate) fn landlock_abi() -> io::Result<u8> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call asks for a null pointer and size 0, reads no memory and opens no descriptor.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    if abi < 0 { Err(io::Error::last_os_error()) } else { Ok(u8::try_from(abi).unwrap_or(u8::MAX)) }
}

/// Whether there is pidfd_open(2).
pub(crate) fn pidfd_open() -> io::Result<()> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was opened by the call above, and no one else knows it.
    let closed = unsafe { libc::close(fd as libc::c_int) };
    if closed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
