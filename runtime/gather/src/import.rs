//! Signatures from files: an OCI layout as a directory or a tarball (`cosign save` writes one too), or a sigstore
//! bundle.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use bulkhead_model::{Digest, SIGNATURE_BYTES_MAX, SignatureFormat};

use crate::{
    Blobs as _, GatherError, Harvest, OciLayout,
    blobs::open,
    bundle,
    manifest::{Document, Found, MANIFEST_BYTES_MAX, signatures},
};

/// Most manifests of a layout that are looked at.
const MANIFESTS_MAX: usize = 4096;

/// How deep indexes may lie in indexes.
const DEPTH_MAX: usize = 4;

/// Everything in `path` that looks like a signature.
///
/// # Errors
/// It is nothing of the kind, or cannot be read. A bad file among good ones is skipped and named.
pub fn import(path: &Path) -> Result<Harvest, GatherError> {
    let mut harvest = Harvest::default();
    if let Some(bytes) = bundle_file(path)? {
        for subject in bundle::subjects(&path.display().to_string(), &bytes)? {
            harvest.add(Found { subject, format: SignatureFormat::Bundle, bytes: bytes.clone() });
        }
        return Ok(harvest);
    }
    let mut layout = OciLayout::open(path)?;
    let index = layout.index(MANIFEST_BYTES_MAX)?;
    let index = Document::parse(&format!("index.json of {}", path.display()), &index)?;
    let mut seen = BTreeSet::new();
    walk(&mut layout, &index, DEPTH_MAX, &mut seen, &mut harvest)?;
    unlisted(&mut layout, &mut seen, &mut harvest)?;
    Ok(harvest)
}

/// The bytes of a file that is a bundle.
fn bundle_file(path: &Path) -> Result<Option<Vec<u8>>, GatherError> {
    if std::fs::metadata(path).map_err(GatherError::file("stat(2)", path))?.is_dir() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    open(path)?
        .take(SIGNATURE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(GatherError::file("read(2)", path))?;
    let looks = bytes.first() == Some(&b'{');
    if looks && bytes.len() as u64 > SIGNATURE_BYTES_MAX {
        return Err(GatherError::TooLarge {
            what: path.display().to_string(),
            bytes_max: SIGNATURE_BYTES_MAX,
        });
    }
    // JSON that is no bundle gets told what is missing in it.
    Ok((looks || bundle::is_bundle(&bytes)).then_some(bytes))
}

/// Largest manifest of a bundle that no index lists, in bytes: one layer and a subject.
const UNLISTED_BYTES_MAX: u64 = 64 * 1024;

/// Manifests of bundles that no index lists: so `cosign save` of cosign 3 leaves what it saves beside an image.
fn unlisted(
    layout: &mut OciLayout,
    seen: &mut BTreeSet<Digest>,
    harvest: &mut Harvest,
) -> Result<(), GatherError> {
    for digest in layout.blobs()? {
        if !seen.insert(digest) {
            continue;
        }
        // Most blobs are something else, and one that is damaged is nobody's here.
        let bytes = match layout.blob(&digest, UNLISTED_BYTES_MAX) {
            Err(GatherError::TooLarge { .. } | GatherError::Digest { .. } | GatherError::Kind { .. }) => {
                continue;
            }
            other => other?,
        };
        let Ok(document) = Document::parse(&digest.to_string(), &bytes) else { continue };
        if document.subject.is_some() && document.holds_signatures() {
            signatures(&document, None, layout, harvest)?;
        }
    }
    Ok(())
}

fn walk(
    layout: &mut OciLayout,
    document: &Document,
    depth: usize,
    seen: &mut BTreeSet<Digest>,
    harvest: &mut Harvest,
) -> Result<(), GatherError> {
    for descriptor in &document.manifests {
        let Ok(digest) = descriptor.digest.parse::<Digest>() else {
            harvest.skip(&descriptor.digest, "it is no SHA-256 digest");
            continue;
        };
        if !seen.insert(digest) {
            continue;
        }
        if depth == 0 || seen.len() > MANIFESTS_MAX {
            harvest.skip(digest.to_string(), "the layout has too many manifests, or too deep ones");
            return Ok(());
        }
        let bytes = match layout.blob(&digest, MANIFEST_BYTES_MAX) {
            // Layouts of one platform list manifests of others that they do not have.
            Err(GatherError::Missing(_)) => continue,
            other => other?,
        };
        match Document::parse(&digest.to_string(), &bytes) {
            Ok(inner) => {
                signatures(&inner, None, layout, harvest)?;
                walk(layout, &inner, depth - 1, seen, harvest)?;
            }
            Err(error) => harvest.skip(digest.to_string(), error),
        }
    }
    Ok(())
}
