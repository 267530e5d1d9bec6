//! What containerd's API said about one container: plain data, not believed further than its own sake.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{ContainerId, Digest, ImageFacts, Mount};

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
    /// Images that are mounted as volumes.
    pub image_volumes: Vec<VolumeClaim>,
}

/// An image volume, as the CRI plugin's record of a container has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeClaim {
    /// What the pod calls the image; for people, and to find all names of it.
    pub name: String,
    /// `container_path`: where the container sees it.
    pub destination: PathBuf,
    /// `host_path`: where the plugin has mounted it, and the key of its snapshot; with a directory below it where the
    /// pod asks for a part. None where the record has none.
    pub host_path: Option<PathBuf>,
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
    /// The images of [`CriContainer::image_volumes`], in that order.
    pub volumes: Vec<ObservedVolume>,
}

/// What belongs to one image volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedVolume {
    /// The pod's sandbox, as the request has it.
    pub sandbox: ContainerId,
    /// What the judge says of the image whose digest the snapshot is named by.
    pub facts: ImageFacts,
    /// All image names that point to it, or to another target whose config is the same.
    pub names: BTreeSet<String>,
    /// Its snapshot first, then parents down to the bottom.
    pub chain: Vec<Snapshot>,
    /// snapshots.Mounts of its snapshot.
    pub mounts: Vec<Mount>,
    /// `source` of the mount on its destination, as config.json has it.
    pub source: Option<PathBuf>,
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
