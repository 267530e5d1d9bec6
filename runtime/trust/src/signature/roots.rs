//! The node's trusted roots: certificate authorities, logs and timestamp authorities, each root by itself.
//!
//! Invariant: all evidence of one bundle is verified by one root. Invariant: of a root's logs only the one that the entry
//! names takes part, so that no log can vouch with its checkpoint for an entry of another.

use bulkhead_model::{Digest, LogEvidence};
use sigstore_verify::{
    PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier,
    trust_root::TrustedRoot,
    types::{Artifact, Bundle, KindVersion, LogKeyId, MediaType},
};

use super::{
    MaterialError, SignatureFlaw,
    identity::{self, Identity},
    keys::Key,
};
use crate::json;

/// What a root vouches for beside the signer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) log: Option<LogEvidence>,
    pub(super) timestamp: Option<i64>,
}

/// Roots that can verify.
pub(super) struct Roots(Vec<Root>);

struct Root {
    digest: Digest,
    trusted: TrustedRoot,
}

impl Roots {
    pub(super) fn new(roots: &[Vec<u8>]) -> Result<Self, MaterialError> {
        roots.iter().map(|bytes| Root::new(bytes)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies the evidence of a bundle that `key` signed.
    pub(super) fn keyed(
        &self,
        artifact: &Artifact<'_>,
        bundle: &Bundle,
        key: &Key,
    ) -> Result<Evidence, SignatureFlaw> {
        let policy = PublicKeyVerificationPolicy::new(key.der.clone());
        let policy = if has_entries(bundle) { policy } else { policy.skip_tlog_unsafe() };
        self.try_each(bundle, |root, verifier| {
            let result = verifier.verify(artifact.clone(), bundle, &policy)?;
            // The log's times come first, the authorities' after them.
            let skip = result.verified_timestamps().len().saturating_sub(timestamps(bundle));
            Ok(evidence(root, bundle, &result, skip))
        })
    }

    /// Verifies a bundle that was signed with a certificate.
    pub(super) fn certified(
        &self,
        artifact: &Artifact<'_>,
        bundle: &Bundle,
    ) -> Result<(Identity, Digest, Evidence), SignatureFlaw> {
        let (identity, digest, evidence) = self.try_each(bundle, |root, verifier| {
            let mut policy = VerificationPolicy::any_identity();
            if !has_entries(bundle) {
                policy = policy.skip_tlog_unsafe();
            }
            // A root without a certificate log, such as GitHub's, asks for no entry in one.
            if root.trusted.ctlogs.is_empty() {
                policy = policy.skip_sct();
            }
            let result = verifier.verify(artifact.clone(), bundle, &policy)?;
            if !result.certificate_verified() {
                return Err(SignatureFlaw::NoRoot);
            }
            // The authorities' times come first, the log's after them.
            Ok((identity::of(bundle, &result)?, root.digest, evidence(root, bundle, &result, 0)))
        })?;
        Ok((identity, digest, evidence))
    }

    /// The answer of the first root that verifies the bundle, or why the last one that knows its log did not.
    fn try_each<T>(
        &self,
        bundle: &Bundle,
        verify: impl Fn(&Root, &Verifier) -> Result<T, SignatureFlaw>,
    ) -> Result<T, SignatureFlaw> {
        let log = log_of(bundle)?;
        let mut why = match log {
            None => SignatureFlaw::NoRoot,
            Some(log) => SignatureFlaw::UnknownLog(hex(log.as_bytes())),
        };
        for root in &self.0 {
            let mut trusted = root.trusted.clone();
            trusted.tlogs.retain(|known| Some(&known.log_id.key_id) == log);
            if log.is_some() && trusted.tlogs.is_empty() {
                continue;
            }
            match Verifier::new(&trusted).map_err(SignatureFlaw::from).and_then(|one| verify(root, &one)) {
                Ok(answer) => return Ok(answer),
                Err(flaw) => why = flaw,
            }
        }
        Err(why)
    }
}

impl Root {
    fn new(bytes: &[u8]) -> Result<Self, MaterialError> {
        let digest = Digest::of(bytes);
        let wrong = |why: String| MaterialError::Root { root: digest, why };
        json::parse(bytes).map_err(|flaw| MaterialError::Json { root: digest, flaw })?;
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let trusted = TrustedRoot::from_json(text).map_err(|error| wrong(error.to_string()))?;
        Verifier::new(&trusted).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { digest, trusted })
    }
}

impl From<sigstore_verify::Error> for SignatureFlaw {
    fn from(error: sigstore_verify::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        SignatureFlaw::Invalid(text)
    }
}

/// The log that all entries are of. Each entry must bring what its bundle's version promises: the library asks for one.
fn log_of(bundle: &Bundle) -> Result<Option<&LogKeyId>, SignatureFlaw> {
    let mut log = None;
    for entry in &bundle.verification_material.tlog_entries {
        match (bundle.media_type, &entry.inclusion_proof, &entry.inclusion_promise) {
            (_, Some(_), _) | (MediaType::Bundle0_1, None, Some(_)) => {}
            (MediaType::Bundle0_1, None, None) => {
                return Err(SignatureFlaw::EmptyEntry("inclusion proof or promise"));
            }
            (_, None, _) => return Err(SignatureFlaw::EmptyEntry("inclusion proof")),
        }
        let id = &entry.log_id.key_id;
        if log.is_some_and(|other| other != id) {
            return Err(SignatureFlaw::SeveralLogs);
        }
        log = Some(id);
    }
    Ok(log)
}

fn has_entries(bundle: &Bundle) -> bool {
    !bundle.verification_material.tlog_entries.is_empty()
}

fn timestamps(bundle: &Bundle) -> usize {
    bundle.verification_material.timestamp_verification_data.rfc3161_timestamps.len()
}

/// What a root vouched for. The authorities' times stand in the result after `skip` others.
fn evidence(root: &Root, bundle: &Bundle, result: &VerificationResult, skip: usize) -> Evidence {
    let times = result.verified_timestamps().iter().skip(skip).take(timestamps(bundle));
    let entry = bundle.verification_material.tlog_entries.first().filter(|_| result.tlog_verified());
    let log = entry.map(|entry| LogEvidence {
        root: root.digest,
        log_id: hex(entry.log_id.key_id.as_bytes()),
        index: entry.log_index.get(),
        // Only the promise of a Rekor 1 is over the time.
        integrated_at: entry
            .integrated_time
            .filter(|_| {
                entry.inclusion_promise.is_some() && entry.kind_version != KindVersion::HashedRekordV002
            })
            .map(|time| time.as_second()),
    });
    Evidence { log, timestamp: times.min().map(|time| time.as_second()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
