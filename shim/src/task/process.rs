//! One process of a container: its init or an exec, and how it goes through its states.
//!
//! ```text
//! Added (exec) ─┐
//! Created (init)┴─start─► Starting ─started─► Running ─exited─► Stopped
//!                            │  └─ exited meanwhile: kept, told after "started"
//!                            └─ failed ─► (init) its exit is awaited: Stopped   (exec) Stopped, never ran
//! ```
//! Invariant: every transition is a method here; an exit is told once, and after the start that it belongs to.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bulkhead_launch::Gate;
use bulkhead_plan::ExecPlan;
use containerd_shim_protos::api::Status;
use tokio::sync::watch;

use super::{
    TaskError,
    stdio::{Rest, Streams},
};
use crate::{server::Exit, sys};

/// Exit status of an exec that could not be started.
///
/// Source: what runc's shim and shells use for "cannot execute" at worst; containerd shows it only to a Wait.
const NEVER_RAN: u32 = 255;

/// Where its streams lead, as containerd named it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StdioPaths {
    /// Standard input.
    pub(crate) stdin: String,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// Whether it has a terminal.
    pub(crate) terminal: bool,
}

/// What it runs once it is started.
pub(crate) enum Waiting {
    /// An init at its gate.
    Init(Gate),
    /// An exec that has passed its gates.
    Exec(Box<ExecPlan>),
}

enum State {
    Waiting(Waiting),
    Starting { exited: Option<Exit> },
    Running,
    Stopped,
}

/// A process of a container.
pub(crate) struct Process {
    /// Id of the exec; empty for init, as in the protocol.
    pub(crate) exec_id: String,
    /// Where its streams lead.
    pub(crate) paths: StdioPaths,
    inner: Mutex<Inner>,
    exit: watch::Sender<Option<Exit>>,
}

struct Inner {
    state: State,
    pid: u32,
    pidfd: Option<OwnedFd>,
    streams: Streams,
    size: Option<(u16, u16)>,
    stdin_closed: bool,
}

/// What to do about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Now.
    Now,
    /// When the start under way has been told.
    Later,
}

impl Process {
    /// A process that waits to be started.
    pub(crate) fn new(exec_id: String, paths: StdioPaths, waiting: Waiting) -> Self {
        let inner = Inner {
            state: State::Waiting(waiting),
            pid: 0,
            pidfd: None,
            streams: Streams::default(),
            size: None,
            stdin_closed: false,
        };
        Self { exec_id, paths, inner: Mutex::new(inner), exit: watch::Sender::new(None) }
    }

    /// Whether it is the container's first process.
    pub(crate) fn is_init(&self) -> bool {
        self.exec_id.is_empty()
    }

    /// Its pid; 0 before it has one.
    pub(crate) fn pid(&self) -> u32 {
        self.inner().pid
    }

    /// Its state in containerd's words; `paused` is its container's.
    pub(crate) fn status(&self, paused: bool) -> Status {
        match self.inner().state {
            State::Waiting(_) => Status::CREATED,
            State::Starting { .. } | State::Running if paused => Status::PAUSED,
            State::Starting { .. } | State::Running => Status::RUNNING,
            State::Stopped => Status::STOPPED,
        }
    }

    /// How it ended, once it has.
    pub(crate) fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Option<Exit> {
        let mut exits = self.exit.subscribe();
        exits.wait_for(Option::is_some).await.ok().and_then(|exit| *exit)
    }

    /// Says which process it is, and what is kept of its streams (of its input only if more may come).
    pub(crate) fn set_process(&self, pid: u32, pidfd: OwnedFd, mut streams: Streams) {
        let mut inner = self.inner();
        inner.pid = pid;
        inner.pidfd = Some(pidfd);
        if let Some((columns, rows)) = inner.size
            && let Err(error) = streams.resize(columns, rows)
        {
            tracing::warn!(%error, "terminal keeps its size");
        }
        if inner.stdin_closed {
            streams.close_stdin();
        }
        inner.streams = streams;
    }

    /// Waiting → Starting.
    pub(crate) fn begin_start(&self) -> Result<Waiting, TaskError> {
        let mut inner = self.inner();
        match std::mem::replace(&mut inner.state, State::Starting { exited: None }) {
            State::Waiting(waiting) => Ok(waiting),
            other => {
                let what = match other {
                    State::Stopped => "process already finished",
                    _ => "process is already started",
                };
                inner.state = other;
                Err(TaskError::FailedPrecondition(what.to_owned()))
            }
        }
    }

    /// Starting → Running. An exit that came meanwhile is returned, to be told now.
    #[must_use]
    pub(crate) fn started(&self) -> Option<Exit> {
        let mut inner = self.inner();
        let State::Starting { exited } = inner.state else { return None };
        inner.state = State::Running;
        exited
    }

