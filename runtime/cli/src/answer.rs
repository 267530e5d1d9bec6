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
        (false, Status::Yes | Status::Refused) => writeln!(io::stdout(), "{}", shown(&text)),
        (false, Status::Usage | Status::Failed) => writeln!(io::stderr(), "{}", shown(&text)),
    };
    match written {
        Ok(()) => ExitCode::from(status as u8),
        // Whoever reads us left, as `head` does: what was asked stays answered by the status.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(status as u8),
        Err(_) => ExitCode::from(Status::Failed as u8),
    }
}

/// A text as a terminal may have it. Paths, names and output of containers are in it, so it is nothing but characters: no
/// escape sequence, and nothing that shows others than there are.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && (c.is_control() || is_unseen(c)) { '?' } else { c }).collect()
}

/// Whether a character takes no place of its own or turns the order of others around.
///
/// Source: Unicode, Bidi_Control and Default_Ignorable_Code_Point; CVE-2021-42574.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_gets_lines_of_characters_and_neither_escapes_nor_what_turns_them_around() {
        assert_eq!(shown("bulkhead:\n  /srv/é \u{2018}x\u{2019}"), "bulkhead:\n  /srv/é \u{2018}x\u{2019}");
        assert_eq!(shown("\u{1b}[2J\r\u{9b}1m"), "?[2J??1m");
        assert_eq!(shown("/a\u{202e}b\u{200b}"), "/a?b?");
    }
}
