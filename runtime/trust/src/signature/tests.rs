#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_model::Signer;
use proptest::prelude::*;
use sigstore_verify::{crypto::KeyPair, types::pae};

use super::*;

/// What integration/signatures/make.py made about this: `make.py DIR sha256:$(printf image | sha256sum)`.
fn file(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/signatures").join(name)).unwrap()
}

fn subject() -> Digest {
    Digest::of(b"image")
}

fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&String::from_utf8(file(name)).unwrap()).unwrap()
}

fn node() -> Verifier {
    let keys = ["rsa.pub", "ed25519.pub", "p384.pub", "key.pub"].map(key);
    Verifier::new(&keys, &[file("other_root.json"), file("trusted_root.json")]).unwrap()
}

fn verify(node: &Verifier, name: &str, bytes: &[u8]) -> Result<Signature, SignatureFlaw> {
    let format = match name.split('.').nth(1) {
        Some("bundle") => SignatureFormat::Bundle,
        _ => SignatureFormat::SimpleSigning,
    };
    node.verify(&StoredSignature { subject: subject(), blob: Digest::of(bytes), format }, bytes)
}

/// Each good one, with whether it is keyless, has a log entry, has a timestamp.
const GOOD: [(&str, bool, bool, bool); 16] = [
    ("good-keyless.bundle.json", true, true, false),
    ("good-keyless-rekor-2.bundle.json", true, true, true),
    ("good-keyless-timestamp-and-log.bundle.json", true, true, true),
    ("good-keyless-timestamp-alone.bundle.json", true, false, true),
    ("good-keyed.bundle.json", false, false, false),
    ("good-keyed-logged.bundle.json", false, true, false),
    ("good-keyed.simplesigning.json", false, false, false),
    ("good-keyed-logged.simplesigning.json", false, true, false),
    ("good-keyless.simplesigning.json", true, true, false),
    ("good-attestation.bundle.json", true, true, false),
    ("good-p384.bundle.json", false, false, false),
    ("good-p384.simplesigning.json", false, false, false),
    ("good-ed25519.bundle.json", false, false, false),
    ("good-ed25519.simplesigning.json", false, false, false),
    ("good-rsa.bundle.json", false, false, false),
    ("good-rsa.simplesigning.json", false, false, false),
];

/// Each bad one, with what is said of it.
const BAD: [(&str, &str); 29] = [
    ("bad-forged-promise.bundle.json", "SET"),
    ("bad-backdated.bundle.json", "SET"),
    ("bad-promise-by-other-log.bundle.json", "SET"),
    ("bad-inclusion-proof.bundle.json", "inclusion proof"),
    ("bad-checkpoint-by-other-log.bundle.json", "checkpoint"),
    ("bad-unknown-log.bundle.json", "is in none of the trusted roots"),
    ("bad-entry-of-other-signature.bundle.json", "match"),
    ("bad-second-entry.bundle.json", "inclusion proof"),
    ("bad-entry-without-proof.bundle.json", "log entry without"),
    ("bad-no-time.bundle.json", "timestamp"),
    ("bad-expired-certificate.bundle.json", "CertExpired"),
    ("bad-certificate-of-other-authority.bundle.json", "certificate"),
    ("bad-certificate-not-in-its-log.bundle.json", "SCT"),
    ("bad-certificate-log-forged.bundle.json", "SCT"),
    ("bad-two-identities.bundle.json", "names 2 identities"),
    ("bad-no-issuer.bundle.json", "no issuer"),
    ("bad-edited-payload.bundle.json", "signature"),
    ("bad-other-digest.bundle.json", "it is about"),
    ("bad-statement-type.bundle.json", "statement"),
    ("bad-timestamp-of-other-authority.bundle.json", "imestamp"),
    ("bad-timestamp-of-other-signature.bundle.json", "imestamp"),
    ("bad-rekor-2-without-timestamp.bundle.json", "imestamp"),
    ("bad-other-key.bundle.json", "no key of this node made it: it says key sha256:"),
    ("bad-keyed-inclusion-proof.bundle.json", "inclusion proof"),
    ("bad-other-key.simplesigning.json", "no key of this node"),
    ("bad-other-digest.simplesigning.json", "it is about sha256:"),
    ("bad-forged-promise.simplesigning.json", "SET"),
    ("bad-expired-certificate.simplesigning.json", "CertExpired"),
    ("bad-certificate-of-other-authority.simplesigning.json", "certificate"),
];

#[test]
fn every_good_signature_is_a_fact_with_its_signer_log_and_time() {
    let node = node();
    for (name, keyless, log, timestamp) in GOOD {
        let signature = verify(&node, name, &file(name)).unwrap_or_else(|flaw| panic!("{name}: {flaw}"));
        match &signature.signer {
            Signer::Certificate { issuer, identity, root } => {
                assert!(keyless, "{name}");
                assert_eq!(issuer, "https://issuer.example");
                assert_eq!(identity, "https://ci.example/team-a/app/release.yml@refs/tags/v1");
                assert_eq!(*root, Digest::of(&file("trusted_root.json")));
            }
            Signer::Key { .. } => assert!(!keyless, "{name}"),
        }
        assert_eq!(signature.log.is_some(), log, "{name}");
        assert_eq!(signature.timestamp.is_some(), timestamp, "{name}");
        assert_eq!(signature.is_attestation(), name.contains("attestation"), "{name}");
        let simple = signature.format == SignatureFormat::SimpleSigning;
        assert_eq!(signature.repository.as_deref(), simple.then_some("registry.test/team-a/app"), "{name}");
    }
}

