//! Sigstore bundles: cosign 3's signatures and attestations, v0.1 to v0.3.

use bulkhead_model::{Digest, Signer};
use sigstore_verify::types::{
    Artifact, Bundle, DsseEnvelope, Sha256Hash, SignatureContent, Statement,
    bundle::VerificationMaterialContent,
};

use super::{
    SignatureFlaw, Verified,
    keys::{Keys, Signed},
    roots::{Evidence, Roots},
};
use crate::json;

/// The only payload of a DSSE envelope that says what it is about.
///
/// Source: in-toto attestation framework, envelope.md.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Statements that are understood.
///
/// Source: in-toto attestation framework, statement.md, v1 and v0.1.
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// Verifies a bundle about the manifest or index `subject`.
pub(super) fn verify(
    bytes: &[u8],
    subject: &Digest,
    keys: &Keys,
    roots: &Roots,
) -> Result<Verified, SignatureFlaw> {
    let hash = Sha256Hash::from_hex(&subject.hex()).map_err(|error| format("digest", &error))?;
    verify_about(bytes, &Artifact::from(hash), hash, keys, roots)
}

/// Verifies a bundle about `artifact`, whose SHA-256 is `hash`.
pub(super) fn verify_about(
    bytes: &[u8],
    artifact: &Artifact<'_>,
    hash: Sha256Hash,
    keys: &Keys,
    roots: &Roots,
) -> Result<Verified, SignatureFlaw> {
    json::parse(bytes).map_err(|flaw| SignatureFlaw::Json { part: "bundle", flaw })?;
    let text = std::str::from_utf8(bytes).map_err(|error| format("bundle", &error))?;
    let bundle = Bundle::from_json(text).map_err(|error| format("bundle", &error))?;
    let predicate_type = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Some(statement_about(envelope, hash)?.predicate_type),
        SignatureContent::MessageSignature(_) => None,
        _ => return Err(SignatureFlaw::Invalid("its kind of signature is unknown".to_owned())),
    };
    let (signer, evidence) = verify_signer(&bundle, artifact, hash, keys, roots)?;
    Ok(Verified { signer, evidence, predicate_type, repository: None })
}

/// Who signed the bundle's content, which is about `artifact`.
pub(super) fn verify_signer(
    bundle: &Bundle,
    artifact: &Artifact<'_>,
    hash: Sha256Hash,
    keys: &Keys,
    roots: &Roots,
) -> Result<(Signer, Evidence), SignatureFlaw> {
    let VerificationMaterialContent::PublicKey(hint) = &bundle.verification_material.content else {
        if roots.is_empty() {
            return Err(SignatureFlaw::NoRoot);
        }
        let (identity, root, evidence) = roots.certified(artifact, bundle)?;
        let signer = Signer::Certificate { issuer: identity.issuer, identity: identity.identity, root };
        return Ok((signer, evidence));
    };
    let key = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => {
            keys.signer(&Signed::Bytes(&envelope.pae()), &envelope.signature.sig, &hint.hint)?
        }
        SignatureContent::MessageSignature(message) => {
            if let Some(said) = &message.message_digest
                && said.digest.as_bytes() != hash.as_bytes()
            {
                return Err(about(hex(said.digest.as_bytes()), hash));
            }
            let signed = artifact.blob().map_or(Signed::Sha256(hash), Signed::Bytes);
            keys.signer(&signed, &message.signature, &hint.hint)?
        }
        _ => return Err(SignatureFlaw::Invalid("its kind of signature is unknown".to_owned())),
    };
    let material = &bundle.verification_material;
    let bare = material.tlog_entries.is_empty()
        && material.timestamp_verification_data.rfc3161_timestamps.is_empty();
    // Without a root nothing could tell a true log entry from a forged one, and none is believed.
    let evidence =
        if bare || roots.is_empty() { Evidence::default() } else { roots.keyed(artifact, bundle, key)? };
    Ok((Signer::Key { fingerprint: key.fingerprint }, evidence))
}

/// The statement in an envelope, if it is about `hash`.
fn statement_about(envelope: &DsseEnvelope, hash: Sha256Hash) -> Result<Statement, SignatureFlaw> {
    if envelope.payload_type != IN_TOTO {
        let why = format!("its type is {:?}", envelope.payload_type.chars().take(80).collect::<String>());
        return Err(SignatureFlaw::Format { part: "payload", why });
    }
    let payload = envelope.payload.as_bytes();
    json::parse(payload).map_err(|flaw| SignatureFlaw::Json { part: "statement", flaw })?;
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| format("statement", &error))?;
    if !STATEMENT_TYPES.contains(&statement.type_.as_str()) {
        let why = format!("its type is {:?}", statement.type_.chars().take(80).collect::<String>());
        return Err(SignatureFlaw::Format { part: "statement", why });
    }
    if !statement.matches_sha256(&hash) {
        let found = statement.subject.iter().filter_map(|subject| subject.digest.sha256);
        let found: Vec<String> = found.map(|found| hex(found.as_bytes())).take(2).collect();
        return Err(about(found.join(", "), hash));
    }
    Ok(statement)
}

fn about(found: String, wanted: Sha256Hash) -> SignatureFlaw {
    let found = if found.is_empty() { "nothing".to_owned() } else { format!("sha256:{found}") };
    match format!("sha256:{}", wanted.to_hex()).parse() {
        Ok(wanted) => SignatureFlaw::Subject { found, wanted },
        Err(error) => format("digest", &error),
    }
}

fn format(part: &'static str, error: &dyn std::fmt::Display) -> SignatureFlaw {
    SignatureFlaw::Format { part, why: error.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
