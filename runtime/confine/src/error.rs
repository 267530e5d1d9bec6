//! Why a process could not be confined. Each of these ends the launch.

use std::{io, path::PathBuf};

use crate::Difference;

/// A step failed, or the kernel did not confirm it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel's Landlock is older than what is needed.
    #[error("Landlock ABI is {found}, {needed} is needed for {what}")]
    LandlockAbi {
        /// What the kernel has; 0 without Landlock.
        found: u8,
        /// What is needed.
        needed: u8,
        /// By what.
        what: &'static str,
    },
    /// The ruleset could not be made or enforced.
    #[error("Landlock: {step}")]
    Landlock {
        /// What was being done.
        step: &'static str,
        /// The cause.
        #[source]
        source: Box<landlock::RulesetError>,
    },
    /// The rule of a path could not be added.
    #[error("Landlock rule for {}", .path.display())]
    Rule {
        /// The path in the container.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<landlock::RulesetError>,
    },
    /// A rule that would reach every mount.
    #[error("Landlock rule for {} would hold for the whole of /", .0.display())]
    RuleIsRoot(PathBuf),
    /// Too many files that somebody would have to hold open.
    #[error("more than {} files of the image with several names need Landlock rules of their own; the next is {}", crate::PINS_MAX, .0.display())]
    Pins(PathBuf),
    /// The ruleset is not fully enforced.
    #[error("Landlock is not fully enforced: {0}")]
    NotFullyEnforced(String),
    /// Before: the canary cannot be opened, so that EACCES would prove nothing.
    #[error("the canary {} cannot be opened before Landlock: {source}", .path.display())]
    CanaryMissing {
        /// The canary.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// After: the canary does not give EACCES.
    #[error("the canary {} gives {found} under Landlock, not EACCES", .path.display())]
    CanaryReached {
        /// The canary.
        path: PathBuf,
        /// What it gave.
        found: String,
    },
    /// No seccomp program, an empty one, or one longer than the kernel takes.
    #[error("seccomp program {index} has {instructions} instructions; 1 to 4096 are needed")]
    Program {
        /// Which, from 0.
        index: usize,
        /// Its length.
        instructions: usize,
    },
    /// A seccomp program could not be loaded or made.
    #[error("seccomp program {index} is not accepted")]
    Seccomp {
        /// Which, from 0.
        index: usize,
        /// The cause.
        #[source]
        source: seccompiler::Error,
    },
    /// The process is not what the spec says.
    #[error(transparent)]
    Difference(#[from] Difference),
    /// A system call failed.
    #[error("{call} on {subject}")]
    Call {
        /// The call, as in `open(2)`.
        call: &'static str,
        /// What it was about.
        subject: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Reading or changing a capability set failed.
    #[error("capabilities: {0}")]
    Capabilities(#[source] caps::errors::CapsError),
}

impl ConfineError {
    pub(crate) fn call(call: &'static str, subject: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| ConfineError::Call { call, subject, source }
    }

    pub(crate) fn errno(
        call: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(nix::errno::Errno) -> Self {
        let wrap = Self::call(call, subject);
        move |errno| wrap(errno.into())
    }
}