#[test]
fn every_bad_signature_is_rejected_with_its_reason() {
    let node = node();
    for (name, wanted) in BAD {
        match verify(&node, name, &file(name)) {
            Ok(signature) => panic!("{name} was accepted: {signature:?}"),
            Err(flaw) => assert!(flaw.to_string().contains(wanted), "{name}: {flaw}"),
        }
    }
    let made = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/signatures")).unwrap();
    assert_eq!(made.count(), GOOD.len() + BAD.len() + 6, "each file is judged, but for roots and key");
}

#[test]
fn signature_of_another_image_or_without_its_root_or_key_is_no_fact() {
    let node = node();
    let bare = Verifier::new(&[], &[]).unwrap();
    let other = Verifier::new(&[], &[file("other_root.json")]).unwrap();
    for (name, ..) in GOOD {
        let bytes = file(name);
        let format =
            if name.contains(".bundle.") { SignatureFormat::Bundle } else { SignatureFormat::SimpleSigning };
        let elsewhere = StoredSignature { subject: Digest::of(b"other"), blob: Digest::of(&bytes), format };
        let flaw = node.verify(&elsewhere, &bytes).unwrap_err();
        assert!(matches!(flaw, SignatureFlaw::Subject { .. }), "{name}: {flaw}");
        assert!(verify(&bare, name, &bytes).is_err(), "{name}");
        assert!(verify(&other, name, &bytes).is_err(), "{name}");
        let damaged = StoredSignature { subject: subject(), blob: Digest::of(b"other"), format };
        assert_eq!(node.verify(&damaged, &bytes), Err(SignatureFlaw::Damaged));
    }
    // Without a root a key's signature stands, and its log entry says nothing.
    let name = "good-keyed-logged.bundle.json";
    let signature = verify(&Verifier::new(&[key("key.pub")], &[]).unwrap(), name, &file(name)).unwrap();
    assert_eq!(signature.log, None);
}

#[test]
fn bad_file_beside_a_good_one_spoils_nothing_but_itself() {
    let node = node();
    let mut facts = SignatureFacts::default();
    for name in ["bad-forged-promise.bundle.json", "good-keyed.bundle.json"] {
        let bytes = file(name);
        let format = SignatureFormat::Bundle;
        node.judge(
            &StoredSignature { subject: subject(), blob: Digest::of(&bytes), format },
            &bytes,
            &mut facts,
        );
    }
    assert_eq!((facts.signatures.len(), facts.rejected.len()), (1, 1));
}

fn bundle_by(pair: &KeyPair, payload: &[u8]) -> Vec<u8> {
    let signature = pair.sign(&pae("application/vnd.in-toto+json", payload)).unwrap();
    serde_json::json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(payload),
            "signatures": [{"sig": signature.to_base64()}]}})
    .to_string()
    .into_bytes()
}

fn statement() -> String {
    serde_json::json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{"name": "", "digest": {"sha256": subject().hex()}}], "predicate": {}})
    .to_string()
}

#[test]
fn every_kind_of_key_signs_for_itself_alone() {
    let kinds = ["p384", "ed25519", "rsa"];
    for own in kinds {
        for other in kinds {
            let one = Verifier::new(&[key(&format!("{other}.pub"))], &[]).unwrap();
            for format in ["bundle", "simplesigning"] {
                let name = format!("good-{own}.{format}.json");
                let found = verify(&one, &name, &file(&name));
                assert_eq!(found.is_ok(), own == other, "{name} by {other}: {found:?}");
            }
        }
    }
}

#[test]
fn json_with_two_readings_or_too_much_of_it_reaches_no_library() {
    let node = node();
    let good = String::from_utf8(file("good-keyed.bundle.json")).unwrap();
    let deep = format!("{{\"a\":{}{}, {}", "[".repeat(300), "]".repeat(300), &good[1..]);
    let wide = format!("{{\"a\":[{}0], {}", "0,".repeat(200_001), &good[1..]);
    let twice = good.replacen("{\"mediaType\":", "{\"mediaType\": \"x\", \"mediaType\":", 1).replacen(
        "{\"mediaType\": ",
        "{\"mediaType\": \"x\", \"mediaType\": ",
        1,
    );
    for text in
        [&deep, &wide, &twice, &good[..good.len() - 1], &format!("{good}{good}"), "", "null", "[]", "{}"]
    {
        let flaw = verify(&node, "x.bundle", text.as_bytes()).unwrap_err();
        let early = matches!(flaw, SignatureFlaw::Json { part: "bundle", .. } | SignatureFlaw::Format { .. });
        assert!(early, "{flaw}");
    }
    let huge = vec![b' '; SIGNATURE_BYTES_MAX as usize + 1];
    assert_eq!(verify(&node, "x.bundle", &huge), Err(SignatureFlaw::Size));
    // Inside of what is signed, too.
    let pair = KeyPair::generate_ecdsa_p256().unwrap();
    let der = pair.public_key_der().unwrap().as_bytes().to_vec();
    let own = Verifier::new(&[PublicKey::from_der(der).unwrap()], &[]).unwrap();
    let doubled = statement().replacen('{', "{\"predicate\":{},", 1);
    let flaw = verify(&own, "x.bundle", &bundle_by(&pair, doubled.as_bytes())).unwrap_err();
    assert!(matches!(flaw, SignatureFlaw::Json { part: "statement", .. }), "{flaw}");
}

