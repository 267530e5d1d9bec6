//! The raw system calls of this crate, and nothing else.

use std::{
    ffi::{CStr, CString, c_int, c_uint, c_ulong},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

pub(crate) mod keys;
mod mounts;
pub(crate) mod terminal;
pub(crate) mod trees;

pub(crate) use mounts::{
    FsParameter, fsconfig, fsmount, fsopen, move_mount, open_tree_clone, open_tree_of, set_mount_attributes,
};

/// A process that was forked: where we are now.
pub(crate) enum Forked {
    /// In the caller; the child's pid.
    Parent(u32),
    /// In the child.
    Child,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// fork(2) of a process without threads.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: fork(2) takes nothing. The caller has no other thread (Zygote::fork asks the kernel first), so
    // no lock of another thread can be held for ever in the child.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// clone(2) of a sibling: the child's parent is the caller's parent.
pub(crate) fn clone_sibling() -> io::Result<Forked> {
    // SAFETY: with CLONE_PARENT alone and no stack the child goes on on a copy of this one, as after fork(2);
    // the null pointers are for flags that are not set. This process has no other thread. The exit signal
    // is inherited (SIGCHLD), as CLONE_PARENT demands.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_PARENT as c_ulong,
            ptr::null::<u8>(),
            0usize,
            0usize,
            0usize,
        )
    };
    match check(pid)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// clone(2) of a child in a user namespace of its own.
pub(crate) fn clone_into_user_namespace() -> io::Result<Forked> {
    let flags = c_ulong::from(libc::CLONE_NEWUSER.cast_unsigned() | libc::SIGCHLD.cast_unsigned());
    // SAFETY: without a stack the child goes on on a copy of this one, as after fork(2); the null pointers are for flags
    // that are not set. This process has no other thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, ptr::null::<u8>(), 0usize, 0usize, 0usize) };
    match check(pid)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// The user namespace that a namespace belongs to.
///
/// Source: ioctl_ns(2), `NS_GET_USERNS`.
pub(crate) fn owner_of_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: c_ulong = 0xb701;
    // SAFETY: the request takes no argument; `namespace` is open during the call.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) }.into())?;
    // SAFETY: the kernel has just opened it for this caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The same, with the child's pidfd for the caller: its parent may have reaped it before it could be opened by number.
pub(crate) fn clone_sibling_with_pidfd() -> io::Result<Option<OwnedFd>> {
    let mut pidfd: c_int = -1;
    // SAFETY: as in `clone_sibling`; with CLONE_PIDFD the kernel writes one int to the third argument, in the caller
    // alone, and `pidfd` outlives the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            (libc::CLONE_PARENT | libc::CLONE_PIDFD) as c_ulong,
            ptr::null::<u8>(),
            &raw mut pidfd,
            0usize,
            0usize,
        )
    };
    match check(pid)? {
        0 => Ok(None),
        _ => Ok(Some(adopt(pidfd))),
    }
}

/// Arguments of clone3(2), as far as CLONE_INTO_CGROUP (Linux 5.7).
///
/// Source: `struct clone_args`, include/uapi/linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) of a sibling that is in a control group of version 2 from its first instruction on.
pub(crate) fn clone_sibling_into(cgroup: BorrowedFd<'_>) -> io::Result<Forked> {
    /// Source: include/uapi/linux/sched.h.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = CloneArgs {
        flags: libc::CLONE_PARENT as u64 | CLONE_INTO_CGROUP,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: clone3(2) reads `arguments`, whose size is passed with it; no stack is given, so the child goes
    // on on a copy of this one. This process has no other thread; `cgroup` is open during the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    match check(pid)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// _exit(2): no destructor, no buffer of the parent's is flushed twice.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory. Whoever calls it (the zygote, right after fork, before it
    // wraps any descriptor) owns none of those that are closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, c_uint::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by execve(2).
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC sets a flag on descriptors; it closes none and touches
    // no memory.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first as c_uint, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    check(result).map(drop)
}

