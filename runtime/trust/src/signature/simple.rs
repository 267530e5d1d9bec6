//! Cosign 2's simple signing: a JSON payload that names the digest, signed by a key or a certificate.
//!
//! The log promise and the timestamp that cosign keeps in annotations say the same as those of a sigstore bundle v0.1;
//! they are put into one and verified there.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_model::{Digest, SimpleSigningFile};
use serde::Deserialize;
use sigstore_verify::types::{
    Artifact, Bundle, DigestBytes, HashAlgorithm, MediaType, Sha256Hash, SignatureBytes, SignatureContent,
    VerificationMaterial,
    bundle::{
        MessageDigest, MessageSignature, PublicKeyIdentifier, Rfc3161Timestamp, TimestampVerificationData,
        TransparencyLogEntry, VerificationMaterialContent, X509Certificate,
    },
};

use super::{SignatureFlaw, Verified, bundle, keys::Keys, roots::Roots};
use crate::json::{self, JsonFlaw};

/// `critical.type` of a payload.
///
/// Source: sigstore, pkg/signature/payload, `CosignSignatureType`.
const COSIGN_TYPE: &str = "cosign container image signature";

/// Most certificates above the signer's.
const CHAIN_MAX: usize = 8;

/// Verifies a stored simple-signing signature about the manifest or index `subject`.
pub(super) fn verify(
    bytes: &[u8],
    subject: &Digest,
    keys: &Keys,
    roots: &Roots,
) -> Result<Verified, SignatureFlaw> {
    json::parse(bytes).map_err(|flaw| SignatureFlaw::Json { part: "file", flaw })?;
    let file: SimpleSigningFile = serde_json::from_slice(bytes).map_err(|error| wrong("file", &error))?;
    let payload = STANDARD.decode(&file.payload).map_err(|error| wrong("payload", &error))?;
    let repository = read_payload(&payload, subject)?;
    let hash = Sha256Hash::from_hex(&Digest::of(&payload).hex()).map_err(|error| wrong("payload", &error))?;
    let bundle = to_bundle(&file, hash)?;
    let artifact = Artifact::from(payload.as_slice());
    let (signer, evidence) = bundle::verify_signer(&bundle, &artifact, hash, keys, roots)?;
    Ok(Verified { signer, evidence, predicate_type: None, repository })
}

/// Checks that a payload is about `subject`, and returns the repository that it names.
fn read_payload(bytes: &[u8], subject: &Digest) -> Result<Option<String>, SignatureFlaw> {
    let flaw = |flaw| SignatureFlaw::Json { part: "payload", flaw };
    let payload = json::parse(bytes).map_err(flaw)?;
    let missing = |name| flaw(JsonFlaw::Missing(name));
    let critical = payload.object("critical").map_err(flaw)?.ok_or_else(|| missing("critical"))?;
    let found = critical.text("type").map_err(flaw)?;
    if found != COSIGN_TYPE {
        let why = format!("its type is {:?}", found.chars().take(80).collect::<String>());
        return Err(SignatureFlaw::Format { part: "payload", why });
    }
    let image = critical.object("image").map_err(flaw)?.ok_or_else(|| missing("image"))?;
    let found = image.text("docker-manifest-digest").map_err(flaw)?;
    if found.parse() != Ok(*subject) {
        let found = found.chars().take(80).collect();
        return Err(SignatureFlaw::Subject { found, wanted: *subject });
    }
    let identity = critical.object("identity").map_err(flaw)?;
    let repository = identity.map(|identity| identity.text("docker-reference")).transpose().map_err(flaw)?;
    Ok(repository.filter(|repository| !repository.is_empty()).map(str::to_owned))
}

/// The same signature as a bundle v0.1.
fn to_bundle(file: &SimpleSigningFile, hash: Sha256Hash) -> Result<Bundle, SignatureFlaw> {
    let SimpleSigningFile { payload: _, signature, certificate, chain, bundle, rfc3161 } = file;
    let signature = SignatureBytes::from_base64(signature).map_err(|error| wrong("signature", &error))?;
    let digest = MessageDigest::new(HashAlgorithm::Sha2256, DigestBytes::new(hash.as_bytes().to_vec()));
    let content =
        SignatureContent::MessageSignature(MessageSignature::new(signature).with_message_digest(digest));
    let signer = match certificate {
        None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
        Some(certificate) => VerificationMaterialContent::X509CertificateChain {
            certificates: certificates(certificate, chain.as_deref().unwrap_or_default())?,
        },
    };
    let mut material = VerificationMaterial::new(signer);
    if let Some(text) = bundle {
        material = material.with_tlog_entries(vec![log_entry(text)?]);
    }
    if let Some(text) = rfc3161 {
        let data = TimestampVerificationData::new(vec![timestamp(text)?]);
        material = material.with_timestamp_verification_data(data);
    }
    Ok(Bundle::new(MediaType::Bundle0_1, material, content))
}

