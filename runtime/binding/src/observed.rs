//! What containerd's API said about one container: plain data, not believed further than its own sake.

use std::collections::BTreeSet;

use bulkhead_model::{Digest, Mount};

/// The container's record: which image and snapshot it says it has.
///
/// Source: containerd api/services/containers/v1/containers.proto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `Container.image`, empty where there is none. In CRI any reference of the image, not the pod's own.
    pub image_name: String,
    /// `Container.snapshotter`, empty where there is none.
    pub snapshotter: String,
    /// `Container.snapshot_key`, empty where there is none.
    pub snapshot_key: String,
    /// The record that the CRI plugin keeps in the container's extensions.
    pub cri: CriRecord,
}

/// Whether the CRI plugin made the container, and what its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CriRecord {
    /// Not in containerd's CRI namespace, or without the plugin's extension.
    None,
    /// A pod's own container (pause): `io.cri-containerd.sandbox.metadata`.
    Sandbox,
    /// A container of a pod: `io.cri-containerd.container.metadata`.
    Container(CriContainer),
}

/// What the CRI plugin's record of a container says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriContainer {
    /// `ImageRef`: the digest of the image config that the kubelet's image reference was resolved to.
    pub config: Digest,
    /// `Config.image.user_specified_image`: how the pod spells its image. A hint of the pod's author.
    pub requested_name: Option<String>,
    /// Images that are mounted as volumes, as the pod spells them.
    pub image_volumes: BTreeSet<String>,
}

/// Everything that [`crate::bind`] compares with the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The container's record.
    pub claim: Claim,
    /// What the image's name points to now.
    pub target: Digest,
    /// All image names of the namespace that point to `target`, or to another target whose config is the same.
    pub names: BTreeSet<String>,
    /// The container's snapshot first, then parents down to the bottom.
    pub chain: Vec<Snapshot>,
    /// snapshots.Mounts of the container's snapshot.
    pub mounts: Vec<Mount>,
    /// `linux.mountLabel` of the container's spec: containerd appends it to the mounts as `context="…"`.
    pub mount_label: Option<String>,
}

/// One snapshot, as snapshots.Stat describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its key or name.
    pub name: String,
    /// Name of its parent, empty at the bottom.
    pub parent: String,
    /// What it is for.
    pub kind: SnapshotKind,
}

/// What a snapshot is for.
///
/// Source: containerd api/services/snapshots/v1/snapshots.proto, `Kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// No kind that we know.
    Unknown,
    /// Read-only use of a committed one: `ctr run --read-only`.
    View,
    /// A container's own.
    Active,
    /// A layer with all layers below it.
    Committed,
}
