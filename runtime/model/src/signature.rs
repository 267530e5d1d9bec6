//! What the node has signed of an image, and what a judge found in it: facts, no decision.
//!
//! Signatures come from outside and are kept below [`Layout::trust_dir`](crate::Layout::trust_dir), one file each, by
//! the digest that they are about. Such a file proves nothing by lying there; what counts is what a judge verified.

use serde::{Deserialize, Serialize};

use crate::{Digest, PublicKey, SignatureQuestion, StoredSignature};

/// Most signature files that are read about one subject.
///
/// An image gets a handful: a signature per signer and release step, and its attestations.
pub const SIGNATURE_FILES_MAX: usize = 64;

/// Largest signature file, in bytes. Attestations with a whole SBOM inside are the large ones.
pub const SIGNATURE_BYTES_MAX: u64 = 1024 * 1024;

/// Most bytes that all signature files about one subject may have together.
pub const SIGNATURES_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Longest text of a signature's facts (issuer, identity, predicate type, repository, reason), in bytes.
pub const SIGNATURE_TEXT_BYTES_MAX: usize = 1024;

/// Most keys of a node, and most trusted roots.
pub const SIGNERS_MAX: usize = 64;

/// Predicate type of what cosign 3 signs when it signs an image and attests nothing.
///
/// Source: cosign, pkg/types/predicate.go, `CosignSignPredicateType`.
pub const COSIGN_SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What a judge found in the signatures that the node has for one image.
///
/// A wire struct: whoever receives one checks the invariants again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFacts {
    /// Each verified with a key or root of the node.
    pub signatures: Vec<Signature>,
    /// Each with the reason why it counts for nothing.
    pub rejected: Vec<RejectedSignature>,
}

/// Why facts about signatures cannot be believed, whoever sends them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFactsError {
    /// Not exactly one fact for each file that was asked about.
    #[error("signature facts are not one for each of {wanted} files")]
    Files {
        /// How many files were asked about.
        wanted: usize,
    },
    /// A signer that was not asked about.
    #[error("signature facts name a key or root that is not the node's")]
    Signer,
    /// A text that is too long or has control characters.
    #[error("signature facts have a text of {0} bytes or with control characters")]
    Text(usize),
}

impl SignatureFacts {
    /// Checks what must hold for the answer to `question`, wherever it comes from.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn check(&self, question: &SignatureQuestion) -> Result<(), SignatureFactsError> {
        let SignatureQuestion { files, keys, roots } = question;
        let Self { signatures, rejected } = self;
        let mut asked: Vec<StoredSignature> = files.clone();
        let mut take = |wanted: &dyn Fn(&StoredSignature) -> bool| match asked.iter().position(wanted) {
            Some(at) => {
                asked.swap_remove(at);
                Ok(())
            }
            None => Err(SignatureFactsError::Files { wanted: files.len() }),
        };
        let known_root = |root: &Digest| roots.contains(root);
        let known_key = |fingerprint: &Digest| {
            let mut known = keys.iter().filter_map(|key| PublicKey::from_base64(key).ok());
            known.any(|key| key.fingerprint() == *fingerprint)
        };
        for signature in signatures {
            let Signature { blob, subject, format, signer, log, timestamp: _, predicate_type, repository } =
                signature;
            take(&|file| (file.subject, file.blob, file.format) == (*subject, *blob, *format))?;
            let known = match signer {
                Signer::Key { fingerprint } => known_key(fingerprint),
                Signer::Certificate { issuer, identity, root } => {
                    check_text(issuer)?;
                    check_text(identity)?;
                    known_root(root)
                }
            };
            if !known || !log.as_ref().is_none_or(|log| known_root(&log.root)) {
                return Err(SignatureFactsError::Signer);
            }
            log.as_ref().map_or(Ok(()), |log| check_text(&log.log_id))?;
            predicate_type.as_deref().map_or(Ok(()), check_text)?;
            repository.as_deref().map_or(Ok(()), check_text)?;
        }
        for RejectedSignature { blob, why } in rejected {
            take(&|file| file.blob == *blob)?;
            check_text(why)?;
        }
        if asked.is_empty() { Ok(()) } else { Err(SignatureFactsError::Files { wanted: files.len() }) }
    }
}

fn check_text(text: &str) -> Result<(), SignatureFactsError> {
    if text.len() > SIGNATURE_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(SignatureFactsError::Text(text.len()));
    }
    Ok(())
}

/// A signature that was verified: who signed which digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Hash of the stored file.
    pub blob: Digest,
    /// What was signed: the image's index or its manifest, proven by bytes.
    pub subject: Digest,
    /// What the file is.
    pub format: SignatureFormat,
    /// Who signed.
    pub signer: Signer,
    /// The log that has it, where its proof was verified.
    pub log: Option<LogEvidence>,
    /// When a timestamp authority of the node's roots saw it, in seconds since 1970; the earliest of several.
    pub timestamp: Option<i64>,
    /// Of an in-toto statement what it states; see [`Signature::is_attestation`].
    pub predicate_type: Option<String>,
    /// The repository that the signer wrote down: a hint, which may only tighten.
    pub repository: Option<String>,
}

impl Signature {
    /// Whether it states something about the image beyond "I signed this".
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.predicate_type.as_deref().is_some_and(|predicate| predicate != COSIGN_SIGN_PREDICATE)
    }
}

/// How a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureFormat {
    /// A sigstore bundle (cosign 3), `….bundle.json`.
    Bundle,
    /// Cosign 2's simple signing in a [`SimpleSigningFile`], `….simplesigning.json`.
    SimpleSigning,
}

impl SignatureFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bundle, Self::SimpleSigning];

    /// What the name of a stored file ends in, after the file's own hash.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            SignatureFormat::Bundle => ".bundle.json",
            SignatureFormat::SimpleSigning => ".simplesigning.json",
        }
    }
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Signer {
    /// Whoever holds the private half of a key of the node.
    Key {
        /// SHA-256 of the key's SubjectPublicKeyInfo in DER.
        fingerprint: Digest,
    },
    /// Whom a certificate authority of the node's trusted roots vouched for.
    Certificate {
        /// Who vouched for the identity to the authority: Fulcio's issuer extension.
        issuer: String,
        /// The certificate's only subject alternative name.
        identity: String,
        /// Hash of the trusted root's file.
        root: Digest,
    },
}

/// An entry of a transparency log, its inclusion proof or promise verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEvidence {
    /// Hash of the trusted root's file that has the log's key.
    pub root: Digest,
    /// Key ID of the log, in hexadecimal.
    pub log_id: String,
    /// Index of the entry.
    pub index: u64,
    /// When the log says that it took it, in seconds since 1970. Rekor 2 says nothing.
    pub integrated_at: Option<i64>,
}

/// A stored file that counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedSignature {
    /// Hash of the stored file.
    pub blob: Digest,
    /// Why.
    pub why: String,
}

/// A simple-signing signature as the node stores it: a layer of cosign's `sha256-….sig` image and its annotations in
/// one JSON object, each text as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleSigningFile {
    /// Base64 of the layer's bytes: what was signed.
    pub payload: String,
    /// `dev.cosignproject.cosign/signature`: base64.
    pub signature: String,
    /// `dev.sigstore.cosign/certificate`: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `dev.sigstore.cosign/chain`: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// `dev.sigstore.cosign/bundle`: the text of a JSON object, with the log's promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// `dev.sigstore.cosign/rfc3161timestamp`: the text of a JSON object, with the authority's timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc3161: Option<String>,
}
