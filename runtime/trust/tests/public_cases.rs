//! Public cases: the test data that the verifying library is published with, through our own judge.
//!
//! Among them are cases of sigstore-python, sigstore-go, sigstore-js, cosign 3 and conda, of the public instance, its
//! staging, and GitHub's. Those that are about something else than a bundle about a digest are not here.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bulkhead_model::{Digest, PublicKey, SignatureFormat, StoredSignature};
use bulkhead_trust::signature::Verifier;

/// Where cargo keeps the sources of the library that Cargo.lock names.
fn data() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let library = packages.iter().find(|package| package["name"] == "sigstore-verify").unwrap();
    Path::new(library["manifest_path"].as_str().unwrap()).with_file_name("test_data")
}

/// The digest that a bundle says it is about.
fn subject(bundle: &serde_json::Value) -> Option<Digest> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if let Some(digest) = bundle["messageSignature"]["messageDigest"]["digest"].as_str() {
        let hex: String = STANDARD.decode(digest).ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
        return format!("sha256:{hex}").parse().ok();
    }
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str()?).ok()?;
    let statement: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str()?).parse().ok()
}

/// What is to come of a case.
enum Expected {
    Accepted,
    /// A bad one, and what is said of it.
    Rejected(&'static str),
    /// Not bad by its authors, and rejected here for this reason.
    Exception(&'static str),
}

/// Bundle, trusted root, key.
const CASES: &[([&str; 3], Expected)] = &[
    (["bundles/conda-attestation.sigstore.json", "trusted_roots/public-good.json", ""], Expected::Accepted),
    (["bundles/bundle_v3_github.whl.sigstore", "trusted_roots/public-good.json", ""], Expected::Accepted),
    (
        [
            "sct-multi-intermediate/staging_bundle.sigstore.json",
            "sct-multi-intermediate/staging_trusted_root.json",
            "",
        ],
        Expected::Accepted,
    ),
    (["timestamps/valid_bundle.json", "timestamps/valid_trusted_root.json", ""], Expected::Accepted),
    (
        ["bundles/bundle_cve_2022_36056.txt.sigstore", "trusted_roots/public-good.json", ""],
        Expected::Rejected("is in none of the trusted roots"),
    ),
    (
        ["bundles/bundle_invalid_version.txt.sigstore", "trusted_roots/public-good.json", ""],
        Expected::Rejected("Invalid media type"),
    ),
    (
        ["bundles/bundle_no_cert_v1.txt.sigstore", "trusted_roots/public-good.json", ""],
        Expected::Rejected("no checkpoint"),
    ),
    (
        ["bundles/bundle_no_checkpoint.txt.sigstore", "trusted_roots/public-good.json", ""],
        Expected::Rejected("is in none of the trusted roots"),
    ),
    (
        ["bundles/bundle_no_log_entry.txt.sigstore", "trusted_roots/public-good.json", ""],
        Expected::Rejected("inclusion promise"),
    ),
    (
        ["bundles/bundle_v3_no_signed_time.txt.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Rejected("timestamp"),
    ),
    (
        ["invalid-ct-key_fail/bundle.sigstore.json", "invalid-ct-key_fail/trusted_root.json", ""],
        Expected::Rejected("SCT"),
    ),
    // An identity that is neither an address nor a URI is none that policy could name.
    (
        ["bundles/othername.sigstore.json", "trusted_roots/scaffolding.json", ""],
        Expected::Exception("names 1 identities"),
    ),
    // About SHA-512 or other artifacts: an image is named by SHA-256.
    (
        ["bundles/sigstore.js@2.0.0-provenance.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Exception("about no SHA-256"),
    ),
    (
        ["bundles/dsse.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Exception("about no SHA-256"),
    ),
    (
        ["bundles/dsse-2sigs.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Exception("about no SHA-256"),
    ),
    (
        ["bundles/github-private-attestation.sigstore.json", "timestamps/github_trusted_root.json", ""],
        Expected::Exception("about no SHA-256"),
    ),
    (
        ["timestamps/github_sha384_bundle.json", "timestamps/github_trusted_root.json", ""],
        Expected::Exception("about no SHA-256"),
    ),
    // The root that is published beside them is older than their log or timestamp authority.
    (
        ["bundles/conda-attestation-rekor2.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Exception("is in none of the trusted roots"),
    ),
    (
        ["bundles/cosign-v3-blob.sigstore.json", "trusted_roots/public-good.json", ""],
        Expected::Exception("does not match any trusted TSA"),
    ),
    (
        ["managed-key/bundle.sigstore.json", "trusted_roots/public-good.json", "managed-key/key.pub"],
        Expected::Exception("does not match any trusted TSA"),
    ),
];

fn judged(dir: &Path, [bundle, root, key]: [&str; 3]) -> Result<(), String> {
    let bytes = fs::read(dir.join(bundle)).unwrap();
    let keys = match key {
        "" => Vec::new(),
        key => vec![PublicKey::from_pem(&fs::read_to_string(dir.join(key)).unwrap()).unwrap()],
    };
    let node =
        Verifier::new(&keys, &[fs::read(dir.join(root)).unwrap()]).map_err(|error| error.to_string())?;
    let said = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let subject = subject(&said).ok_or("it is about no SHA-256")?;
    let file = StoredSignature { subject, blob: Digest::of(&bytes), format: SignatureFormat::Bundle };
    node.verify(&file, &bytes).map(drop).map_err(|flaw| flaw.to_string())
}

#[test]
fn public_cases_come_to_what_their_authors_say_or_to_the_exception_that_is_named() {
    let dir = data();
    let (mut accepted, mut rejected, mut exceptions) = (0, 0, 0);
    for (case, expected) in CASES {
        match (judged(&dir, *case), expected) {
            (Ok(()), Expected::Accepted) => accepted += 1,
            (Err(why), Expected::Rejected(wanted)) if why.contains(wanted) => rejected += 1,
            (Err(why), Expected::Exception(wanted)) if why.contains(wanted) => exceptions += 1,
            (found, _) => panic!("{}: {found:?}", case[0]),
        }
    }
    println!(
        "{} public cases: {accepted} accepted, {rejected} rejected, {exceptions} exceptions",
        CASES.len()
    );
}
