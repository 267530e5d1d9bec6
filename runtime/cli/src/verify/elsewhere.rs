//! An image that containerd does not have: `oci:DIR[:TAG]`.

use std::{io, path::Path, sync::Mutex};

use bulkhead_containerd::{Judge, VerifyError, examine_elsewhere};
use bulkhead_gather::{Blobs as _, GatherError, OciLayout};
use bulkhead_model::{Digest, Refusal, Rule};
use serde::Deserialize;

use super::links::{Blob, Found, Place};
use crate::answer::Trouble;

/// Largest `index.json`, in bytes.
///
/// Source: OCI distribution specification: registries take manifests of 4 MiB.
const INDEX_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where names are in a layout.
///
/// Source: OCI image specification, annotations.md; the second is containerd's and has the whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// An image in a layout, or the refusal. `place` is `DIR` or `DIR:TAG`; DIR may be a tarball.
pub(super) fn found(place: &str) -> Result<Result<Found, Refusal>, Trouble> {
    let (dir, tag) = match place.rsplit_once(':') {
        Some((dir, tag)) if !Path::new(place).exists() => (dir, Some(tag)),
        _ => (place, None),
    };
    let mut layout = OciLayout::open(Path::new(dir))?;
    let text = layout.index(INDEX_BYTES_MAX)?;
    let index: Index = match serde_json::from_slice(&text) {
        Ok(index) => index,
        Err(error) => {
            return Ok(Err(refusal(
                dir,
                &format!("index.json is none: {error}"),
                "name an OCI image layout",
            )));
        }
    };
    let wanted = |entry: &&Entry| {
        tag.is_none_or(|tag| {
            let names = [REF_NAME, IMAGE_NAME].map(|key| entry.annotations.get(key).map(String::as_str));
            let ends = |name: &str| name == tag || name.ends_with(&format!(":{tag}"));
            names.into_iter().flatten().any(ends)
        })
    };
    let mut found = index.manifests.iter().filter(wanted);
    let entry = match (found.next(), found.next()) {
        (Some(entry), None) => entry,
        (None, _) => {
            let why = format!("none of its {} images has that tag", index.manifests.len());
            return Ok(Err(refusal(place, &why, "name one that is there")));
        }
        (Some(_), Some(_)) => {
            return Ok(Err(refusal(place, "it has several images of that name", "say which: oci:DIR:TAG")));
        }
    };
    let name = entry.annotations.get(IMAGE_NAME).or_else(|| entry.annotations.get(REF_NAME));
    let name = name.cloned().unwrap_or_else(|| format!("oci:{place}"));
    let layout = Mutex::new(layout);
    let read = |digest: &Digest, bytes_max: u64| {
        let mut layout =
            layout.lock().map_err(|_| io::Error::other("an earlier read of the layout panicked"))?;
        match layout.blob(digest, bytes_max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(GatherError::TooLarge { .. }) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    let judge = Judge::beside_this_executable()?;
    let facts = match super::event_loop()?.block_on(examine_elsewhere(&judge, &name, &entry.digest, &read)) {
        Ok(facts) => facts,
        Err(VerifyError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => return Err(failure.into()),
    };
    let mut layout = layout.into_inner().map_err(|_| {
        Trouble::Kernel("read the layout", io::Error::other("an earlier read of it panicked"))
    })?;
    let blobs = facts.layers.iter().map(|layer| blob(&mut layout, layer)).collect::<Result<_, _>>()?;
    Ok(Ok(Found { name, facts, place: Place::Layout(dir.to_owned()), blobs }))
}

fn blob(layout: &mut OciLayout, layer: &Digest) -> Result<Blob, GatherError> {
    match layout.hash_blob(layer) {
        Ok(Ok(bytes)) => Ok(Blob::Hashed(bytes)),
        Ok(Err(found)) => Ok(Blob::Spoilt(found)),
        Err(GatherError::Missing(_)) => Ok(Blob::Missing),
        Err(error) => Err(error),
    }
}

fn refusal(place: &str, why: &str, fix: &str) -> Refusal {
    Refusal::new(Rule::ImageContents, format!("layout {place} cannot be verified"), why, fix)
}
