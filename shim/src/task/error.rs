//! What a call is answered with when it is not done, in the codes that containerd's clients act on.

use bulkhead_model::Refusal;
use containerd_shim_protos::ttrpc::{self, Code};

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// There is no such container or process (any more).
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// Not in this state, or something that must be there first is missing.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The request is malformed.
    #[error("{0}")]
    InvalidArgument(String),
    /// What is asked for is not built.
    #[error("{0} is not supported by bulkhead")]
    Unimplemented(String),
    /// Not now; the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// Policy said no.
    #[error("{}", .0.line())]
    Refused(#[from] Box<Refusal>),
    /// The machine broke.
    #[error("{0}")]
    Internal(String),
}

impl From<Refusal> for TaskError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl TaskError {
    /// The machine broke: the error with its causes, on one line.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = chain(error);
        Self::Internal(match bulkhead_launch::fix(error) {
            Some(fix) => format!("{text}; {fix}"),
            None => text,
        })
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::AlreadyExists(_) => Code::ALREADY_EXISTS,
            Self::FailedPrecondition(_) => Code::FAILED_PRECONDITION,
            Self::InvalidArgument(_) => Code::INVALID_ARGUMENT,
            Self::Unimplemented(_) => Code::UNIMPLEMENTED,
            Self::Unavailable(_) => Code::UNAVAILABLE,
            Self::Refused(_) => Code::PERMISSION_DENIED,
            Self::Internal(_) => Code::UNKNOWN,
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    fn from(error: TaskError) -> Self {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code(), error.to_string()))
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_model::Rule;

    #[test]
    fn refusal_reaches_containerd_as_permission_denied_with_its_one_line() {
        let refusal = Refusal::new(Rule::ImageDigest, "image a", "not listed", "list it");
        let line = refusal.line();
        let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(TaskError::from(refusal)) else { panic!() };
        assert_eq!((status.code(), status.message()), (Code::PERMISSION_DENIED, line.as_str()));
    }

    #[test]
    fn broken_machine_is_no_refusal() {
        let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(TaskError::internal(&error)) else {
            panic!()
        };
        assert_eq!(status.code(), Code::UNKNOWN);
        assert!(status.message().contains("No space left"));
    }
}
