//! The judge's process: two pipes and a pidfd.
//!
//! Its exit status is never needed: the last line on its stdout is the answer, EOF without one is a failure. So it does
//! not matter who reaps it, the server's own reaper or [`Process::finish`]; by pidfd, neither can hit another process
//! that got the same number. One demand remains: [`Process::spawn`] and the reaper run on the same thread, so that a
//! judge which dies at once is not reaped before its pidfd is open.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid},
};
use tokio::net::unix::pipe::{Receiver, Sender};

/// How long a killed or finished judge may take to be gone.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to sleep between two looks.
const EXIT_PAUSE: Duration = Duration::from_millis(1);

/// A running judge. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    running: Running,
    /// Its stdin.
    pub(crate) input: Sender,
    /// Its stdout.
    pub(crate) output: Receiver,
}

impl Process {
    /// Starts `program` with an empty environment, in `/`, with stderr closed off.
    pub(crate) fn spawn(program: &Path, arguments: &[OsString]) -> Result<Self, (&'static str, io::Error)> {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| ("posix_spawn(3)", error))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = pidfd.map_err(|error| ("pidfd_open(2)", error.into()))?;
        let running = Running { pidfd, pid: child.id() };
        // From here on only the pidfd is used; dropping `Child` neither waits nor kills.
        let none = || io::Error::from(io::ErrorKind::BrokenPipe);
        let wrong = |error| ("pipe", error);
        let input = child.stdin.take().ok_or_else(none).and_then(|pipe| Sender::from_owned_fd(pipe.into()));
        let output =
            child.stdout.take().ok_or_else(none).and_then(|pipe| Receiver::from_owned_fd(pipe.into()));
        Ok(Self { running, input: input.map_err(wrong)?, output: output.map_err(wrong)? })
    }

    /// Its number, for a cgroup.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid
    }

    /// Kills it if it still runs, and waits until it is gone.
    pub(crate) async fn finish(self) {
        let Self { running, input, output } = self;
        drop((input, output));
        running.kill();
        let started = Instant::now();
        while running.reap() == Gone::NotYet {
            if started.elapsed() > EXIT_TIMEOUT {
                tracing::warn!(pid = running.pid, "judge is still there {EXIT_TIMEOUT:?} after SIGKILL");
                return;
            }
            tokio::time::sleep(EXIT_PAUSE).await;
        }
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Running {
    pidfd: OwnedFd,
    pid: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Yes,
    NotYet,
}

impl Running {
    fn kill(&self) {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            // It is gone already.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid, %error, "pidfd_send_signal(2) to the judge"),
        }
    }

    fn reap(&self) -> Gone {
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(None) => Gone::NotYet,
            // Reaped here, or the server's reaper was faster.
            Ok(Some(_)) | Err(Errno::CHILD) => Gone::Yes,
            Err(error) => {
                tracing::warn!(pid = self.pid, %error, "waitid(2) of the judge");
                Gone::Yes
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Harmless where it is gone: a pidfd never means another process.
        self.kill();
        self.reap();
    }
}
