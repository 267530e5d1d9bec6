//! Manifests and indexes, as far as signatures are concerned.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_model::{Digest, SIGNATURE_BYTES_MAX, SignatureFormat, SimpleSigningFile};
use serde::Deserialize;

use crate::{Blobs, GatherError, bundle};

/// Largest manifest or index that is read, in bytes.
///
/// Source: OCI distribution specification, "Pushing Manifests": registries take 4 MiB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most entries of one list of descriptors that are looked at.
pub(crate) const DESCRIPTORS_MAX: usize = 256;

/// Source: cosign, specs/SIGNATURE_SPEC.md.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Source: cosign, specs/ATTESTATION_SPEC.md.
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

/// A file for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it says it is about.
    pub subject: Digest,
    /// What it is.
    pub format: SignatureFormat,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Something that looked like a signature and was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What was found somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// For the store.
    pub found: Vec<Found>,
    /// Not for the store.
    pub skipped: Vec<Skipped>,
}

impl Harvest {
    pub(crate) fn skip(&mut self, what: impl Into<String>, why: impl ToString) {
        self.skipped.push(Skipped { what: what.into(), why: why.to_string() });
    }

    pub(crate) fn add(&mut self, found: Found) {
        if !self.found.contains(&found) {
            self.found.push(found);
        }
    }
}

/// A manifest or an index. What is not named here is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) artifact_type: Option<String>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) subject: Option<Descriptor>,
}

/// A descriptor. A hint, but for its digest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Document {
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self, GatherError> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| GatherError::document(what, "manifest or index", error))?;
        let most = document.layers.len().max(document.manifests.len());
        if most > DESCRIPTORS_MAX {
            let why = format!("it lists {most} things, more than {DESCRIPTORS_MAX}");
            return Err(GatherError::document(what, "manifest or index of signatures", why));
        }
        Ok(document)
    }

    /// Whether it holds signatures: by what it says itself, whatever the descriptor in a list said of it.
    pub(crate) fn holds_signatures(&self) -> bool {
        self.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(bundle::MEDIA_TYPE))
            || self.layers.iter().any(|layer| Holds::of(&layer.media_type).is_some())
    }
}

/// What a layer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Bundle,
    SimpleSigning,
    Cosign2Attestation,
}

impl Holds {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            SIMPLE_SIGNING => Some(Self::SimpleSigning),
            DSSE => Some(Self::Cosign2Attestation),
            other if other.starts_with(bundle::MEDIA_TYPE) => Some(Self::Bundle),
            _ => None,
        }
    }
}

/// The signatures in a manifest's layers. Filed under `subject`, where the way to the manifest was by it; else under
/// what they say they are about.
pub(crate) fn signatures(
    document: &Document,
    subject: Option<&Digest>,
    blobs: &mut dyn Blobs,
    harvest: &mut Harvest,
) -> Result<(), GatherError> {
    for layer in &document.layers {
        let Some(holds) = Holds::of(&layer.media_type) else { continue };
        let Ok(digest) = layer.digest.parse::<Digest>() else {
            harvest.skip(&layer.digest, "it is no SHA-256 digest");
            continue;
        };
        let read = match holds {
            Holds::Bundle => of_bundle(document, &digest, subject, blobs),
            Holds::SimpleSigning => {
                of_simple_signing(layer, &digest, subject, blobs).map(|found| vec![found])
            }
            Holds::Cosign2Attestation => {
                harvest
                    .skip(digest.to_string(), "attestations of cosign 2 are not read: attest with cosign 3");
                continue;
            }
        };
        match read {
            Ok(files) => files.into_iter().for_each(|found| harvest.add(found)),
            // One bad file says nothing about the others.
            Err(
                error @ (GatherError::Document { .. }
                | GatherError::TooLarge { .. }
                | GatherError::Digest { .. }
                | GatherError::Missing(_)),
            ) => harvest.skip(digest.to_string(), error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn of_bundle(
    document: &Document,
    digest: &Digest,
    subject: Option<&Digest>,
    blobs: &mut dyn Blobs,
) -> Result<Vec<Found>, GatherError> {
    let bytes = blobs.blob(digest, SIGNATURE_BYTES_MAX)?;
    let says = bundle::subjects(&digest.to_string(), &bytes)?;
    let of_manifest = document.subject.as_ref().and_then(|subject| subject.digest.parse().ok());
    let subjects = match subject.copied().or(of_manifest) {
        Some(subject) => vec![subject],
        None => says,
    };
    let file = |subject| Found { subject, format: SignatureFormat::Bundle, bytes: bytes.clone() };
    Ok(subjects.into_iter().map(file).collect())
}

fn of_simple_signing(
    layer: &Descriptor,
    digest: &Digest,
    subject: Option<&Digest>,
    blobs: &mut dyn Blobs,
) -> Result<Found, GatherError> {
    let payload = blobs.blob(digest, SIGNATURE_BYTES_MAX / 4)?;
    let what = digest.to_string();
    let annotation = |name: &str| layer.annotations.get(name).filter(|text| !text.is_empty()).cloned();
    let signature = annotation("dev.cosignproject.cosign/signature")
        .ok_or_else(|| GatherError::document(&what, "signature", "its layer has no annotation with one"))?;
    let subject = match subject {
        Some(subject) => *subject,
        None => simple_signing_subject(&what, &payload)?,
    };
    let file = SimpleSigningFile {
        payload: STANDARD.encode(&payload),
        signature,
        certificate: annotation("dev.sigstore.cosign/certificate"),
        chain: annotation("dev.sigstore.cosign/chain"),
        bundle: annotation("dev.sigstore.cosign/bundle"),
        rfc3161: annotation("dev.sigstore.cosign/rfc3161timestamp"),
    };
    let bytes =
        serde_json::to_vec(&file).map_err(|error| GatherError::document(&what, "signature", error))?;
    if bytes.len() as u64 > SIGNATURE_BYTES_MAX {
        return Err(GatherError::TooLarge { what, bytes_max: SIGNATURE_BYTES_MAX });
    }
    Ok(Found { subject, format: SignatureFormat::SimpleSigning, bytes })
}

/// Source: containers/image, docs/containers-signature.5.md.
fn simple_signing_subject(what: &str, payload: &[u8]) -> Result<Digest, GatherError> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Image,
    }
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        digest: Digest,
    }
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| GatherError::document(what, "simple signing payload", error))?;
    Ok(payload.critical.image.digest)
}