#[test]
fn keys_and_roots_that_are_none_are_named() {
    let junk = PublicKey::from_der(b"junk".to_vec()).unwrap();
    let error = Verifier::new(std::slice::from_ref(&junk), &[]).err().unwrap();
    assert!(error.to_string().contains(&junk.fingerprint().to_string()), "{error}");
    let root = String::from_utf8(file("trusted_root.json")).unwrap();
    for text in ["", "{}", &root[..root.len() / 2], &root.replacen('{', "{\"tlogs\":[],", 1)] {
        let error = Verifier::new(&[], &[text.as_bytes().to_vec()]).err().unwrap();
        assert!(error.to_string().contains(&Digest::of(text.as_bytes()).to_string()), "{error}");
    }
}

/// Changes `bytes` at a few places: another byte, a cut, a piece twice.
fn mutated(mut bytes: Vec<u8>, changes: &[(u8, usize, u8)]) -> Vec<u8> {
    for (kind, at, byte) in changes {
        let Some(at) = at.checked_rem(bytes.len()) else { break };
        match kind % 4 {
            0 | 1 => bytes[at] = *byte,
            2 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..(at + usize::from(*byte)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

type IsGone = fn(&Signature) -> bool;

/// Bad by evidence that need not be there, and what shows that it is gone: who can change a byte of a file can as well
/// leave that out, by a misspelt name too, and gains no signer.
const BAD_BY_MORE: [(&str, IsGone); 3] = [
    ("bad-timestamp-of-other-authority.bundle.json", |found| found.timestamp.is_none()),
    ("bad-timestamp-of-other-signature.bundle.json", |found| found.timestamp.is_none()),
    ("bad-keyed-inclusion-proof.bundle.json", |found| found.log.is_none()),
];

/// Tries `tries` mutations of each file: none panics, and none that is accepted says another signer or subject.
fn fuzz(tries: u32) {
    let node = node();
    let names: Vec<&str> = GOOD.iter().map(|case| case.0).chain(BAD.iter().map(|case| case.0)).collect();
    let config = ProptestConfig { cases: tries, failure_persistence: None, ..ProptestConfig::default() };
    let changes = prop::collection::vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..4);
    proptest!(config, |(at in 0..names.len(), changes in changes)| {
        let (name, bytes) = (names[at], file(names[at]));
        let found = verify(&node, name, &mutated(bytes.clone(), &changes));
        if let (Ok(found), Ok(true_one)) = (&found, verify(&node, name, &bytes)) {
            prop_assert_eq!(&found.signer, &true_one.signer);
            prop_assert_eq!(&found.repository, &true_one.repository);
        }
        if let (Ok(found), false) = (&found, name.starts_with("good")) {
            let gone = BAD_BY_MORE.iter().find(|(bad, _)| *bad == name).map(|(_, gone)| gone(found));
            prop_assert_eq!(gone, Some(true), "{}", name);
        }
    });
    let roots = ["trusted_root.json", "other_root.json"];
    let changes = prop::collection::vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..4);
    let config = ProptestConfig { cases: tries / 4, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(at in 0..2_usize, changes in changes)| {
        drop(Verifier::new(&[], &[mutated(file(roots[at]), &changes)]));
    });
}

#[test]
fn evidence_that_need_not_be_there_gains_nothing_by_its_absence() {
    let node = node();
    for (name, gone) in BAD_BY_MORE {
        let text = String::from_utf8(file(name)).unwrap();
        assert!(verify(&node, name, text.as_bytes()).is_err(), "{name}");
        let misspelt = text.replace("rfc3161Timestamps", "rfc3161Timestampz");
        let misspelt = match name.contains("keyed") {
            true => misspelt.replace("tlogEntries", "tlogEntriez"),
            false => misspelt,
        };
        let found = verify(&node, name, misspelt.as_bytes()).unwrap_or_else(|flaw| panic!("{name}: {flaw}"));
        assert!(gone(&found), "{name}: {found:?}");
    }
}

#[test]
fn mutated_signatures_and_roots_neither_panic_nor_gain_a_signer() {
    fuzz(200);
}

#[test]
#[ignore = "long"]
fn many_mutated_signatures_and_roots_neither_panic_nor_gain_a_signer() {
    fuzz(50_000);
}
