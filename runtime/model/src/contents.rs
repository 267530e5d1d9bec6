//! How the files below a container's root are proven, and what the judge of contents and its caller say to each other.
//!
//! The question is one JSON document; the answer one line per layer, then [`ContentsLine::Done`]. Paths and attributes
//! are bytes of any kind, so they are spelt in hexadecimal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Digest, FetchTask, ProfileTask};

/// How a layer's files are proven to be those of its tar. The order is that of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentsRule {
    /// By name alone: containerd holds the snapshots for those layers.
    Chain,
    /// Compared with the tar when they are first seen; then, at each launch, nothing that stat(2) shows has changed.
    Receipt,
    /// Compared with the tar for each launch.
    Rehash,
}

/// What was found about a container's layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ContentsFacts {
    /// Nothing was asked: the chain alone is proven.
    Chain,
    /// All are as they were when they were compared.
    Receipt,
    /// All were compared for this launch.
    Compared,
    /// They are not proven.
    Unproven(ContentsFlaw),
}

impl ContentsFacts {
    /// Whether they are at least what `rule` wants.
    #[must_use]
    pub fn satisfy(&self, rule: ContentsRule) -> bool {
        match (self, rule) {
            (_, ContentsRule::Chain) | (Self::Compared, _) | (Self::Receipt, ContentsRule::Receipt) => true,
            (Self::Chain | Self::Unproven(_), ContentsRule::Receipt | ContentsRule::Rehash)
            | (Self::Receipt, ContentsRule::Rehash) => false,
        }
    }
}

/// Why layers are not proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ContentsFlaw {
    /// A file is not that of the image.
    Different {
        /// The layer, from 1 at the bottom.
        layer: u32,
        /// Its chain ID.
        chain: Digest,
        /// The file, from the image's root on.
        path: String,
        /// What is other about it.
        what: String,
    },
    /// A layer's tar is none.
    Tar {
        /// The layer, from 1 at the bottom.
        layer: u32,
        /// Its blob.
        blob: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// A blob in containerd's store does not hash to its name.
    Spoilt {
        /// Which.
        blob: Digest,
    },
    /// containerd has not kept a layer's blob.
    Missing {
        /// The layer, from 1 at the bottom.
        layer: u32,
        /// Its blob.
        blob: Digest,
    },
    /// The container's own layer has files before its first process.
    OwnLayer {
        /// One of them.
        path: String,
    },
    /// The snapshotter keeps no directory per layer that could be compared.
    Snapshotter {
        /// What was found.
        why: String,
    },
}

/// Version of the judge of contents: of its protocol and of what it compares. A receipt of another version is none: 1 was
/// that of receipts which could be kept above layers that were not proven yet.
pub const CONTENTS_VERSION: u32 = 2;

/// Longest question, in bytes: what is long in it are extended attributes.
pub const CONTENTS_QUESTION_BYTES_MAX: u64 = 32 << 20;

/// Bytes of any kind, spelt in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl From<Hex> for String {
    fn from(Hex(bytes): Hex) -> Self {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "not an even number of hexadecimal digits";
        if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| WRONG);
        (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

/// What the judge of contents is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentsQuestion {
    /// [`CONTENTS_VERSION`] of the caller: another one is not answered.
    pub version: u32,
    /// What to compare; the blobs are handed over in this order.
    pub compare: Vec<LayerQuestion>,
    /// Extended attributes of all layers, which the judge has no right to see.
    pub xattrs: Vec<FileXattr>,
}

/// One layer to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerQuestion {
    /// Its place in the chain, 0 at the bottom.
    pub layer: u32,
    /// The blob's digest.
    pub blob: Digest,
    /// The tar's.
    pub diff_id: Digest,
}

/// One extended attribute of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileXattr {
    /// The layer's place in the chain.
    pub layer: u32,
    /// The file, from the layer on.
    pub path: Hex,
    /// The attribute's name.
    pub name: Hex,
    /// Its value.
    pub value: Hex,
}

/// A line of the judge of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ContentsLine {
    /// This layer is what containerd makes of its tar.
    Same(u32),
    /// This one is not.
    Different {
        /// Which.
        layer: u32,
        /// Where.
        path: String,
        /// What is other there.
        what: String,
    },
    /// This layer's tar is none.
    Flaw {
        /// Which.
        layer: u32,
        /// What is wrong with it.
        why: String,
    },
    /// This layer's blob is not in containerd's store.
    Missing(u32),
    /// This layer's blob is not what its name says.
    Spoilt {
        /// Which.
        layer: u32,
        /// What it hashes to.
        found: Digest,
    },
    /// The end: all were looked at.
    Done,
    /// The end: why there is no answer.
    Failed(String),
}

/// What a worker does with the directories of a container's layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayersJob {
    /// The layers' directories, the lowest first.
    pub dirs: Vec<PathBuf>,
    /// The container's own layer, where it can write.
    pub own: Option<PathBuf>,
    /// What is to be done.
    pub task: LayersTask,
}

/// What is to be done with layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayersTask {
    /// Take a receipt of each: answered with one [`WalkLine`].
    Walk,
    /// Become a judge of contents: answered with [`ContentsLine`]s.
    Compare(CompareTask),
    /// Become a generator, which outlives whoever started it and keeps what it finds: not answered.
    Profile(Box<ProfileTask>),
    /// Become a fetcher of signatures, which outlives whoever started it and keeps what it finds: not answered.
    Fetch(Box<FetchTask>),
}

/// What a judge of contents is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareTask {
    /// Its executable.
    pub program: PathBuf,
    /// Where containerd keeps blobs, by the hexadecimal digits of their digests.
    pub blobs: PathBuf,
    /// What to compare.
    pub layers: Vec<LayerQuestion>,
}

/// What a worker answers that has walked layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WalkLine {
    /// What each comes to.
    Walked {
        /// In the order of the job.
        receipts: Vec<Digest>,
        /// Which of them tell of every later change: the layer had not changed for a while, and its file system says
        /// of each write that there was one.
        settled: Vec<bool>,
        /// A file of the container's own layer that no runtime has put there.
        foreign: Option<String>,
    },
    /// They are no directories that a layer's tar was unpacked into.
    Foreign(String),
    /// They could not be walked.
    Failed(String),
}
