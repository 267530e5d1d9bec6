//! What a technique is, and what came of it.

use bulkhead_integration::{Output, Result};
use serde::Deserialize;

use crate::{
    arena::Arena,
    column::{Column, Phase},
};

/// What came of a technique in one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It bit; the evidence.
    Succeeded(String),
    /// It did not; what stopped it, as observed.
    Stopped(String),
    /// It was not tried here; why.
    Untried(String),
}

impl Outcome {
    /// `evidence` where it bit; else what the client was told, or that it ran and nothing came of it.
    pub(crate) fn judged(bit: bool, evidence: impl Into<String>, output: &Output) -> Self {
        if bit { Outcome::Succeeded(evidence.into()) } else { Outcome::Stopped(reason(output)) }
    }

    /// Of what the attacker said of one technique, run with what was asked for.
    pub(crate) fn said(output: &Output) -> Self {
        Self::judged(output.stdout.contains("\"succeeded\""), output.stdout.trim(), output)
    }
}

/// Why a container did not run, or that it ran and nothing came of it.
pub(crate) fn reason(output: &Output) -> String {
    let text = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let line =
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("ran, and nothing came of it");
    line.trim_start_matches("ctr: ").chars().take(200).collect()
}

/// A technique that needs hands outside: an image, a spec, a request, a look at the host.
///
/// Those that a program inside can try alone are files of `inside/src/techniques`.
pub(crate) struct Outside {
    /// The CVE, advisory or page that it is from.
    pub(crate) source: &'static str,
    /// One line for people.
    pub(crate) tries: &'static str,
    /// Where it makes a difference.
    pub(crate) phases: &'static [Phase],
    /// Does it once.
    pub(crate) attempt: fn(&Arena, Column, Phase) -> Result<Outcome>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) tries: String,
}

impl Row {
    /// The row of a technique.
    pub(crate) fn of(name: &str, source: &str, tries: &str) -> Self {
        Self { name: name.to_owned(), source: source.to_owned(), tries: tries.to_owned() }
    }
}

/// What `attacker list` says of a technique.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) tries: String,
    pub(crate) alone: String,
}

/// What `attacker run` says of a technique.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    pub(crate) name: String,
    outcome: String,
    by: String,
}

impl From<Said> for Outcome {
    fn from(said: Said) -> Self {
        match said.outcome.as_str() {
            "succeeded" => Outcome::Succeeded(said.by),
            _ => Outcome::Stopped(said.by),
        }
    }
}