/// Moves a descriptor to `number`, closing what was there; without the close-on-exec flag.
pub(crate) fn move_fd(from: OwnedFd, number: RawFd) -> io::Result<()> {
    if from.as_raw_fd() == number {
        // SAFETY: F_SETFD takes an integer; the descriptor is open.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into())?;
        std::mem::forget(from);
        return Ok(());
    }
    // SAFETY: dup2(2) takes two integers. `number` is one of the standard streams or the zygote's own slot,
    // which no other value of this process owns.
    check(unsafe { libc::dup2(from.as_raw_fd(), number) }.into()).map(drop)
}

/// Takes ownership of a descriptor that this process was given by number.
pub(crate) fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: called once for each number, right after `move_fd` put the descriptor there.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Leaves this process these descriptors, from 0 on in their order, and no other.
///
/// To be called in a new process that ends without running a destructor: what it owned by number is gone.
pub(crate) fn arrange(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    // Out of the way first: one may be where another is to go.
    let beyond = c_int::try_from(fds.len()).map_err(io::Error::other)?;
    let mut aside = Vec::with_capacity(fds.len());
    for fd in fds {
        // SAFETY: F_DUPFD takes an integer and makes a new descriptor; `fd` is open.
        aside.push(check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, beyond) }.into())?);
    }
    for (number, fd) in (0..).zip(aside) {
        // SAFETY: dup2(2) takes two integers. Whoever calls this owns nothing below `beyond` any more.
        check(unsafe { libc::dup2(fd as RawFd, number) }.into())?;
    }
    close_from(beyond)
}

/// The process that a pidfd stands for, in this pid namespace; none when it is gone.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    Ok(pid.and_then(|pid| pid.parse().ok()))
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: pidfd_send_signal(2) with a null siginfo reads no memory of ours; `pidfd` is open during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result).map(drop)
}

/// prctl(2) options that take one integer.
pub(crate) fn prctl(option: c_int, value: c_ulong) -> io::Result<()> {
    // SAFETY: only used with options whose argument is an integer (PR_SET_PDEATHSIG, PR_SET_DUMPABLE).
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into()).map(drop)
}

/// sethostname(2).
pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: sethostname(2) reads as many bytes as it is told, which `name` has.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// setdomainname(2).
pub(crate) fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: as for sethostname(2).
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Names this process, as ps(1) shows it.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: PR_SET_NAME reads at most 16 bytes up to the terminating zero, which `name` has. It cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Gives every signal its default disposition and blocks none: execve(2) keeps both, and Rust's runtime
/// ignores SIGPIPE.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: signal(2) with SIG_DFL installs no code. SIGKILL, SIGSTOP and the two that the C library
        // keeps for itself answer EINVAL, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is a valid value; sigemptyset(3) makes it the empty set.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is ours for the whole of both calls; the old set is not asked for.
    check(
        unsafe {
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut())
        }
        .into(),
    )
    .map(drop)
}

/// Empties the environment. libcontainer reads LISTEN_FDS of it and would leave as many descriptors open.
pub(crate) fn clear_environment() -> io::Result<()> {
    // SAFETY: clearenv(3) frees nothing that others hold; this process has one thread, and no reference into
    // the environment outlives the call that made it.
    check(unsafe { libc::clearenv() }.into()).map(drop)
}

/// execve(2). Returns only to say why it failed.
pub(crate) fn execve(program: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: all three point to zero-terminated strings that live until the call returns; both lists end
    // with a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// execveat(2) of an open executable. Returns only to say why it failed.
pub(crate) fn execveat(program: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: the path is an empty, zero-terminated constant; both lists hold zero-terminated strings that live until
    // the call returns, and end with a null pointer; `program` is open during the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks a descriptor to be closed by execve(2).
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer; `fd` is open during the call.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }.into()).map(drop)
}

/// Sets IFF_UP on the interface of that name in the network namespace of `socket`.
pub(crate) fn interface_up(socket: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: an all-zero ifreq is valid: it holds integers and bytes alone.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS reads ifr_name and writes ifru_flags of the ifreq, which lives during the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }.into())?;
    // SAFETY: the kernel has just filled this member of the union in, and every bit pattern is a valid short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads ifr_name and ifru_flags of the ifreq, which lives during the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// setxattr(2) of a whole attribute.
pub(crate) fn set_attribute(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are zero-terminated; `value` is as long as is said; all live until the call returns.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}