    /// Starting → Stopped, for a process that never was.
    pub(crate) fn never_ran(&self) {
        self.stop(Exit { status: NEVER_RAN, at: SystemTime::now() });
    }

    /// The kernel says that it has ended: whether that may be told.
    pub(crate) fn note_exit(&self, exit: Exit) -> Told {
        match &mut self.inner().state {
            State::Starting { exited } => {
                *exited = Some(exit);
                Told::Later
            }
            _ => Told::Now,
        }
    }

    /// Any → Stopped. Its streams are let go: readers see the end.
    pub(crate) fn stop(&self, exit: Exit) {
        let mut inner = self.inner();
        inner.state = State::Stopped;
        inner.streams.end();
        drop(inner);
        self.exit.send_replace(Some(exit));
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), TaskError> {
        let inner = self.inner();
        if let State::Stopped = inner.state {
            return Err(TaskError::NotFound("process already finished".to_owned()));
        }
        let Some(pidfd) = &inner.pidfd else {
            return Err(TaskError::FailedPrecondition("process is not started".to_owned()));
        };
        sys::send_signal(pidfd.as_fd(), signal).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => TaskError::NotFound("process already finished".to_owned()),
            Some(libc::EINVAL) => TaskError::InvalidArgument(format!("signal {signal}")),
            _ => TaskError::Internal(format!("pidfd_send_signal(2): {error}")),
        })
    }

    /// Sets the size of its terminal, now or when it has one. Without a terminal there is nothing to size, which
    /// is no error: clients of runc's shim ask without looking.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<(), TaskError> {
        let mut inner = self.inner();
        inner.size = Some((columns, rows));
        inner.streams.resize(columns, rows).map_err(|error| TaskError::internal(&error))
    }

    /// No more input will come: with the writer's end closed too, the process reads the end of its input. It may
    /// be said while the start is under way: a short input is written by then.
    pub(crate) fn close_stdin(&self) {
        let mut inner = self.inner();
        inner.stdin_closed = true;
        inner.streams.close_stdin();
    }

    /// A copy of its pidfd.
    pub(crate) fn pidfd(&self) -> Result<OwnedFd, TaskError> {
        let inner = self.inner();
        let pidfd =
            inner.pidfd.as_ref().ok_or_else(|| TaskError::FailedPrecondition("no process".to_owned()))?;
        pidfd.try_clone().map_err(|error| TaskError::internal(&error))
    }

    /// What of its output is still on its way, once it has ended.
    pub(crate) fn take_rest(&self) -> Rest {
        self.inner().streams.take_rest()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A process in a state of the test's choice: what it waits to run does not matter to its transitions.
    fn process(state: State) -> Process {
        let streams = Streams::default();
        let inner = Inner { state, pid: 1, pidfd: None, streams, size: None, stdin_closed: false };
        Process {
            exec_id: String::new(),
            paths: StdioPaths::default(),
            inner: Mutex::new(inner),
            exit: watch::Sender::new(None),
        }
    }

    fn exit(status: u32) -> Exit {
        Exit { status, at: SystemTime::now() }
    }

    #[test]
    fn exit_during_start_is_told_after_the_start() {
        let process = process(State::Starting { exited: None });
        assert_eq!(process.note_exit(exit(7)), Told::Later);
        assert_eq!(process.started().unwrap().status, 7);
    }

    #[test]
    fn exit_after_start_is_told_at_once() {
        let process = process(State::Starting { exited: None });
        assert_eq!(process.started(), None);
        assert_eq!(process.note_exit(exit(7)), Told::Now);
    }

    #[test]
    fn second_start_is_refused_and_leaves_the_process_running() {
        let process = process(State::Running);
        assert!(matches!(process.begin_start(), Err(TaskError::FailedPrecondition(_))));
        assert_eq!(process.status(false), Status::RUNNING);
    }

    #[test]
    fn signal_to_a_finished_process_is_not_found() {
        let process = process(State::Running);
        process.stop(exit(0));
        assert!(matches!(process.signal(libc::SIGTERM), Err(TaskError::NotFound(_))));
    }

    #[tokio::test]
    async fn wait_that_began_before_the_exit_is_answered_by_it() {
        let process = std::sync::Arc::new(process(State::Running));
        let waiter = tokio::spawn({
            let process = std::sync::Arc::clone(&process);
            async move { process.wait().await }
        });
        tokio::task::yield_now().await;
        process.stop(exit(137));
        assert_eq!(waiter.await.unwrap().unwrap().status, 137);
    }
}
