//! The way from a digest to the facts.

use bulkhead_model::{Digest, ImageFacts, JUDGE_BLOB_BYTES_MAX};

use crate::{
    config,
    document::{self, Descriptor, Document, PlatformSaid},
    error::{BlobError, Flaw, TrustError},
};

/// Most indexes on the way to a manifest.
///
/// The specification allows nesting without limit; nobody is known to publish more than two.
pub const INDEX_DEPTH_MAX: usize = 4;

/// Largest index or manifest, in bytes.
///
/// Source: OCI distribution spec, "Pushing Manifests": registries should take 4 MiB.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where bytes come from. What it returns is hashed again.
pub trait Blobs {
    /// The bytes of a blob, or [`BlobError::TooLarge`] if there are more than `bytes_max`.
    ///
    /// # Errors
    /// Says why the bytes cannot be had.
    fn read(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError>;
}

/// Finds out what `target` is on this node's platform, linux/amd64.
///
/// # Errors
/// The flaw of the image, or why its bytes could not be had.
pub fn judge(target: &Digest, blobs: &mut dyn Blobs) -> Result<ImageFacts, TrustError> {
    let mut digest = *target;
    let mut descriptor: Option<Descriptor> = None;
    let mut platform = PlatformSaid::Not;
    for _ in 0..=INDEX_DEPTH_MAX {
        let said = descriptor.as_ref();
        let bytes = read(blobs, "manifest", &digest, said.map(|said| said.size), MANIFEST_BYTES_MAX)?;
        match document::read(&digest, &bytes, said)? {
            Document::Index(child) => {
                digest = child.descriptor.digest;
                descriptor = Some(child.descriptor);
                platform = child.platform;
            }
            Document::Manifest(manifest) => {
                let Descriptor { digest: name, size, .. } = manifest.config;
                let bytes = read(blobs, "config", &name, Some(size), JUDGE_BLOB_BYTES_MAX)?;
                let config = config::read(&name, &bytes, platform)?;
                if manifest.layers.len() != config.diff_ids.len() {
                    let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
                    return Err(Flaw::LayerCount { layers, diff_ids }.into());
                }
                let facts = ImageFacts {
                    target: *target,
                    manifest: digest,
                    config: name,
                    diff_ids: config.diff_ids,
                    layers: manifest.layers,
                    user: config.user,
                    volumes: config.volumes,
                    exposed: config.exposed,
                };
                facts.check(target).map_err(Flaw::from)?;
                return Ok(facts);
            }
        }
    }
    Err(Flaw::Depth.into())
}

/// Bytes that hash to `digest`, as many as its descriptor says, and no more than `bytes_max`.
fn read(
    blobs: &mut dyn Blobs,
    document: &'static str,
    digest: &Digest,
    said: Option<u64>,
    bytes_max: u64,
) -> Result<Vec<u8>, TrustError> {
    let too_large = || Flaw::TooLarge { document, digest: *digest, bytes_max };
    if said.is_some_and(|said| said > bytes_max) {
        return Err(too_large().into());
    }
    let bytes = match blobs.read(digest, bytes_max) {
        Ok(bytes) => bytes,
        Err(BlobError::TooLarge(_)) => return Err(too_large().into()),
        Err(error) => return Err(TrustError::Blob { digest: *digest, error }),
    };
    let found = Digest::of(&bytes);
    if found != *digest {
        return Err(TrustError::Blob { digest: *digest, error: BlobError::Hash(found) });
    }
    let found = bytes.len() as u64;
    match said {
        Some(said) if said != found => Err(Flaw::Size { digest: *digest, said, found }.into()),
        _ if found > bytes_max => Err(too_large().into()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
