//! What the judge found out about an image: facts, no decision.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Facts about one image, proven from bytes that re-hash. The judge's answer, and what the store of verdicts keeps.
///
/// A wire struct: whoever receives one checks the invariants again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    /// The digest that the image's name points to: an index or a manifest.
    pub target: Digest,
    /// The manifest of this node's platform.
    pub manifest: Digest,
    /// The image config that the manifest names.
    pub config: Digest,
    /// Uncompressed layer digests of the config, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The layers' blobs, as the manifest names them, in the same order.
    pub layers: Vec<Digest>,
    /// USER of the config.
    pub user: ImageUser,
    /// VOLUMEs of the config.
    pub volumes: BTreeSet<String>,
    /// TCP ports that the config EXPOSEs.
    pub exposed: BTreeSet<u16>,
}

/// USER of an image config, as written: `uid`, `uid:gid`, `name`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageUser(pub String);
