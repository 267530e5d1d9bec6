//! The system calls of the server that nix does not offer safely.

use std::io;

/// Which side of a fork(2) this process is.
pub(crate) enum Forked {
    /// The old process.
    Parent,
    /// The new one.
    Child,
}

/// Forks while this process has no other thread.
pub(crate) fn fork() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("fork(2) with {threads} threads")));
    }
    // SAFETY: fork(2) is unsafe where other threads may hold locks that the child then finds locked for ever.
    // The check above shows that this process has one thread, so parent and child are both in a sound state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Closes every descriptor but the three standard streams.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: close_range(2) takes three integers. It is called first thing in `start`, before this process has
    // opened anything, so no descriptor that Rust owns is closed behind its back.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes this process the one to which orphaned descendants are given.
pub(crate) fn set_child_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and touches no memory of ours.
    let answer = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has tokio watch a file.
pub(crate) fn watch(
    file: std::fs::File,
    interest: tokio::io::Interest,
) -> io::Result<tokio::io::unix::AsyncFd<std::fs::File>> {
    // SAFETY: the descriptor must stay the same and open for as long as it is registered. A `File` owns one
    // descriptor, never changes it, and is given away whole here; `AsyncFd` deregisters it before it drops it.
    let watched = unsafe { tokio::io::unix::AsyncFd::register_with_interest(file, interest) };
    Ok(watched?)
}

/// How many bytes are in a pipe and not read yet; asked at either end.
pub(crate) fn unread_bytes(pipe: impl std::os::fd::AsFd) -> io::Result<i32> {
    use std::os::fd::AsRawFd;

    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to `count`, which lives until after the call; the descriptor is borrowed.
    let answer = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(count) }
}

/// Sets the size of a terminal, in characters.
pub(crate) fn set_window_size(terminal: impl std::os::fd::AsFd, columns: u16, rows: u16) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd();
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives until after the call; `fd` is borrowed, so it is open.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal through a pidfd: it reaches that process or none, whatever became of its number.
pub(crate) fn send_signal(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // SAFETY: pidfd_send_signal(2) takes a descriptor, which is borrowed and so open, a number, a null siginfo
    // (the kernel fills in its own) and flags 0. It touches no memory of ours.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal to a process that was just read from a control group. One that has ended is left alone.
pub(crate) fn send_signal_to(pid: u32, signal: i32) -> io::Result<()> {
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let sent = match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
            send_signal(pidfd.as_fd(), signal)
        }
        _ => Err(io::Error::last_os_error()),
    };
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// Reaps one child that has ended, if there is one: its pid, and its exit code or 128 and the signal's number.
///
/// Not nix's `waitid`: it reaps a process killed by a real-time signal and then fails to say so.
pub(crate) fn reap() -> Option<(u32, u32)> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid(2) writes one int to `status`, which lives until after the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let code = if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            };
            return Some((pid.cast_unsigned(), code.cast_unsigned()));
        }
        if pid == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// What a listener of denied calls has.
pub(crate) enum Told {
    /// A call that waits.
    Call,
    /// None now.
    Nothing,
    /// No process any more.
    Gone,
}

/// `SECCOMP_IOCTL_NOTIF_RECV`. Source: include/uapi/linux/seccomp.h, as are the next.
const NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
/// `SECCOMP_IOCTL_NOTIF_SEND`.
const NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;

/// Whether a call waits at a listener: to receive where none does would block.
pub(crate) fn told_ready(listener: impl std::os::fd::AsFd) -> io::Result<Told> {
    use std::os::fd::AsRawFd;

    let fd = listener.as_fd().as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: poll(2) reads and writes one `pollfd`, which lives until after the call.
    if unsafe { libc::poll(&raw mut poll, 1, 0) } == -1 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(Told::Nothing) } else { Err(error) };
    }
    Ok(told(poll.revents))
}

/// POLLERR is no end: the kernel says it when a signal came while another held the listener's lock.
///
/// Source: `seccomp_notify_poll`, kernel/seccomp.c.
fn told(events: libc::c_short) -> Told {
    match events {
        events if events & libc::POLLIN != 0 => Told::Call,
        events if events & libc::POLLHUP != 0 => Told::Gone,
        _ => Told::Nothing,
    }
}

/// Receives a call: its id, who makes it, and what it is. None: whoever made it is gone, or a
/// signal came; to be polled again, since to receive where none waits would block.
pub(crate) fn told_receive(
    listener: impl std::os::fd::AsFd,
) -> io::Result<Option<(u64, u32, bulkhead_profiles::Call)>> {
    use std::os::fd::AsRawFd;

    // SAFETY: all of its fields are integers, for which zero is a value; the kernel demands zeroes.
    let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the ioctl writes one `seccomp_notif` (its number says 80 bytes), which lives until after the call.
    let answer = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), NOTIF_RECV, &raw mut told) };
    if answer == -1 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    let libc::seccomp_data { nr, arch, instruction_pointer: _, args } = told.data;
    Ok(Some((told.id, told.pid, bulkhead_profiles::Call { arch, number: nr.cast_unsigned(), args })))
}

/// Answers a call with an errno. Whoever made it may be gone.
pub(crate) fn told_answer(listener: impl std::os::fd::AsFd, id: u64, errno: u16) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let told = libc::seccomp_notif_resp { id, val: 0, error: -i32::from(errno), flags: 0 };
    loop {
        // SAFETY: the ioctl reads one `seccomp_notif_resp` (its number says 24 bytes), which lives until after the call.
        let answer = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), NOTIF_SEND, &raw const told) };
        match io::Error::last_os_error() {
            _ if answer != -1 => return Ok(()),
            error if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            // A signal came while another held the listener's lock: the call still waits.
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_with_an_error_goes_on_and_one_that_hung_up_is_gone() {
        assert!(matches!(told(libc::POLLERR), Told::Nothing));
        assert!(matches!(told(libc::POLLERR | libc::POLLIN), Told::Call));
        assert!(matches!(told(libc::POLLHUP), Told::Gone));
        assert!(matches!(told(libc::POLLHUP | libc::POLLIN), Told::Call));
        assert!(matches!(told(0), Told::Nothing));
    }
}
