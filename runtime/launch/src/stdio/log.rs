//! Who writes a process's output down, where containerd's client wants a file or a program to have it: a process of
//! its own, child of the server as the container is, so that a full disk or a logger that sleeps holds up that one
//! container and nobody else.
//!
//! ```text
//! file://    process ══ one pipe for both outputs ══► copier ──► file        forked, no program of its own
//! binary://  process ══ a pipe for each output ═════► logger                 3 and 4; says "ready" on 5
//! ```
//! Which file and which program is said by whoever holds containerd's socket; containerd's CRI never says it.
//!
//! Invariant: neither is in the container's control group or namespaces; each ends with the end of its input, which
//! is when the last process of the container that has it is gone.

use std::{
    ffi::{CString, OsStr},
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, OpenOptionsExt as _},
        },
    },
    path::Path,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Gid, Uid, fchown},
};

use crate::{
    LaunchError,
    job::{Log, LogProgram, Ready},
    sys,
};

/// How long a logger may take until it is ready, in milliseconds.
const READY_MS: u16 = 10_000;

/// How long a logger that has said nothing may take to end, in milliseconds: then it is alive, and has left `5`.
const DYING_MS: u16 = 100;

/// Bytes copied at once: what a pipe holds.
///
/// Source: pipe(7).
const COPY_BYTES: usize = 64 << 10;

/// How long a copier waits before it tries a full disk again.
const RETRY: Duration = Duration::from_secs(1);

/// A copier or logger. Dropped, it is killed: end it by the end of its input, then [`LogProcess::leave`] it.
#[derive(Debug)]
pub struct LogProcess {
    pidfd: Option<OwnedFd>,
}

impl LogProcess {
    pub(super) fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd: Some(pidfd) }
    }

    /// Sends it a signal; nothing if it has ended.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match sys::pidfd_kill(self.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// It has ended, or is somebody else's to end.
    pub fn leave(mut self) {
        self.pidfd = None;
    }
}

/// Its pidfd: readable when it has ended.
impl AsFd for LogProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_ref().expect("only `leave` takes it, and the value with it").as_fd()
    }
}

impl Drop for LogProcess {
    fn drop(&mut self) {
        if self.pidfd.is_some()
            && let Err(error) = self.signal(libc::SIGKILL)
        {
            tracing::error!(%error, "a logger could not be killed");
        }
    }
}

/// A log that takes output.
pub(super) struct Started {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) process: LogProcess,
}

/// Starts it. Its pipes are the container's user's own, so that the process can open `/dev/stdout`.
pub(super) fn start(log: &Log, uid: u32, gid: u32) -> Result<Started, LaunchError> {
    match log {
        Log::File(path) => {
            let file = log_file(path)?;
            let (reader, writer) = pipe_of(uid, gid)?;
            let process = fork_copier(reader, file)?;
            let stderr = writer.try_clone().map_err(LaunchError::io("dup(2)", "stream"))?;
            Ok(Started { stdout: writer, stderr, process })
        }
        Log::Program(program) => start_logger(program, uid, gid),
    }
}

/// A pipe whose ends a process of that user can open by `/proc/self/fd`.
pub(super) fn pipe_of(uid: u32, gid: u32) -> Result<(OwnedFd, OwnedFd), LaunchError> {
    let (reader, writer) = io::pipe().map_err(LaunchError::io("pipe2(2)", "stream"))?;
    fchown(&writer, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(LaunchError::io("fchown(2)", "stream"))?;
    Ok((reader.into(), writer.into()))
}

/// Source of modes and flags: `createIO`, containerd cmd/containerd-shim-runc-v2/process/io.go.
fn log_file(path: &Path) -> Result<File, LaunchError> {
    let shown = path.display().to_string();
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(LaunchError::io("mkdir(2)", dir.display().to_string()))?;
    }
    // Without O_NONBLOCK the open of a FIFO without a reader would wait for one.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(LaunchError::io("open(2)", shown.clone()))?;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_APPEND))
        .map_err(LaunchError::io("fcntl(2)", shown))?;
    Ok(file)
}

fn fork_copier(reader: OwnedFd, file: File) -> Result<LogProcess, LaunchError> {
    match sys::clone_sibling_with_pidfd().map_err(LaunchError::io("clone(2)", "copier"))? {
        Some(pidfd) => Ok(LogProcess::new(pidfd)),
        None => {
            sys::set_name(c"bulkhead-copier");
            let code = match sys::arrange(&[reader.as_fd(), file.as_fd()]) {
                Ok(()) => {
                    copy(File::from(sys::adopt(0)), File::from(sys::adopt(1)));
                    0
                }
                Err(_) => 1,
            };
            sys::exit_now(code)
        }
    }
}

/// Until the end of the input. What cannot be written is tried again and nothing is dropped: a full disk holds the
/// container up, as a reader that stops reading its FIFO would.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => std::thread::sleep(RETRY),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }
}

