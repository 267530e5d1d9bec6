//! Why signatures could not be gathered.

use std::{io, path::PathBuf, time::Duration};

use bulkhead_model::Digest;

/// What went wrong. No secret is in any of these texts.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A file.
    #[error("{call} {}", .path.display())]
    File {
        /// System call or step.
        call: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file that is none of the things that can be imported.
    #[error("{} is {found}, not an OCI layout, a tarball of one, or a sigstore bundle", .path.display())]
    Kind {
        /// Which file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// A configuration file.
    #[error("{}: {why}", .path.display())]
    Configuration {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A document that is not what it should be.
    #[error("{what} is no {wanted}: {why}")]
    Document {
        /// Which document.
        what: String,
        /// What it should be.
        wanted: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Bytes that do not hash to their name.
    #[error("{what} does not hash to {wanted} but to {found}")]
    Digest {
        /// Which bytes.
        what: String,
        /// Its name.
        wanted: Digest,
        /// What it hashes to.
        found: Digest,
    },
    /// More bytes than are wanted.
    #[error("{what} has more than {bytes_max} bytes")]
    TooLarge {
        /// Which bytes.
        what: String,
        /// The limit.
        bytes_max: u64,
    },
    /// Not there.
    #[error("{0} does not exist")]
    Missing(String),
    /// The name of an image that is none.
    #[error("{name:?} is no image reference: {why}")]
    Reference {
        /// The name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A registry that answered with another status.
    #[error("{url} answered {status}")]
    Status {
        /// Which address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A registry that could not be spoken to.
    #[error("{url}: {why}")]
    Http {
        /// Which address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// A redirect or a name that leads where nothing of an image is.
    #[error("{url} leads to {to}: {why}")]
    Astray {
        /// Which address was asked.
        url: String,
        /// Where it leads.
        to: String,
        /// Why that is refused.
        why: &'static str,
    },
    /// It took too long.
    #[error("{what} took more than {after:?}")]
    Slow {
        /// What.
        what: String,
        /// The limit.
        after: Duration,
    },
}

impl GatherError {
    pub(crate) fn file(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { call, path, error }
    }

    pub(crate) fn document(what: impl Into<String>, wanted: &'static str, why: impl ToString) -> Self {
        // serde_json quotes what it read: an attacker's bytes, on one line and not too many.
        let why = why.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
        Self::Document { what: what.into(), wanted, why }
    }
}
