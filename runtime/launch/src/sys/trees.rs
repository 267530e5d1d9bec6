//! Detached mounts: changed as a whole, and attached by descriptor; and what an open path is.

use std::{
    io,
    mem::MaybeUninit,
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
    /// With `MOUNT_ATTR_IDMAP`: a user namespace.
    pub(crate) userns_fd: u64,
}

/// Has a detached mount show the ids of a user namespace.
pub(crate) fn id_map(tree: BorrowedFd<'_>, reach: Reach, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    change(tree, reach, &Change { set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..Change::default() })
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

/// What an open path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Id of the mount that it is in.
    pub(crate) mount: u64,
    /// What stat(2) calls st_dev and st_ino.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    mode: libc::mode_t,
}

impl Identity {
    pub(crate) fn is_directory(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    pub(crate) fn is_file(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    pub(crate) fn is_link(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// statx(2) of an open path. The id of its mount came with Linux 5.8.
pub(crate) fn identity(found: BorrowedFd<'_>) -> io::Result<Identity> {
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_MNT_ID;
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty, zero-terminated constant; the kernel writes one struct statx to `answer`, which lives
    // during the call; `found` is open during the call.
    let result = unsafe {
        libc::statx(
            found.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
            mask,
            answer.as_mut_ptr(),
        )
    };
    check(result.into())?;
    // SAFETY: an all-zero struct statx is valid, and the kernel has just filled it in.
    let answer = unsafe { answer.assume_init() };
    if answer.stx_mask & mask != mask {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(Identity {
        mount: answer.stx_mnt_id,
        device: libc::makedev(answer.stx_dev_major, answer.stx_dev_minor),
        inode: answer.stx_ino,
        mode: answer.stx_mode.into(),
    })
}
