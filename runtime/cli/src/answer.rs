//! What a command answers, for people and in JSON, and the exit status of each.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use bulkhead_model::Refusal;
use serde_json::{Value, json};

/// Exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Yes = 0,
    Refused = 1,
    Usage = 2,
    Failed = 3,
}

/// An answer. Its text ends without a newline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn yes(text: impl Into<String>, json: Value) -> Self {
        Self { status: Status::Yes, text: text.into(), json }
    }

    pub(crate) fn refused(text: impl Into<String>, json: Value) -> Self {
        Self { status: Status::Refused, text: text.into(), json }
    }

    pub(crate) fn failed(text: impl Into<String>, json: Value) -> Self {
        Self { status: Status::Failed, text: text.into(), json }
    }

    pub(crate) fn usage(text: &str) -> Self {
        Self { status: Status::Usage, text: text.to_owned(), json: json!({ "usage": text }) }
    }
}

/// A refusal in JSON, with its page.
pub(crate) fn refusal_json(refusal: &Refusal) -> Value {
    let Refusal { rule, what, why, fix } = refusal;
    let see = format!("docs/refusals.md#{}", rule.anchor());
    json!({ "rule": rule, "what": what, "why": why, "fix": fix, "see": see })
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.to_string(), json!({ "refused": refusal_json(&refusal) }))
    }
}

/// The machine broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{call} on {}", .path.display())]
    File { call: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Kernel(&'static str, #[source] io::Error),
    #[error(transparent)]
    Containerd(#[from] bulkhead_containerd::Failure),
    #[error(transparent)]
    Gather(#[from] bulkhead_gather::GatherError),
    #[error(transparent)]
    Store(#[from] bulkhead_gather::StoreError),
    #[error("an answer that was not asked for: {0}")]
    Odd(String),
    #[error("{} is no profile: {why}", .path.display())]
    Profile { path: PathBuf, why: String },
    #[error("{} is no public key: {why}", .path.display())]
    Key { path: PathBuf, why: String },
    #[error("{}: {why}", .path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{} is no TOML: {why}", .path.display())]
    Configuration { path: PathBuf, why: String },
}

/// An error with its causes on one line.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Prints the answer and gives its exit status. What failed and how it is used goes to stderr, JSON always to stdout.
pub(crate) fn print(answer: Result<Answer, Trouble>, as_json: bool) -> ExitCode {
    let Answer { status, text, json } = answer.unwrap_or_else(|trouble| {
        let text = full(&trouble);
        let json = json!({ "failed": text });
        Answer { status: Status::Failed, text: format!("failed: {text}"), json }
    });
    let written = match (as_json, status) {
        (true, _) => writeln!(io::stdout(), "{json:#}"),
        (false, Status::Yes | Status::Refused) => writeln!(io::stdout(), "{text}"),
        (false, Status::Usage | Status::Failed) => writeln!(io::stderr(), "{text}"),
    };
    match written {
        Ok(()) => ExitCode::from(status as u8),
        // Whoever reads us left, as `head` does: what was asked stays answered by the status.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(status as u8),
        Err(_) => ExitCode::from(Status::Failed as u8),
    }
}
