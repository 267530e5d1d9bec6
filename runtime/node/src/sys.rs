//! The raw system calls of this crate: questions to the kernel that leave nothing behind.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    os::unix::process::CommandExt as _,
    process::Command,
};

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

/// Has `command` start in a user namespace of its own.
pub(crate) fn in_user_namespace(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes one system call, which takes an integer and allocates
    // nothing.
    unsafe {
        command.pre_exec(|| check(libc::unshare(libc::CLONE_NEWUSER).into()).map(drop));
    }
    command
}

/// A detached copy of the mount at a path.
///
/// Source: open_tree(2), Linux 5.2.
pub(crate) fn copy_of_mount(path: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is zero-terminated and lives during the call.
    own(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// An empty tmpfs that is mounted nowhere.
///
/// Source: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
pub(crate) fn tmpfs() -> io::Result<OwnedFd> {
    /// Source: `enum fsconfig_command`, include/uapi/linux/mount.h.
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is a zero-terminated constant.
    let context = own(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSOPEN_CLOEXEC) })?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key, value or number: null and 0; `context` is open during the call.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, nothing, nothing, 0)
    })?;
    // SAFETY: fsmount(2) takes three integers; `context` is open during the call.
    own(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

/// Gives a detached mount the owners of a user namespace.
pub(crate) fn id_map(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX),
    };
    // SAFETY: the empty path is zero-terminated; `change` has the kernel's layout, lives during the call, and its size
    // is passed with it; both descriptors are open during the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&change),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The descriptor that a call has returned.
fn own(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(check(result)?).map_err(io::Error::other)?;
    // SAFETY: the call that returned `fd` opened it, and no one else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
