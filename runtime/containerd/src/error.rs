//! Refused, failed, or try again.

use std::{io, path::PathBuf, time::Duration};

use bulkhead_model::{Digest, FactsError, Refusal, SIGNATURE_FILES_MAX, SignatureFactsError};

/// Why there is no verified image. Each variant is another answer to containerd.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The image is not what it should be: PERMISSION_DENIED.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something that must work does not: FAILED_PRECONDITION.
    #[error(transparent)]
    Failed(Failure),
    /// It took too long; the same request may work soon: UNAVAILABLE.
    #[error(transparent)]
    Unavailable(Failure),
}

/// What broke.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// containerd's socket cannot be reached.
    #[error("connect to containerd at {socket}")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        error: tonic::transport::Error,
    },
    /// containerd answered with an error.
    #[error("containerd {call} of {subject}: {code:?}: {message}")]
    Call {
        /// Service and method.
        call: &'static str,
        /// About what.
        subject: String,
        /// gRPC code.
        code: tonic::Code,
        /// containerd's words.
        message: String,
    },
    /// containerd did not answer.
    #[error("containerd {call} of {subject}: no answer within {after:?}")]
    Silent {
        /// Service and method.
        call: &'static str,
        /// About what.
        subject: String,
        /// How long was waited.
        after: Duration,
    },
    /// containerd answered something that makes no sense.
    #[error("containerd {call} of {subject}: answer has no usable {field}")]
    Answer {
        /// Service and method.
        call: &'static str,
        /// About what.
        subject: String,
        /// What is wrong with it.
        field: &'static str,
    },
    /// A file of ours.
    #[error("{call} {path}")]
    File {
        /// System call or step.
        call: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file of ours that others could have written.
    #[error("{path} is not a file of root's alone: {problem}; delete it")]
    Untrusted {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The judge could not be started or spoken to.
    #[error("judge {program}: {step}")]
    Judge {
        /// Its executable.
        program: PathBuf,
        /// At which step.
        step: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The judge came to no verdict, in its own words.
    #[error("judge of {target} came to no verdict: {why}")]
    NoVerdict {
        /// About which image.
        target: Digest,
        /// Its words.
        why: String,
    },
    /// The judge's facts cannot be true.
    #[error("judge of {target} answered with impossible facts")]
    Facts {
        /// About which image.
        target: Digest,
        /// What does not hold.
        #[source]
        error: FactsError,
    },
    /// The judge's facts about signatures cannot be true.
    #[error("judge of the signatures of {target} answered with impossible facts")]
    SignatureFacts {
        /// About which image.
        target: Digest,
        /// What does not hold.
        #[source]
        error: SignatureFactsError,
    },
    /// More signatures than are read.
    #[error(
        "{} has more than {SIGNATURE_FILES_MAX} signatures; remove some: bulkhead trust remove", .0.display()
    )]
    SignatureFiles(PathBuf),
    /// Layers could not be compared with their tars.
    #[error("contents of the layers: {step}")]
    Contents {
        /// At which step.
        step: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Somebody writes to a layer.
    #[error("the layer {} changed while it was compared with its tar; try again", .dir.display())]
    ContentsChanged {
        /// Its directory.
        dir: PathBuf,
    },
    /// Layers are still being compared.
    #[error(
        "the layers of {image} are still being compared with their tars after {after:.0?}: {proven} of {of} are done and \
         stay so; try again, or have bulkhead watch compare them, which takes the time that it needs"
    )]
    ContentsBusy {
        /// Of which image.
        image: Digest,
        /// How many are done.
        proven: usize,
        /// Of how many.
        of: usize,
        /// How long was waited.
        after: Duration,
    },
    /// The judge was stopped.
    #[error("judge of {target} was stopped after {after:?}; try again")]
    JudgeTime {
        /// About which image.
        target: Digest,
        /// How long it had.
        after: Duration,
    },
    /// Another launch's judge of the same image is still at work.
    #[error("verdict of {target} is still being worked out after {after:?}; try again")]
    JudgeBusy {
        /// About which image.
        target: Digest,
        /// How long was waited.
        after: Duration,
    },
}

impl From<Failure> for VerifyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::JudgeTime { .. }
            | Failure::JudgeBusy { .. }
            | Failure::ContentsBusy { .. }
            | Failure::ContentsChanged { .. } => VerifyError::Unavailable(failure),
            Failure::Connect { .. }
            | Failure::Call { .. }
            | Failure::Silent { .. }
            | Failure::Answer { .. }
            | Failure::File { .. }
            | Failure::Untrusted { .. }
            | Failure::Judge { .. }
            | Failure::Contents { .. }
            | Failure::NoVerdict { .. }
            | Failure::Facts { .. }
            | Failure::SignatureFacts { .. }
            | Failure::SignatureFiles(_) => VerifyError::Failed(failure),
        }
    }
}

impl VerifyError {
    /// One line for containerd, causes included; of a refusal its own line.
    #[must_use]
    pub fn line(&self) -> String {
        let failure = match self {
            VerifyError::Refused(refusal) => return refusal.line(),
            VerifyError::Failed(failure) | VerifyError::Unavailable(failure) => failure,
        };
        let mut text = format!("bulkhead failed: {failure}");
        let mut cause = std::error::Error::source(failure);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        let line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let end =
            (0..=line.len().min(bulkhead_model::LINE_BYTES_MAX)).rev().find(|at| line.is_char_boundary(*at));
        line.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
    }
}