fn start_logger(program: &LogProgram, uid: u32, gid: u32) -> Result<Started, LaunchError> {
    let LogProgram { path, args, id, namespace, ready } = program;
    let shown = path.display().to_string();
    let text = |bytes: &OsStr| {
        CString::new(bytes.as_bytes())
            .map_err(|_| LaunchError::Failed(format!("logger {shown}: a zero byte")))
    };
    let path = text(path.as_os_str())?;
    let mut argv = vec![path.clone()];
    for arg in args {
        argv.push(text(OsStr::new(arg))?);
    }
    let envp = [
        text(OsStr::new(&format!("CONTAINER_ID={id}")))?,
        text(OsStr::new(&format!("CONTAINER_NAMESPACE={namespace}")))?,
    ];
    let null = super::null()?;
    let (stdout_reader, stdout) = pipe_of(uid, gid)?;
    let (stderr_reader, stderr) = pipe_of(uid, gid)?;
    let (ready_reader, ready_writer) = io::pipe().map_err(LaunchError::io("pipe2(2)", "logger"))?;
    let (failed_reader, failed_writer) = io::pipe().map_err(LaunchError::io("pipe2(2)", "logger"))?;
    let process = match sys::clone_sibling_with_pidfd().map_err(LaunchError::io("clone(2)", "logger"))? {
        Some(pidfd) => LogProcess::new(pidfd),
        None => {
            let fds = [
                null.as_fd(),
                null.as_fd(),
                null.as_fd(),
                stdout_reader.as_fd(),
                stderr_reader.as_fd(),
                ready_writer.as_fd(),
                failed_writer.as_fd(),
            ];
            if sys::arrange(&fds).and_then(|()| sys::close_on_exec_from(6)).is_ok() {
                let error = sys::execve(&path, &argv, &envp);
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                // Nobody is left to tell if this fails: the end of the pipe says as much.
                File::from(sys::adopt(6)).write_all(&errno.to_ne_bytes()).unwrap_or_default();
            }
            sys::exit_now(127)
        }
    };
    drop((stdout_reader, stderr_reader, ready_writer, failed_writer));

    let mut errno = [0; 4];
    if File::from(OwnedFd::from(failed_reader)).read_exact(&mut errno).is_ok() {
        let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
        return Err(LaunchError::io("execve(2)", format!("logger {shown}"))(error));
    }
    wait_ready(&shown, ready_reader.into(), &process, *ready)?;
    Ok(Started { stdout, stderr, process })
}

/// A logger is ready when it writes to 5; an old one says so by closing it, which its death does too.
///
/// Source: `Run` and `NewBinaryIO`, containerd core/runtime/v2/logging and cmd/containerd-shim-runc-v2/process/io.go.
fn wait_ready(shown: &str, from: OwnedFd, process: &LogProcess, ready: Ready) -> Result<(), LaunchError> {
    if !readable(from.as_fd(), READY_MS)? {
        return Err(LaunchError::Failed(format!(
            "logger {shown} is not ready after {READY_MS} ms: it must write a byte to descriptor 5, or close it"
        )));
    }
    let said = File::from(from).read(&mut [0; 1]).map_err(LaunchError::io("read(2)", "logger"))?;
    match (said, ready) {
        (1.., _) => Ok(()),
        (0, Ready::Said) => Err(LaunchError::Failed(format!(
            "logger {shown} closed descriptor 5 and wrote nothing to it: it is not ready (or has died)"
        ))),
        // Most loggers are alive: they are asked last, and wait for it.
        (0, Ready::SaidOrClosed) if is_exiting(process)? => {
            Err(LaunchError::Failed(format!("logger {shown} ended before it was ready")))
        }
        (0, Ready::SaidOrClosed) => Ok(()),
    }
}

/// Whether the process is on its way to its end: its descriptors are closed then, a moment before its pidfd says so.
fn is_exiting(process: &LogProcess) -> Result<bool, LaunchError> {
    /// Source: include/linux/sched.h.
    const PF_EXITING: u64 = 0x4;
    let pid = sys::pid_of(process.as_fd()).map_err(LaunchError::io("read(2)", "fdinfo of the logger"))?;
    let Some(pid) = pid else { return Ok(true) };
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(true) };
    // Flags are the seventh after the name, which is in parentheses and may hold anything: proc_pid_stat(5).
    let flags: Option<u64> = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(6))
        .and_then(|text| text.parse().ok());
    match flags {
        Some(flags) if flags & PF_EXITING == 0 => Ok(false),
        _ => readable(process.as_fd(), DYING_MS),
    }
}

fn readable(fd: BorrowedFd<'_>, at_most_ms: u16) -> Result<bool, LaunchError> {
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(at_most_ms)) {
            Ok(count) => return Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(LaunchError::io("poll(2)", "logger")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Full at first.
    struct Full(Vec<u8>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 > 0 {
                self.1 -= 1;
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let count = bytes.len().min(3);
            self.0.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn full_disk_delays_output_and_loses_none() {
        let mut to = Full(Vec::new(), 1);
        copy(&b"some output"[..], &mut to);
        assert_eq!(to.0, b"some output");
    }

    #[test]
    fn log_file_is_appended_to_and_made_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/log");
        log_file(&path).unwrap().write_all(b"one ").unwrap();
        log_file(&path).unwrap().write_all(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one two");
    }
}
