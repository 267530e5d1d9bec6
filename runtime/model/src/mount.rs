//! A mount as containerd's API describes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One entry of a rootfs: fstab-like, as snapshots.Mounts and tasks.Create carry it.
///
/// Source: containerd api/types/mount.proto.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File system type: `overlay`, `bind`, `erofs` …
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where below the root, empty for the root itself.
    pub target: PathBuf,
    /// fstab options, in order.
    pub options: Vec<String>,
}

/// An image that a container has as a volume: a second one, beside that of its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageVolume {
    /// `source` of the mounts that ask for it: where containerd has mounted the image on the host, writable. Nothing is
    /// read there.
    pub source: PathBuf,
    /// The image's layers, read-only: mounted anew for this container.
    pub layers: Mount,
    /// The directory of the image that is shown; empty for all of it.
    pub directory: PathBuf,
}
