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
    #[error(
        "the worker ended without an answer: it was killed, perhaps for want of memory; fix: raise the memory limit of the \
         container, and see the kernel's log"
    )]
    WorkerGone,
    /// The process died between its start and execve(2).
    #[error(
        "the process ended before execve(2): it was killed, or its seccomp profile or a limit forbids what every start \
         needs; fix: widen that, and see the kernel's log"
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

/// An error with its causes, and what to do about it where the kernel says that something has run out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let text = causes(error);
    match fix(error) {
        Some(fix) => format!("{text}; {fix}"),
        None => text,
    }
}

/// An error with its causes alone.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What to do about an error that says that something has run out.
#[must_use]
pub fn fix(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let errno = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
            .or_else(|| error.downcast_ref::<nix::Error>().map(|errno| *errno as i32));
        if let Some(fix) = errno.and_then(fix_of) {
            return Some(fix);
        }
        cause = error.source();
    }
    None
}

/// The same by errno.
pub(crate) fn fix_of(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some("fix: raise the limit of open files of containerd's service (LimitNOFILE=)"),
        libc::ENFILE => Some("fix: raise the host's limit of open files (sysctl fs.file-max)"),
        libc::ENOSPC | libc::EDQUOT => Some("fix: free space and inodes there"),
        libc::EAGAIN => Some(
            "fix: raise pids.max of the control group and of those above it, or the limit of processes (LimitNPROC=)",
        ),
        libc::ENOMEM => Some("fix: free memory on the host, or raise the container's limit"),
        _ => None,
    }
}
