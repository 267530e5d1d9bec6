//! Signatures, keys and trusted roots.

use std::{fs, path::Path, sync::OnceLock};

use bulkhead_model::{
    Digest, PublicKey, SIGNATURE_BYTES_MAX, SignatureFacts, SignatureFormat, StoredSignature,
};
use bulkhead_trust::signature::Verifier;

/// What the corpus is signed by.
fn node() -> &'static Verifier {
    static NODE: OnceLock<Verifier> = OnceLock::new();
    NODE.get_or_init(|| {
        let file = |name: &str| {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/trust/tests/signatures");
            match fs::read(dir.join(name)) {
                Ok(bytes) => bytes,
                Err(error) => panic!("{name}: {error}"),
            }
        };
        let keys = ["rsa.pub", "ed25519.pub", "p384.pub", "key.pub"].map(|name| {
            match PublicKey::from_pem(&String::from_utf8_lossy(&file(name))) {
                Ok(key) => key,
                Err(error) => panic!("{name}: {error}"),
            }
        });
        match Verifier::new(&keys, &[file("other_root.json"), file("trusted_root.json")]) {
            Ok(node) => node,
            Err(error) => panic!("the node's keys and roots: {error}"),
        }
    })
}

fn verify(format: SignatureFormat, bytes: &[u8]) {
    let file = StoredSignature { subject: Digest::of(b"image"), blob: Digest::of(bytes), format };
    if let Ok(signature) = node().verify(&file, bytes) {
        assert!(bytes.len() as u64 <= SIGNATURE_BYTES_MAX);
        assert_eq!((signature.subject, signature.blob), (file.subject, file.blob));
        // Whatever was damaged, it is none that was made about another image.
        let other = StoredSignature { subject: Digest::of(b"another image"), ..file };
        assert!(node().verify(&other, bytes).is_err(), "it is about two images");
    }
    let mut facts = SignatureFacts::default();
    node().judge(&file, bytes, &mut facts);
    assert_eq!(facts.signatures.len() + facts.rejected.len(), 1);
    assert!(facts.rejected.iter().all(|rejected| !rejected.why.chars().any(char::is_control)));
}

pub(crate) fn bundle(bytes: &[u8]) {
    verify(SignatureFormat::Bundle, bytes);
}

pub(crate) fn simple_signing(bytes: &[u8]) {
    verify(SignatureFormat::SimpleSigning, bytes);
}

pub(crate) fn key(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = PublicKey::from_pem(text)
    {
        drop(Verifier::new(&[key], &[]));
    }
}

pub(crate) fn root(bytes: &[u8]) {
    drop(Verifier::new(&[], &[bytes.to_vec()]));
}
