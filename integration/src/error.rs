//! What can go wrong in the harness itself: data first, with the call and its subject.

use std::{io, path::PathBuf, time::Duration};

/// The harness could not do its part. Never a verdict about the runtime under test.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file, directory or socket.
    #[error("{call} {}", path.display())]
    Path {
        /// What was tried.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program that could not be started or waited for.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program that ended otherwise than it had to.
    #[error("{line}: {outcome}")]
    Command {
        /// The command line.
        line: String,
        /// Exit status and what it wrote.
        outcome: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {within:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// A component that has to be there first.
    #[error("{what} is missing; fix: {fix}")]
    Missing {
        /// The component.
        what: String,
        /// How to get it.
        fix: &'static str,
    },
    /// A call of containerd's or CRI's API that was answered by an error.
    #[error("{call}: {status}")]
    Rpc {
        /// The call.
        call: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// The connection to containerd.
    #[error("connect to {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// An answer that is not what its format says.
    #[error("{what}: {found:?}")]
    Format {
        /// What was expected.
        what: &'static str,
        /// What came.
        found: String,
    },
}

/// A result of the harness.
pub type Result<T> = std::result::Result<T, HarnessError>;

impl HarnessError {
    /// Tells people on standard error what failed, and what was behind it.
    pub fn tell(&self, program: &str) {
        eprintln!("{program}: {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            eprintln!("  caused by: {error}");
            cause = error.source();
        }
    }

    /// For `map_err`: `call` on `path` failed.
    pub fn at(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { call, path, source }
    }

    /// For `map_err`: the API call `call` was answered by an error.
    pub fn rpc(call: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| Self::Rpc { call, status: Box::new(status) }
    }

    /// The gRPC status, where there is one.
    #[must_use]
    pub fn status(&self) -> Option<&tonic::Status> {
        match self {
            Self::Rpc { status, .. } => Some(status),
            _ => None,
        }
    }
}
