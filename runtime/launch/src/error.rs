//! What can go wrong between a plan and a running process.

use std::io;

/// A container or exec process could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A system call of the server's or the zygote's failed.
    #[error("{call} {subject}")]
    Io {
        /// The call.
        call: &'static str,
        /// Its subject.
        subject: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The job could not be written down.
    #[error("job cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The plan lacks what a launch needs, or asks for what it cannot do.
    #[error("plan cannot be carried out: {0}")]
    Plan(&'static str),
    /// The runtime's own executable could be overwritten: see `Zygote::fork`.
    #[error("{path} {why}: a container could replace the runtime")]
    Executable {
        /// The executable.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The zygote is gone, and so is its spare.
    #[error(
        "the zygote and its spare were killed: what runs goes on, and nothing can be started beside it; fix: remove the \
         container, or its pod, and create it anew"
    )]
    ZygoteGone,
    /// The worker died without an answer, or did not answer in time.
    #[error("the worker ended without an answer (a memory limit may be too small for a start)")]
    WorkerGone,
    /// The process died between its start and execve(2).
    #[error(
        "the process ended before execve(2): its seccomp profile or a limit may forbid what every start needs"
    )]
    ProcessGone,
    /// Something else than the launch protocol arrived.
    #[error("unexpected message on the reply socket: {0}")]
    Protocol(&'static str),
    /// The worker, libcontainer or the container's first process says why it failed.
    #[error("{0}")]
    Failed(String),
}

/// A process that was created did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The launch protocol broke, or the process died.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The kernel does not show what the plan demands of the process; it was killed.
    #[error("process {pid} is not confined as planned: {why}")]
    NotConfined {
        /// The process.
        pid: u32,
        /// What differs.
        why: String,
    },
    /// The process could not confine itself, or execve(2) failed.
    #[error("{message}")]
    Exec {
        /// errno of execve(2), if it came that far.
        errno: Option<i32>,
        /// The text.
        message: String,
    },
}

impl LaunchError {
    /// For `map_err` on a system call.
    pub(crate) fn io<E: Into<io::Error>>(
        call: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(E) -> LaunchError {
        let subject = subject.into();
        move |source| LaunchError::Io { call, subject, source: source.into() }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
