//! Mounts that are made before they have a place.

use std::{
    ffi::{CStr, c_uint},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::check;

/// open_tree(2) of a detached copy of what is mounted at `path`.
pub(crate) fn open_tree_clone(path: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is zero-terminated and lives during the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A detached copy of what is mounted at an open path, with the mounts below it where `recursive`.
pub(crate) fn open_tree_of(found: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let below = if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint | below;
    // SAFETY: the path is an empty, zero-terminated constant; `found` is open during the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, found.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// move_mount(2) of a detached mount to `path`.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: both strings are zero-terminated and live during the call; `mount` is open during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}

/// Arguments of mount_setattr(2).
///
/// Source: `struct mount_attr`, include/uapi/linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount that is not attached anywhere yet.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the empty path is zero-terminated; `attributes` lives during the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// fsopen(2).
pub(crate) fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `kind` is zero-terminated and lives during the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// One parameter of a file system that is being set up.
pub(crate) enum FsParameter<'a> {
    /// `key=value`.
    Text(&'a CStr, &'a CStr),
    /// `key`.
    Flag(&'a CStr),
    /// No more parameters: make the superblock.
    Create,
}

/// fsconfig(2).
pub(crate) fn fsconfig(context: BorrowedFd<'_>, parameter: &FsParameter<'_>) -> io::Result<()> {
    // Source: `enum fsconfig_command`, include/uapi/linux/mount.h.
    let (command, key, value): (c_uint, _, _) = match parameter {
        FsParameter::Flag(key) => (0, key.as_ptr(), ptr::null()),
        FsParameter::Text(key, value) => (1, key.as_ptr(), value.as_ptr()),
        FsParameter::Create => (6, ptr::null(), ptr::null()),
    };
    // SAFETY: key and value are zero-terminated strings that live during the call, or null where the command
    // has none; `context` is open during the call.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    check(result).map(drop)
}

/// fsmount(2).
pub(crate) fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: fsmount(2) takes integers; `context` is open during the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes)
    })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
