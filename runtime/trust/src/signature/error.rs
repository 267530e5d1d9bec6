//! Why a signature counts for nothing, and why nothing can be verified.

use bulkhead_model::{Digest, KeyError, SIGNATURE_BYTES_MAX, SIGNATURE_TEXT_BYTES_MAX};

use crate::json::JsonFlaw;

/// Why a key or root of the node cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// A key that is none.
    #[error("key: {0}")]
    Key(#[from] KeyError),
    /// Another algorithm, or a broken key.
    #[error("key {fingerprint} cannot be used: {why}")]
    Algorithm {
        /// SHA-256 of its DER.
        fingerprint: Digest,
        /// What is wrong.
        why: String,
    },
    /// Not JSON, or JSON that two readers could understand differently.
    #[error("trusted root {root}: {flaw}")]
    Json {
        /// Hash of the file.
        root: Digest,
        /// What is wrong.
        flaw: JsonFlaw,
    },
    /// No trusted root.
    #[error("trusted root {root}: {why}")]
    Root {
        /// Hash of the file.
        root: Digest,
        /// What is wrong.
        why: String,
    },
}

/// Why a signature file counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFlaw {
    /// Too large.
    #[error("it has more than {SIGNATURE_BYTES_MAX} bytes")]
    Size,
    /// Its name says another hash.
    #[error("its bytes do not hash to its name: it was changed where it is stored")]
    Damaged,
    /// Not JSON, or JSON that two readers could understand differently.
    #[error("its {part} {flaw}")]
    Json {
        /// Which part of it.
        part: &'static str,
        /// What is wrong.
        flaw: JsonFlaw,
    },
    /// JSON, but not what it should be.
    #[error("its {part} cannot be read: {why}")]
    Format {
        /// Which part of it.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Fact that is too long or has control characters.
    #[error("it holds a name of more than {SIGNATURE_TEXT_BYTES_MAX} bytes or with control characters")]
    Text,
    /// It is about something else.
    #[error("it is about {found}, not about {wanted}")]
    Subject {
        /// What it is about.
        found: String,
        /// What it should be about.
        wanted: Digest,
    },
    /// No key of the node made it.
    #[error("no key of this node made it{}", said(.hint))]
    Key {
        /// The key that it says, which proves nothing.
        hint: Option<String>,
    },
    /// It needs a root, and the node has none.
    #[error("it was made with a certificate, and [trust] names no trusted root")]
    NoRoot,
    /// A log of which the node knows nothing.
    #[error("its log {0} is in none of the trusted roots")]
    UnknownLog(String),
    /// Entries of several logs, of which each would have to be checked by its own.
    #[error("it has entries of several logs")]
    SeveralLogs,
    /// An entry that proves nothing.
    #[error("it has a log entry without {0}")]
    EmptyEntry(&'static str),
    /// The certificate says no identity, or several.
    #[error("its certificate names {0} identities, not one")]
    Identities(usize),
    /// The certificate does not say who vouched for the identity.
    #[error("its certificate names no issuer of the identity")]
    NoIssuer,
    /// What the verifying library says.
    #[error("{0}")]
    Invalid(String),
}

fn said(hint: &Option<String>) -> String {
    hint.as_ref().map_or(String::new(), |hint| format!(": it says {hint}"))
}
