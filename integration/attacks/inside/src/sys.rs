//! System calls by number: the kernel is asked, not a C library that may choose another call.

use std::{
    fs::File,
    io,
    os::{
        fd::FromRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
};

use crate::Stop;

/// Makes system call `number`; what it returns, or that `name` was stopped by its errno.
///
/// Pointers go in as integers. This program attacks: a wrong one would harm nobody but itself.
pub(crate) fn call(name: &str, number: libc::c_long, arguments: [i64; 6]) -> Result<i64, Stop> {
    raw(number, arguments).map_err(Stop::at(name))
}

/// As [`call`], with the plain error.
pub(crate) fn raw(number: libc::c_long, a: [i64; 6]) -> io::Result<i64> {
    // SAFETY: every pointer among the arguments is to a C string or a local of the caller that lives through the call,
    // with the size that its call asks for; the kernel answers EFAULT for what is none.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The file of a descriptor that a call has just made.
pub(crate) fn owned(fd: i64) -> File {
    // SAFETY: `fd` is the result of a system call that opened it, and nothing else owns it.
    unsafe { File::from_raw_fd(fd as i32) }
}

/// fork(2); this program has one thread. The child leads a process group.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: no other thread exists that could hold a lock.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: takes two integers.
            unsafe { libc::setpgid(0, 0) };
            Ok(0)
        }
        child => Ok(child),
    }
}

/// The wait status of a child that has ended.
pub(crate) fn try_wait(child: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is a local of the size that the call writes.
    let found = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
    (found == child).then_some(status)
}

/// Waits for a child's end; its wait status.
pub(crate) fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: as in [`try_wait`].
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status
}

/// Kills a child and its process group.
pub(crate) fn kill_group(child: i32) {
    // SAFETY: both calls take integers.
    unsafe {
        libc::kill(-child, libc::SIGKILL);
        libc::kill(child, libc::SIGKILL);
    }
    wait(child);
}

/// A child that sleeps, for others to reach into.
pub(crate) fn sleeper() -> io::Result<i32> {
    let child = fork()?;
    if child == 0 {
        pause();
    }
    Ok(child)
}

/// Connects to a unix socket; `@name` is an abstract one.
pub(crate) fn connect(address: &str) -> io::Result<UnixStream> {
    match address.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(address),
    }
}

/// Makes a FIFO that anyone may use.
pub(crate) fn fifo(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: `path` is a C string that lives through the call.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o666) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The effective uid.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Leaves the process group that it leads: setsid(2) wants that.
pub(crate) fn leave_group() {
    // SAFETY: both take or give integers.
    unsafe { libc::setpgid(0, libc::getpgid(libc::getppid())) };
}

/// socket(2); `what` is named where the kernel has no such thing.
pub(crate) fn socket(what: &str, family: i32, kind: i32, protocol: i32) -> Result<i64, Stop> {
    let arguments = [i64::from(family), i64::from(kind), i64::from(protocol), 0, 0, 0];
    raw(libc::SYS_socket, arguments).map_err(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT) => {
            Stop::absent(what, &error)
        }
        _ => Stop::at("socket")(error),
    })
}

/// Opens a file of the kernel and writes nothing: it would act on the host.
pub(crate) fn open_for_writing(path: &str) -> Result<File, Stop> {
    File::options().write(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Stop::absent(path, &error),
        _ => Stop::at(path)(error),
    })
}

/// Unshares the user namespace with `more`, and becomes root in it.
pub(crate) fn become_root_in_a_user_namespace(more: i32) -> Result<(), Stop> {
    // SAFETY: both take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    call("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER | more), 0, 0, 0, 0, 0])?;
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(path, text).map_err(Stop::at(path))?;
    }
    Ok(())
}

/// A 32-bit system call without arguments, from this 64-bit program; its result or negative errno.
pub(crate) fn int80(number: i32) -> i32 {
    let result: i32;
    // SAFETY: the call takes no arguments; the kernel keeps every register but eax and, on older kernels, r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") number => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

/// Ends the process without running anything more.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Sleeps until SIGTERM or SIGINT; as PID 1 a signal without a handler is ignored.
pub(crate) fn pause() -> ! {
    extern "C" fn end(_: i32) {
        exit(0);
    }
    for number in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler makes one async-signal-safe call and never returns.
        unsafe { libc::signal(number, end as *const () as usize) };
    }
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// The name of an errno.
pub(crate) fn errno_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM",
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::ESRCH) => "ESRCH",
        Some(libc::EIO) => "EIO",
        Some(libc::ENXIO) => "ENXIO",
        Some(libc::ENOEXEC) => "ENOEXEC",
        Some(libc::EBADF) => "EBADF",
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::ENOMEM) => "ENOMEM",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EFAULT) => "EFAULT",
        Some(libc::EBUSY) => "EBUSY",
        Some(libc::EEXIST) => "EEXIST",
        Some(libc::ENODEV) => "ENODEV",
        Some(libc::ENOTDIR) => "ENOTDIR",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ENOTTY) => "ENOTTY",
        Some(libc::ETXTBSY) => "ETXTBSY",
        Some(libc::ENOSPC) => "ENOSPC",
        Some(libc::EROFS) => "EROFS",
        Some(libc::ENOSYS) => "ENOSYS",
        Some(libc::ELOOP) => "ELOOP",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        Some(libc::EPROTONOSUPPORT) => "EPROTONOSUPPORT",
        Some(libc::EAFNOSUPPORT) => "EAFNOSUPPORT",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        _ => return error.to_string(),
    };
    name.to_owned()
}
