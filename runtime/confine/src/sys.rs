//! System calls that no crate here wraps.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd},
    ptr,
};

/// Asks for the version instead of a ruleset. Source: `LANDLOCK_CREATE_RULESET_VERSION`, include/uapi/linux/landlock.h.
const RULESET_VERSION: libc::c_uint = 1;

/// landlock_create_ruleset(2) with the flag that asks for the ABI: 1 and up.
pub(crate) fn landlock_version() -> io::Result<i64> {
    // SAFETY: with this flag the kernel takes a null pointer and size 0, and touches no memory of ours.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            RULESET_VERSION,
        )
    };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// seccomp(2): loads `program` for this thread with `SECCOMP_FILTER_FLAG_*`. Unlike seccompiler's own loader it does
/// not set no_new_privs: without that the kernel demands CAP_SYS_ADMIN.
pub(crate) fn seccomp_set_filter(program: &[seccompiler::sock_filter], flags: u32) -> io::Result<()> {
    seccomp_filter(program, flags).map(drop)
}

/// The same with a listener: a close-on-exec descriptor on which calls that the program tells can be received.
pub(crate) fn seccomp_listen(program: &[seccompiler::sock_filter]) -> io::Result<OwnedFd> {
    let flags = u32::try_from(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap_or_default();
    let fd = i32::try_from(seccomp_filter(program, flags)?).map_err(io::Error::other)?;
    // SAFETY: with this flag the kernel answers with a descriptor that it has just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seccomp_filter(program: &[seccompiler::sock_filter], flags: u32) -> io::Result<libc::c_long> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // `struct sock_fprog`, include/uapi/linux/filter.h; seccompiler's sock_filter is that of the kernel.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel reads `program` and the `len` instructions it points to, all of which live during the call,
    // and writes to neither.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if done >= 0 { Ok(done) } else { Err(io::Error::last_os_error()) }
}

/// What statx(2) says of an open file.
pub(crate) struct Node {
    pub(crate) directory: bool,
    pub(crate) character_device: bool,
    /// The root of a mount.
    pub(crate) mount_root: bool,
    /// How many names it has.
    pub(crate) links: u32,
    /// What stat(2) calls st_dev and st_ino: which file it is.
    pub(crate) id: (u64, u64),
}

/// statx(2) on an open file, O_PATH ones too.
pub(crate) fn node(fd: impl AsFd) -> io::Result<Node> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_NLINK;
    // SAFETY: the path is an empty C string, so that AT_EMPTY_PATH makes the call about `fd`, which stays open
    // because AsFd borrows it; `found` is writable and as large as the kernel writes.
    let done = unsafe {
        libc::statx(fd.as_fd().as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, found.as_mut_ptr())
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the memory was zeroed, zeros are a valid struct statx, and the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    let mount_root = libc::STATX_ATTR_MOUNT_ROOT as u64;
    if found.stx_mask & mask != mask || found.stx_attributes_mask & mount_root == 0 {
        // Linux 5.8 and later say it for every file system; Landlock is 5.13.
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(Node {
        directory: u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
        character_device: u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFCHR,
        mount_root: found.stx_attributes & mount_root != 0,
        links: found.stx_nlink,
        id: (libc::makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino),
    })
}
