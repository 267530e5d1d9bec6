//! The probe's system calls, by number: it asks the kernel, not a C library that may choose another call.

use std::{fs::File, io, os::fd::FromRawFd as _};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

/// Numbers of x86-64.
///
/// Source: arch/x86/entry/syscalls/syscall_64.tbl.
pub mod nr {
    pub const CLOSE: i64 = 3;
    pub const MMAP: i64 = 9;
    pub const IOCTL: i64 = 16;
    pub const SOCKET: i64 = 41;
    pub const FORK: i64 = 57;
    pub const WAIT4: i64 = 61;
    pub const KILL: i64 = 62;
    pub const PTRACE: i64 = 101;
    pub const SETUID: i64 = 105;
    pub const GETPPID: i64 = 110;
    pub const PERSONALITY: i64 = 135;
    pub const CHROOT: i64 = 161;
    pub const MOUNT: i64 = 165;
    pub const KEYCTL: i64 = 250;
    pub const OPENAT: i64 = 257;
    pub const MKNODAT: i64 = 259;
    pub const UNSHARE: i64 = 272;
    pub const MEMFD_CREATE: i64 = 319;
    pub const BPF: i64 = 321;
    pub const USERFAULTFD: i64 = 323;
    pub const IO_URING_SETUP: i64 = 425;
}

/// Makes system call `number`; what it returns, or its errno.
pub fn call(number: i64, a: [i64; 6]) -> io::Result<i64> {
    // SAFETY: every pointer among the arguments is to a C string literal or to a local that lives through the call,
    // with the size that its call asks for; the kernel answers EFAULT for what is none.
    let result = unsafe { syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The file of a descriptor that a call has just made.
pub fn owned(fd: i64) -> File {
    // SAFETY: `fd` is the result of a system call that opened it, and nothing else owns it.
    unsafe { File::from_raw_fd(fd as i32) }
}

/// fork(2); the probe has one thread.
pub fn fork() -> io::Result<i64> {
    call(nr::FORK, [0; 6])
}

/// The exit code of a child.
pub fn wait_for(child: i64) -> io::Result<i32> {
    let mut status = 0i32;
    call(nr::WAIT4, [child, &raw mut status as i64, 0, 0, 0, 0])?;
    Ok(if status & 0x7f == 0 { (status >> 8) & 0xff } else { 254 })
}

/// Has SIGTERM (15) and SIGINT (2) end the process with 0.
pub fn exit_on_terminate() {
    extern "C" fn end(_: i32) {
        // exit_group(2)
        drop(call(231, [0; 6]));
    }
    for number in [15, 2] {
        // SAFETY: the handler makes one async-signal-safe system call and never returns.
        unsafe { signal(number, end) };
    }
}

/// The usual ones by name.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        2 => "ENOENT",
        9 => "EBADF",
        13 => "EACCES",
        14 => "EFAULT",
        17 => "EEXIST",
        22 => "EINVAL",
        25 => "ENOTTY",
        26 => "ETXTBSY",
        30 => "EROFS",
        38 => "ENOSYS",
        93 => "EPROTONOSUPPORT",
        94 => "ESOCKTNOSUPPORT",
        97 => "EAFNOSUPPORT",
        254 => "killed",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}
