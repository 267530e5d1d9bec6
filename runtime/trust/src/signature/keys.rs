//! The node's keys, and which of them made a signature.

use bulkhead_model::{Digest, PublicKey};
use sigstore_verify::{
    crypto::{KeyAlgorithm, SigningScheme, VerificationKey},
    types::{DerPublicKey, Sha256Hash, SignatureBytes},
};

use super::{MaterialError, SignatureFlaw};

/// What a signature is over.
pub(super) enum Signed<'b> {
    /// These bytes.
    Bytes(&'b [u8]),
    /// Bytes with this hash, which suits the schemes that hash with SHA-256 first.
    Sha256(Sha256Hash),
}

/// Keys that can verify.
pub(super) struct Keys(Vec<Key>);

/// One of them.
pub(super) struct Key {
    pub(super) fingerprint: Digest,
    pub(super) der: DerPublicKey,
    schemes: Vec<SigningScheme>,
}

impl Keys {
    pub(super) fn new(keys: &[PublicKey]) -> Result<Self, MaterialError> {
        keys.iter().map(Key::new).collect::<Result<_, _>>().map(Self)
    }

    /// The key that made `signature` over `signed`. `hint` is what the signature says of its key: for the message only.
    pub(super) fn signer(
        &self,
        signed: &Signed<'_>,
        signature: &SignatureBytes,
        hint: &str,
    ) -> Result<&Key, SignatureFlaw> {
        let made = |key: &&Key| key.schemes.iter().any(|scheme| key.verifies(*scheme, signed, signature));
        self.0.iter().find(made).ok_or_else(|| SignatureFlaw::Key { hint: readable(hint) })
    }
}

impl Key {
    fn new(key: &PublicKey) -> Result<Self, MaterialError> {
        let fingerprint = key.fingerprint();
        let unusable = |why: String| MaterialError::Algorithm { fingerprint, why };
        let der = DerPublicKey::new(key.der().to_vec());
        let algorithm = KeyAlgorithm::from_spki(&der).map_err(|error| unusable(error.to_string()))?;
        let schemes = match algorithm {
            KeyAlgorithm::EcdsaP256 => vec![SigningScheme::EcdsaP256Sha256],
            // cosign 2 hashes with SHA-256 whatever the curve; cosign 3 as the curve asks.
            KeyAlgorithm::EcdsaP384 => vec![SigningScheme::EcdsaP384Sha384, SigningScheme::EcdsaP384Sha256],
            KeyAlgorithm::Ed25519 => vec![SigningScheme::Ed25519],
            KeyAlgorithm::Rsa => vec![SigningScheme::RsaPkcs1Sha256],
            other => {
                return Err(unusable(format!("{other:?} is not among ECDSA P-256, P-384, Ed25519, RSA")));
            }
        };
        for scheme in &schemes {
            VerificationKey::from_spki_with_scheme(&der, *scheme)
                .map_err(|error| unusable(error.to_string()))?;
        }
        Ok(Self { fingerprint, der, schemes })
    }

    fn verifies(&self, scheme: SigningScheme, signed: &Signed<'_>, signature: &SignatureBytes) -> bool {
        let Ok(key) = VerificationKey::from_spki_with_scheme(&self.der, scheme) else { return false };
        match signed {
            Signed::Bytes(bytes) => key.verify(bytes, signature).is_ok(),
            Signed::Sha256(hash) => key.verify_prehashed(hash.as_bytes(), signature).is_ok(),
        }
    }
}

/// The key that a bundle says, as people know it: cosign writes base64 of the SHA-256 of its DER.
fn readable(hint: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    match STANDARD.decode(hint) {
        Ok(bytes) if bytes.len() == 32 => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("key sha256:{hex}"))
        }
        _ if hint.is_empty() => None,
        _ => Some(format!("key {:?}", hint.chars().take(80).collect::<String>())),
    }
}
