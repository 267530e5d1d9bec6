//! Detached mounts: changed as a whole, and attached by descriptor.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::check;

/// What mount_setattr(2) is to change.
///
/// Source: `struct mount_attr`, include/uapi/linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0.
    pub(crate) propagation: u64,
    /// With `MOUNT_ATTR_IDMAP`, which is not built yet: a user namespace.
    pub(crate) userns_fd: u64,
}

/// Which mounts of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The topmost.
    Top,
    /// All.
    Tree,
}

/// mount_setattr(2).
pub(crate) fn change(tree: BorrowedFd<'_>, reach: Reach, change: &Change) -> io::Result<()> {
    let flags = match reach {
        Reach::Top => libc::AT_EMPTY_PATH,
        Reach::Tree => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: the empty path is zero-terminated; `change` has the kernel's layout, lives during the call, and its size
    // is passed with it; `tree` is open during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(change),
            size_of::<Change>(),
        )
    };
    check(result).map(drop)
}

/// move_mount(2) of a detached mount onto an open path.
pub(crate) fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are empty, zero-terminated constants; both descriptors are open during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}