/// The signer's certificate and those above it. A root among them proves nothing, and is not asked for.
fn certificates(leaf: &str, chain: &str) -> Result<Vec<X509Certificate>, SignatureFlaw> {
    let unreadable = |error: &dyn std::fmt::Display| wrong("certificate", error);
    // Of a text without a line the library subtracts 1 from its length.
    if leaf.trim().is_empty() {
        return Err(wrong("certificate", &"it is empty"));
    }
    let mut blocks =
        x509_cert::Certificate::load_pem_chain(leaf.as_bytes()).map_err(|error| unreadable(&error))?;
    if blocks.len() != 1 {
        return Err(wrong("certificate", &"it is not one"));
    }
    if !chain.trim().is_empty() {
        blocks.extend(
            x509_cert::Certificate::load_pem_chain(chain.as_bytes()).map_err(|error| unreadable(&error))?,
        );
    }
    if blocks.len() > CHAIN_MAX {
        return Err(wrong("certificate", &format_args!("more than {CHAIN_MAX} in its chain")));
    }
    let der = |certificate: &x509_cert::Certificate| x509_cert::der::Encode::to_der(certificate);
    blocks
        .iter()
        .map(|certificate| der(certificate).map(|der| X509Certificate::new(der.into())))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))
}

/// `dev.sigstore.cosign/bundle`.
///
/// Source: cosign, pkg/cosign/bundle/rekor.go, `RekorBundle`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RekorBundle {
    signed_entry_timestamp: String,
    payload: RekorPayload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RekorPayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

fn log_entry(text: &str) -> Result<TransparencyLogEntry, SignatureFlaw> {
    const PART: &str = "log promise";
    json::parse(text.as_bytes()).map_err(|flaw| SignatureFlaw::Json { part: PART, flaw })?;
    let RekorBundle { signed_entry_timestamp, payload } =
        serde_json::from_str(text).map_err(|error| wrong(PART, &error))?;
    let RekorPayload { body, integrated_time, log_index, log_id } = payload;
    let log_id = Sha256Hash::from_hex(&log_id).map_err(|error| wrong(PART, &error))?;
    let entry = STANDARD.decode(&body).map_err(|error| wrong(PART, &error))?;
    let head = json::parse(&entry).map_err(|flaw| SignatureFlaw::Json { part: PART, flaw })?;
    let text_of = |name| head.text(name).map_err(|flaw| SignatureFlaw::Json { part: PART, flaw });
    // The library's reader takes it from here: the kinds it knows, and the range of times.
    let entry = serde_json::json!({
        "logIndex": log_index.to_string(),
        "logId": {"keyId": log_id.to_base64()},
        "kindVersion": {"kind": text_of("kind")?, "version": text_of("apiVersion")?},
        "integratedTime": integrated_time.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": signed_entry_timestamp},
        "canonicalizedBody": body,
    });
    serde_json::from_value(entry).map_err(|error| wrong(PART, &error))
}

/// `dev.sigstore.cosign/rfc3161timestamp`.
///
/// Source: cosign, pkg/cosign/bundle/tsa.go, `RFC3161Timestamp`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CosignTimestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

fn timestamp(text: &str) -> Result<Rfc3161Timestamp, SignatureFlaw> {
    const PART: &str = "timestamp";
    json::parse(text.as_bytes()).map_err(|flaw| SignatureFlaw::Json { part: PART, flaw })?;
    let CosignTimestamp { token } = serde_json::from_str(text).map_err(|error| wrong(PART, &error))?;
    let token = serde_json::from_value(token.into()).map_err(|error| wrong(PART, &error))?;
    Ok(Rfc3161Timestamp::new(token))
}

fn wrong(part: &'static str, error: &dyn std::fmt::Display) -> SignatureFlaw {
    SignatureFlaw::Format { part, why: error.to_string() }
}
