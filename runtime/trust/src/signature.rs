//! Finds out who signed an image: stored files + the node's keys and roots → [`SignatureFacts`].
//!
//! ```text
//! ….bundle.json ────────┬─ publicKey ──► one of the node's keys ──┬─ log entries, timestamps ─► sigstore-verify, a root
//!                       │                                         └─ neither (air-gapped) ────► here: DSSE, statement
//!                       └─ certificate ► sigstore-verify, a root ─► issuer and identity
//! ….simplesigning.json ──► payload names the digest; the same roads, its log promise as a v0.1 bundle
//! ```
//!
//! Invariant: a signature is a fact only where a key or root of the node verified it, and only about the subject that it
//! was asked about, by digest. All evidence that a file brings must verify: of two log entries one bad one is enough to
//! reject the file. Invariant: a file that is rejected spoils no other.
//! Invariant: JSON is read by [`crate::json`] first: what two readers could understand differently, or what is too deep
//! or has too many values, never reaches a library.
//! Never here: which signer is good enough, how old a root may be; that is policy's.

mod bundle;
mod error;
mod identity;
mod keys;
mod roots;
mod simple;

use bulkhead_model::{
    Digest, PublicKey, RejectedSignature, SIGNATURE_BYTES_MAX, SIGNATURE_TEXT_BYTES_MAX, Signature,
    SignatureFacts, SignatureFormat, StoredSignature,
};

pub use error::{MaterialError, SignatureFlaw};
use keys::Keys;
use roots::Roots;

/// The node's keys and roots, ready to verify with.
pub struct Verifier {
    keys: Keys,
    roots: Roots,
}

impl Verifier {
    /// Reads keys and trusted roots (`trusted_root.json`).
    ///
    /// # Errors
    /// One of them cannot be used: which, and why.
    pub fn new(keys: &[PublicKey], roots: &[Vec<u8>]) -> Result<Self, MaterialError> {
        Ok(Self { keys: Keys::new(keys)?, roots: Roots::new(roots)? })
    }

    /// Says in `facts` what a file is worth.
    pub fn judge(&self, file: &StoredSignature, bytes: &[u8], facts: &mut SignatureFacts) {
        match self.verify(file, bytes) {
            Ok(signature) => facts.signatures.push(signature),
            Err(flaw) => facts.rejected.push(RejectedSignature { blob: file.blob, why: clean(&flaw) }),
        }
    }

    /// Verifies one file.
    ///
    /// # Errors
    /// Why it counts for nothing.
    pub fn verify(&self, file: &StoredSignature, bytes: &[u8]) -> Result<Signature, SignatureFlaw> {
        let StoredSignature { subject, blob, format } = file;
        if bytes.len() as u64 > SIGNATURE_BYTES_MAX {
            return Err(SignatureFlaw::Size);
        }
        if Digest::of(bytes) != *blob {
            return Err(SignatureFlaw::Damaged);
        }
        let verified = match format {
            SignatureFormat::Bundle => bundle::verify(bytes, subject, &self.keys, &self.roots)?,
            SignatureFormat::SimpleSigning => simple::verify(bytes, subject, &self.keys, &self.roots)?,
        };
        let Verified { signer, evidence, predicate_type, repository } = verified;
        for text in predicate_type.iter().chain(&repository) {
            check_text(text)?;
        }
        Ok(Signature {
            blob: *blob,
            subject: *subject,
            format: *format,
            signer,
            log: evidence.log,
            timestamp: evidence.timestamp,
            predicate_type,
            repository,
        })
    }
}

/// What the two formats have in common.
struct Verified {
    signer: bulkhead_model::Signer,
    evidence: roots::Evidence,
    predicate_type: Option<String>,
    repository: Option<String>,
}

/// A text that facts may hold.
fn check_text(text: &str) -> Result<(), SignatureFlaw> {
    if text.len() > SIGNATURE_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(SignatureFlaw::Text);
    }
    Ok(())
}

/// Why, with its causes, as facts may hold it: libraries quote what they read.
fn clean(flaw: &SignatureFlaw) -> String {
    let text = flaw.to_string();
    let mut text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(300).collect();
    if text.len() > SIGNATURE_TEXT_BYTES_MAX {
        text = text.chars().take(SIGNATURE_TEXT_BYTES_MAX / 4).collect();
    }
    text
}

#[cfg(test)]
mod tests;
