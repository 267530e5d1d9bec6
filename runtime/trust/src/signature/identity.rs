//! For whom a verified certificate was made out, and on whose word.

use sigstore_verify::{VerificationResult, types::Bundle};
use x509_cert::{Certificate, der::Decode as _, der::oid::AssociatedOid as _, ext::pkix::SubjectAltName};

use super::{SignatureFlaw, check_text};

/// Both from one certificate.
pub(super) struct Identity {
    pub(super) issuer: String,
    pub(super) identity: String,
}

/// The identity of the certificate that `result` verified. One that is made out for several is nobody's: policy would
/// match one of them and people read another.
pub(super) fn of(bundle: &Bundle, result: &VerificationResult) -> Result<Identity, SignatureFlaw> {
    let unreadable = |why: String| SignatureFlaw::Format { part: "certificate", why };
    let der = bundle.signing_certificate().ok_or(SignatureFlaw::Identities(0))?;
    let certificate = Certificate::from_der(der.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let extensions = certificate.tbs_certificate.extensions.unwrap_or_default();
    let mut names = 0;
    for extension in extensions.iter().filter(|extension| extension.extn_id == SubjectAltName::OID) {
        let san = SubjectAltName::from_der(extension.extn_value.as_bytes());
        names += san.map_err(|error| unreadable(error.to_string()))?.0.len();
    }
    let identity = result.identity().filter(|_| names == 1).ok_or(SignatureFlaw::Identities(names))?;
    let issuer = result.issuer().filter(|issuer| !issuer.is_empty()).ok_or(SignatureFlaw::NoIssuer)?;
    check_text(identity.as_str())?;
    check_text(issuer)?;
    Ok(Identity { issuer: issuer.to_owned(), identity: identity.as_str().to_owned() })
}
