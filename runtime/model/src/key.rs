//! Public keys of the node, known by their fingerprint. No algorithm is known here: the judge verifies with them.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::Digest;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Largest key, in bytes of DER. RSA with 16,384 bits, more than any signer uses, has 2,086.
const KEY_BYTES_MAX: usize = 4096;

/// A SubjectPublicKeyInfo in DER.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey(Vec<u8>);

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is something else, or more than one key.
    #[error("it is not one PEM block \"PUBLIC KEY\"")]
    Block,
    /// A private key lies where it should not.
    #[error("it holds a private key, which must never be on a node")]
    Private,
    /// What is between the lines is no base64.
    #[error("its PEM block is not base64")]
    Base64,
    /// Too large to be a key.
    #[error("its key has more than {KEY_BYTES_MAX} bytes")]
    Size,
}

impl PublicKey {
    /// Reads the one PEM block that `text` is.
    ///
    /// # Errors
    /// Says what else it is.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let body = body.filter(|body| !body.contains('-')).ok_or(KeyError::Block)?;
        let body: String = body.split_ascii_whitespace().collect();
        if body.len() > KEY_BYTES_MAX * 2 {
            return Err(KeyError::Size);
        }
        Self::from_der(STANDARD.decode(body).map_err(|_| KeyError::Base64)?)
    }

    /// Reads what [`PublicKey::to_base64`] wrote.
    ///
    /// # Errors
    /// Says what else it is.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Self::from_der(STANDARD.decode(text).map_err(|_| KeyError::Base64)?)
    }

    /// The key in DER and base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// A key in DER, which is not looked into.
    ///
    /// # Errors
    /// It is empty or too large.
    pub fn from_der(der: Vec<u8>) -> Result<Self, KeyError> {
        match der.len() {
            0 => Err(KeyError::Block),
            1..=KEY_BYTES_MAX => Ok(Self(der)),
            _ => Err(KeyError::Size),
        }
    }

    /// The key in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the DER: what `openssl pkey -pubin -outform DER | sha256sum` says.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nAAEC\nAwQ=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn one_block_is_a_key_whatever_its_line_ends() {
        let key = PublicKey::from_pem(PEM).map(|key| key.der().to_vec());
        assert_eq!(key, Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(PublicKey::from_pem(&PEM.replace('\n', "\r\n")), PublicKey::from_pem(PEM));
    }

    #[test]
    fn two_blocks_other_blocks_and_no_base64_are_no_key() {
        for (text, wanted) in [
            (format!("{PEM}{PEM}"), KeyError::Block),
            (PEM.replace("PUBLIC", "RSA PUBLIC"), KeyError::Block),
            (PEM.replace("PUBLIC KEY", "CERTIFICATE"), KeyError::Block),
            (PEM.replace("BEGIN PUBLIC", "BEGIN EC PRIVATE"), KeyError::Private),
            (PEM.replace("AAEC", "A*EC"), KeyError::Base64),
            (PEM.replace("AwQ=", "AwQ"), KeyError::Base64),
            (PEM.replace("AAEC\nAwQ=\n", ""), KeyError::Block),
            (PEM.replace("AAEC", &"A".repeat(6000)), KeyError::Size),
            (String::new(), KeyError::Block),
        ] {
            assert_eq!(PublicKey::from_pem(&text), Err(wanted), "{text}");
        }
    }
}
