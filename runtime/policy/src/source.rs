//! Where policy text came from, and what is wrong with it, by line and column.

use std::{fmt, ops::Range, path::PathBuf};

use bulkhead_model::{Refusal, Rule};

/// The text of one policy file. Whoever read it checked its owner and mode (`bulkhead_node`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it was read: for messages.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, what, fix } = self;
        write!(f, "{}:{line}:{column}: {what}; fix: {fix}", path.display())
    }
}

/// A policy that refuses all, because it cannot be understood. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    first: Problem,
    more: Vec<Problem>,
}

impl PolicyError {
    /// The error of these problems, in the order of file, line and column; `None` when there are none.
    #[must_use]
    pub fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        let mut problems = problems.into_iter();
        problems.next().map(|first| Self { first, more: problems.collect() })
    }

    /// The problems of two files.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.more.push(other.first);
        self.more.extend(other.more);
        self
    }

    /// Every problem found, in the order of file, line and column.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        match self.more.len() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// What a task is told while the policy is broken.
impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        let Problem { path, line, column, what, fix } = &error.first;
        let more = match error.more.len() {
            0 => String::new(),
            more => format!(" (and {more} more: bulkhead policy check)"),
        };
        Refusal::new(
            Rule::Policy,
            format!("policy {} cannot be used, so nothing runs", path.display()),
            format!("line {line}, column {column}: {what}{more}"),
            fix.clone(),
        )
    }
}

/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 100;

/// Collects the problems of one file.
pub(crate) struct Problems<'a> {
    source: &'a Source,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, found: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: &Range<usize>, what: impl Into<String>, fix: impl Into<String>) {
        if self.found.len() >= PROBLEMS_MAX {
            return;
        }
        let (line, column) = self.position(at);
        self.found.push(Problem {
            path: self.source.path.clone(),
            line,
            column,
            what: what.into(),
            fix: fix.into(),
        });
    }

    /// Line and column, from 1, of the start of a byte range.
    pub(crate) fn position(&self, at: &Range<usize>) -> (usize, usize) {
        let text = &self.source.text;
        let mut start = at.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// What was found so far, as an error.
    pub(crate) fn take(&mut self) -> Option<PolicyError> {
        PolicyError::of(std::mem::take(&mut self.found))
    }
}
