//! Indexes and manifests: which of the two a document is, and what of it matters.

use bulkhead_model::Digest;

use crate::{
    error::Flaw,
    json::{self, JsonFlaw, Object},
    platform::{Match, Platform},
};

/// Source: OCI image spec, media-types.md; Docker "Image Manifest V2, Schema 2".
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Followed by nothing or by how the tar is compressed.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// Annotations of an image that holds a CRIU checkpoint begin so.
///
/// Source: containerd internal/cri/server/container_checkpoint_linux.go.
const CHECKPOINT_ANNOTATION: &str = "org.criu.checkpoint.";

/// What a descriptor says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    media_type: String,
}

/// A document that a descriptor or a name points to.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Child),
    Manifest(Manifest),
}

/// The entry of an index that containerd goes on with.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) descriptor: Descriptor,
    /// Whether the index says that it is for this node's platform; else its config must say so.
    pub(crate) platform: PlatformSaid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlatformSaid {
    ByIndex,
    Not,
}

/// An image manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Digest>,
}

/// Reads an index or a manifest. `said` is the media type in the descriptor that led here, if one did.
pub(crate) fn read(digest: &Digest, bytes: &[u8], said: Option<&Descriptor>) -> Result<Document, Flaw> {
    let flaw = Flaw::json("manifest", digest);
    let object = json::parse(bytes).map_err(&flaw)?;
    let has = |name| object.optional(name).map(|field| field.is_some()).map_err(&flaw);
    if has("fsLayers")? || has("history")? || has("signatures")? {
        return Err(Flaw::Schema1(*digest));
    }
    match object.count("schemaVersion") {
        Ok(2) => {}
        Ok(1) => return Err(Flaw::Schema1(*digest)),
        Ok(other) => return Err(Flaw::SchemaVersion { digest: *digest, found: other.to_string() }),
        Err(error) => return Err(flaw(error)),
    }
    let types = match (has("manifests")?, has("layers")? || has("config")?) {
        (true, true) => return Err(Flaw::Polyglot(*digest)),
        (false, false) => return Err(Flaw::NoImage(*digest)),
        (true, false) => INDEX_TYPES,
        (false, true) => MANIFEST_TYPES,
    };
    let own = object.text("mediaType").map_err(&flaw)?;
    if !own.is_empty() && !types.contains(&own) {
        return Err(media_type(digest, "document", own));
    }
    if let Some(said) = said
        && (!types.contains(&said.media_type.as_str()) || (!own.is_empty() && own != said.media_type))
    {
        return Err(media_type(digest, "descriptor", &said.media_type));
    }
    if let Some(annotations) = object.object("annotations").map_err(&flaw)?
        && annotations.keys().any(|key| key.starts_with(CHECKPOINT_ANNOTATION))
    {
        return Err(Flaw::Checkpoint(*digest));
    }
    if types == INDEX_TYPES {
        read_index(digest, &object).map(Document::Index)
    } else {
        read_manifest(digest, &object).map(Document::Manifest)
    }
}

/// Chooses as containerd does: entries for this platform, best first, then those that say none; of these the first.
///
/// Source: `Manifest`, containerd images/image.go.
fn read_index(digest: &Digest, object: &Object) -> Result<Child, Flaw> {
    let flaw = Flaw::json("index", digest);
    let mut best: Option<(Option<Match>, &Object)> = None;
    let mut others = Vec::new();
    for entry in json::objects(object.list("manifests").map_err(&flaw)?.unwrap_or_default(), "manifests") {
        let entry = entry.map_err(&flaw)?;
        let rank = match entry.object("platform").map_err(&flaw)? {
            None => None,
            Some(platform) => {
                let platform = Platform::read(platform).map_err(&flaw)?;
                let Some(rank) = platform.suits() else {
                    others.push(platform);
                    continue;
                };
                if rank == Match::I386 {
                    others.push(platform);
                }
                Some(rank)
            }
        };
        // The first of equals stays; one that says its platform goes before one that does not.
        let better = match (&best, rank) {
            (None, _) => true,
            (Some((None, _)), rank) => rank.is_some(),
            (Some((Some(held), _)), Some(rank)) => rank < *held,
            (Some((Some(_), _)), None) => false,
        };
        if better {
            best = Some((rank, entry));
        }
    }
    match best {
        None | Some((Some(Match::I386), _)) => {
            let mut found: Vec<String> = others.iter().map(Platform::name).take(8).collect();
            if found.is_empty() {
                found.push("nothing".to_owned());
            }
            Err(Flaw::NoPlatform { index: *digest, found: found.join(", ") })
        }
        Some((rank, entry)) => {
            let platform = if rank.is_some() { PlatformSaid::ByIndex } else { PlatformSaid::Not };
            Ok(Child { descriptor: descriptor(entry).map_err(&flaw)?, platform })
        }
    }
}

fn read_manifest(digest: &Digest, object: &Object) -> Result<Manifest, Flaw> {
    let flaw = Flaw::json("manifest", digest);
    let config = object.object("config").map_err(&flaw)?.ok_or_else(|| flaw(JsonFlaw::Missing("config")))?;
    let config = descriptor(config).map_err(&flaw)?;
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        return Err(media_type(digest, "config", &config.media_type));
    }
    let layers = object.list("layers").map_err(&flaw)?.unwrap_or_default();
    let mut blobs = Vec::new();
    for layer in json::objects(layers, "layers") {
        let layer = descriptor(layer.map_err(&flaw)?).map_err(&flaw)?;
        if !is_layer_type(&layer.media_type) {
            return Err(media_type(digest, "layer", &layer.media_type));
        }
        blobs.push(layer.digest);
    }
    Ok(Manifest { config, layers: blobs })
}

fn is_layer_type(media_type: &str) -> bool {
    let plain = media_type.strip_suffix("+encrypted").unwrap_or(media_type);
    LAYER_TYPES
        .iter()
        .filter_map(|known| plain.strip_prefix(known))
        .any(|rest| matches!(rest, "" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

fn descriptor(object: &Object) -> Result<Descriptor, JsonFlaw> {
    let digest = object.text("digest")?;
    let digest = digest.parse().map_err(|_| JsonFlaw::Type { field: "digest", wanted: "a sha256 digest" })?;
    Ok(Descriptor { digest, size: object.count("size")?, media_type: object.text("mediaType")?.to_owned() })
}

fn media_type(digest: &Digest, part: &'static str, found: &str) -> Flaw {
    Flaw::MediaType { digest: *digest, part, found: found.chars().take(100).collect() }
}
