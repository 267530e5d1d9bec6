//! What a sigstore bundle says that it is about, to file it by. The judge proves it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_model::Digest;
use serde::Deserialize;

use crate::GatherError;

/// What a bundle's media type begins with: `…+json;version=0.1` and `….v0.3+json`.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// Source: sigstore/protobuf-specs, sigstore_bundle.proto, in its JSON form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

/// Source: in-toto attestation framework, statement v1.
#[derive(Deserialize)]
struct Statement {
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: Option<String>,
}

/// Whether the bytes begin as a bundle does.
pub(crate) fn is_bundle(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Bundle>(bytes).is_ok_and(|bundle| bundle.media_type.starts_with(MEDIA_TYPE))
}

/// The digests that a bundle is about, as it says itself.
pub(crate) fn subjects(what: &str, bytes: &[u8]) -> Result<Vec<Digest>, GatherError> {
    let wrong = |why: String| GatherError::document(what, "sigstore bundle", why);
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let Bundle { media_type, dsse_envelope, message_signature } = bundle;
    if !media_type.starts_with(MEDIA_TYPE) {
        return Err(wrong(format!("its mediaType is {media_type:?}")));
    }
    let hex: Vec<String> = match (dsse_envelope, message_signature) {
        (Some(Envelope { payload }), None) => {
            let text = STANDARD.decode(payload).map_err(|error| wrong(format!("payload: {error}")))?;
            let statement: Statement =
                serde_json::from_slice(&text).map_err(|error| wrong(format!("statement: {error}")))?;
            statement.subject.into_iter().filter_map(|subject| subject.digest.sha256).collect()
        }
        (None, Some(MessageSignature { message_digest: Some(MessageDigest { algorithm, digest }) })) => {
            if algorithm != "SHA2_256" {
                return Err(wrong(format!("it is about a digest by {algorithm}, not by SHA2_256")));
            }
            let bytes = STANDARD.decode(digest).map_err(|error| wrong(format!("digest: {error}")))?;
            vec![bytes.iter().map(|byte| format!("{byte:02x}")).collect()]
        }
        _ => return Err(wrong("it names no digest of what was signed".to_owned())),
    };
    let mut subjects: Vec<Digest> = hex
        .iter()
        .map(|hex| format!("sha256:{hex}").parse())
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("a digest of what was signed is none".to_owned()))?;
    subjects.sort();
    subjects.dedup();
    match subjects.len() {
        0 => Err(wrong("it is about nothing that has a SHA-256".to_owned())),
        1..=SUBJECTS_MAX => Ok(subjects),
        many => Err(wrong(format!("it is about {many} things, more than {SUBJECTS_MAX}"))),
    }
}

/// Most things that one bundle may be about: an image's index and its manifests.
const SUBJECTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn dsse(statement: &str) -> Vec<u8> {
        let payload = STANDARD.encode(statement);
        format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{}},
                "dsseEnvelope":{{"payload":"{payload}","payloadType":"application/vnd.in-toto+json","signatures":[]}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn bundle_is_filed_under_every_digest_of_its_statement() {
        let digest = Digest::of(b"x");
        let statement = format!(
            r#"{{"subject":[{{"digest":{{"sha256":"{0}"}}}},{{"digest":{{"sha256":"{0}"}}}},{{"digest":{{"sha1":"00"}}}}]}}"#,
            digest.hex()
        );
        assert_eq!(subjects("b", &dsse(&statement)).unwrap(), [digest]);
    }

    #[test]
    fn bundle_of_a_message_is_filed_under_its_digest() {
        let digest = Digest::of(b"x");
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16).unwrap()).collect();
        let text = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.1",
                "messageSignature":{{"messageDigest":{{"algorithm":"SHA2_256","digest":"{}"}},"signature":""}}}}"#,
            STANDARD.encode(bytes)
        );
        assert_eq!(subjects("b", text.as_bytes()).unwrap(), [digest]);
    }

    #[test]
    fn documents_that_are_no_bundle_are_errors_and_none_panics() {
        let deep = "[".repeat(100_000);
        let many = format!(
            r#"{{"subject":[{}]}}"#,
            (0..40u8)
                .map(|n| format!(r#"{{"digest":{{"sha256":"{}"}}}}"#, Digest::of(&[n]).hex()))
                .collect::<Vec<_>>()
                .join(",")
        );
        for bytes in [
            b"".to_vec(),
            b"{}".to_vec(),
            b"null".to_vec(),
            deep.clone().into_bytes(),
            format!(r#"{{"mediaType":{deep}"#).into_bytes(),
            br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#.to_vec(),
            br#"{"mediaType":"a","mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#.to_vec(),
            dsse("{}"),
            dsse(r#"{"subject":[]}"#),
            dsse(r#"{"subject":[{"digest":{"sha256":"../../etc/passwd"}}]}"#),
            dsse(&many),
        ] {
            assert!(
                subjects("b", &bytes).is_err(),
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(99)])
            );
        }
    }
}
