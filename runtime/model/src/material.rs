//! The keys and trusted roots that policy names, read from the node.

use std::{collections::BTreeMap, time::Duration};

use crate::{Digest, PublicKey};

/// With what signatures are verified on this node, each by the name that policy gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustMaterial {
    /// Public keys.
    pub keys: BTreeMap<String, PublicKey>,
    /// Trusted roots.
    pub roots: BTreeMap<String, RootFile>,
}

/// A `trusted_root.json`, not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their hash.
    pub digest: Digest,
    /// How long ago it was written.
    pub age: Duration,
}

impl RootFile {
    /// A root of these bytes that was written `age` ago.
    #[must_use]
    pub fn new(bytes: Vec<u8>, age: Duration) -> Self {
        Self { digest: Digest::of(&bytes), bytes, age }
    }
}
