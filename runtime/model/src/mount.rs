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
