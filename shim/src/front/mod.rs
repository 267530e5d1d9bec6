//! What containerd calls as a program: `start`, `delete`, `-info`, `-v`.
//!
//! ```text
//! containerd ─exec─► start ─ bind socket ─ fork ─┬─ parent: reply, exit
//!                      │                          └─ child:  the server
//!                      └─ socket of the pod answers: reply its address, exit
//! ```
//!
//! Invariant: standard output carries the reply and nothing else, standard error nothing unless the call fails:
//! containerd reads both as one.
//! Never here: a decision about an image or a request; that is made by the server, at Create.

mod bootstrap;
mod delete;
mod info;
mod shim_cgroup;
mod socket;
mod start;

pub(crate) use delete::delete;
pub(crate) use info::info;
pub(crate) use start::{ServerConfig, Started, start};

/// The name containerd knows this runtime by.
pub(crate) const RUNTIME_NAME: &str = "io.containerd.bulkhead.v2";

use std::io;

/// The program could not do what containerd asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    /// A system call failed.
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
    /// A flag or variable that containerd always sets is missing or malformed.
    #[error("{0}")]
    Usage(String),
    /// containerd's message on standard input cannot be read.
    #[error("standard input holds no such message as containerd sends")]
    Message(#[from] protobuf::Error),
    /// The bundle's config.json cannot be read.
    #[error("config.json: {0}; {fix}", fix = crate::stages::NO_SPEC)]
    Config(serde_json::Error),
    /// The zygote could not be forked.
    #[error("zygote")]
    Launch(#[from] bulkhead_launch::LaunchError),
}

impl FrontError {
    /// For `map_err` on a system call.
    pub(crate) fn io<E: Into<io::Error>>(
        call: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(E) -> FrontError {
        let subject = subject.into();
        move |source| FrontError::Io { call, subject, source: source.into() }
    }

    /// The error with its causes, on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
