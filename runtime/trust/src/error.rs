//! Why there are no facts: the image is flawed (and will be tomorrow), or its bytes could not be had (this time).

use bulkhead_model::{Digest, FactsError, IMAGE_LAYERS_MAX};

use crate::{json::JsonFlaw, walk::INDEX_DEPTH_MAX};

/// Why an image has no facts.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The image is broken: the same bytes give the same answer.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// The bytes could not be had.
    #[error("blob {digest}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        error: BlobError,
    },
}

/// Why a blob could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It has more bytes than may be read.
    #[error("has more than {0} bytes")]
    TooLarge(u64),
    /// The bytes hash to something else.
    #[error("hashes to {0}")]
    Hash(Digest),
    /// The other side says so.
    #[error("{0}")]
    Refused(String),
    /// The pipe broke, or what came through it made no sense.
    #[error(transparent)]
    Pipe(#[from] crate::ProcessError),
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No JSON, or JSON that two readers could understand differently.
    #[error("{document} {digest}: {flaw}")]
    Json {
        /// What it should be.
        document: &'static str,
        /// Which.
        digest: Digest,
        /// What is wrong.
        flaw: JsonFlaw,
    },
    /// Has `manifests` beside `layers` or `config`.
    #[error("{0} is an index and a manifest at once")]
    Polyglot(Digest),
    /// Neither `manifests` nor `layers`.
    #[error("{0} is neither an index nor a manifest")]
    NoImage(Digest),
    /// Docker schema 1 proves nothing about layers.
    #[error("{0} is a Docker schema 1 manifest: push the image again with a newer tool")]
    Schema1(Digest),
    /// Not schema 2.
    #[error("{digest} has schemaVersion {found}, not 2")]
    SchemaVersion {
        /// Which.
        digest: Digest,
        /// What it says.
        found: String,
    },
    /// A media type that does not belong there.
    #[error("{part} of {digest} has media type {found:?}")]
    MediaType {
        /// Whose document.
        digest: Digest,
        /// Which part of it.
        part: &'static str,
        /// What it says.
        found: String,
    },
    /// A descriptor speaks of another size.
    #[error("{digest} has {found} bytes, its descriptor says {said}")]
    Size {
        /// Which.
        digest: Digest,
        /// By its descriptor.
        said: u64,
        /// In truth.
        found: u64,
    },
    /// Too large to be one.
    #[error("{document} {digest} has more than {bytes_max} bytes")]
    TooLarge {
        /// What it should be.
        document: &'static str,
        /// Which.
        digest: Digest,
        /// How many it may have.
        bytes_max: u64,
    },
    /// Index in index in index …
    #[error("indexes are nested deeper than {INDEX_DEPTH_MAX}")]
    Depth,
    /// Nothing for this node.
    #[error("index {index} has no manifest for linux/amd64, but {found}")]
    NoPlatform {
        /// Which.
        index: Digest,
        /// Some of what it has.
        found: String,
    },
    /// The config is for another platform.
    #[error("config {config} is for {found}, not linux/amd64")]
    Platform {
        /// Which.
        config: Digest,
        /// What it says.
        found: String,
    },
    /// A checkpoint is a process image: restoring it runs memory that no layer shows.
    #[error("{0} is a checkpoint image: restoring one is refused")]
    Checkpoint(Digest),
    /// A root file system that no chain ID names.
    #[error("config {0} has no layers, so that no snapshot can be bound to it")]
    NoLayers(Digest),
    /// More layers than overlayfs can mount.
    #[error("config {config} has {found} layers, more than {IMAGE_LAYERS_MAX}")]
    Layers {
        /// Which.
        config: Digest,
        /// How many.
        found: usize,
    },
    /// Manifest and config disagree.
    #[error("manifest has {layers} layers, its config {diff_ids} diff IDs")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// `rootfs.type` is not `layers`.
    #[error("config {config} has rootfs.type {found:?}, not \"layers\"")]
    RootfsType {
        /// Which.
        config: Digest,
        /// What it says.
        found: String,
    },
    /// Facts that no receiver would believe.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

impl Flaw {
    /// A flaw of the JSON of one document.
    pub(crate) fn json(document: &'static str, digest: &Digest) -> impl Fn(JsonFlaw) -> Flaw {
        let digest = *digest;
        move |flaw| Flaw::Json { document, digest, flaw }
    }
}
