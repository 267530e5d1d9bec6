//! What the judge and its caller say to each other over the judge's stdin and stdout.
//!
//! One JSON object per line; a blob's bytes follow its line. The caller speaks first ([`JudgeQuestion`]), then
//! answers each [`JudgeLine::Blob`] with a [`BlobLine`] until a line of another kind ends the talk.
//! Both sides are suspicious: lines are limited to [`JUDGE_LINE_BYTES_MAX`], blobs to what the table below allows.

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageFacts, SignatureFacts, SignatureFormat};

/// Version of the judge: of its protocol and of what it checks. A stored verdict of another version is judged anew.
pub const JUDGE_VERSION: u32 = 3;

/// Longest line of the protocol, in bytes, newline included.
///
/// Longest is the one with the facts: 127 diff IDs of 74 bytes, and USER and VOLUMEs of at most 64 KiB together,
/// each byte of which JSON may spell in six.
pub const JUDGE_LINE_BYTES_MAX: usize = 512 * 1024;

/// Largest blob that the judge may ask for, in bytes.
///
/// Source: 4 MiB is what registries take for a manifest (OCI distribution spec, "Pushing Manifests"); configs with
/// long histories and labels get twice that.
pub const JUDGE_BLOB_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most layers an image may have.
///
/// Source: `maxLayerDepth` of Docker's layer store, which keeps overlayfs below its option limit of one page.
pub const IMAGE_LAYERS_MAX: usize = 127;

/// Most bytes that USER and all VOLUMEs of a config may have together.
pub const IMAGE_TEXT_BYTES_MAX: usize = 64 * 1024;

/// The caller's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeQuestion {
    /// [`JUDGE_VERSION`] of the caller: another one is not answered.
    pub version: u32,
    /// The digest that an image's name points to.
    pub target: Digest,
    /// What is to be found out about it.
    pub about: JudgeAbout,
}

/// What a judge is asked about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum JudgeAbout {
    /// What it is: answered with [`JudgeLine::Facts`].
    Image,
    /// Who signed it: answered with [`JudgeLine::Signatures`].
    Signatures(SignatureQuestion),
}

/// With what signatures are to be verified. The judge asks for files and roots as it does for blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureQuestion {
    /// The files.
    pub files: Vec<StoredSignature>,
    /// The node's keys, SubjectPublicKeyInfo in DER and base64.
    pub keys: Vec<String>,
    /// Hashes of the node's trusted roots.
    pub roots: Vec<Digest>,
}

/// A signature file of the node's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSignature {
    /// Under which digest it lies: the image's index or manifest.
    pub subject: Digest,
    /// Hash of the file.
    pub blob: Digest,
    /// What it is.
    pub format: SignatureFormat,
}

/// A line of the judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum JudgeLine {
    /// The judge needs these bytes.
    Blob {
        /// Which.
        digest: Digest,
        /// More than these are not wanted.
        bytes_max: u64,
    },
    /// The end: what the image is.
    Facts(ImageFacts),
    /// The end: who signed it.
    Signatures(SignatureFacts),
    /// The end: the image is broken, and will be the next time: why.
    Flaw(String),
    /// The end: the judge could not come to a verdict this time: why.
    Failed(String),
}

/// The caller's answer to [`JudgeLine::Blob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BlobLine {
    /// That many bytes follow the newline.
    Bytes(u64),
    /// The blob has more bytes than were wanted.
    TooLarge,
    /// The blob cannot be read: why.
    Failed(String),
}

/// Why facts cannot be believed, whoever sends them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// Of another image.
    #[error("facts are about {found}, not {wanted}")]
    Target {
        /// What was asked.
        wanted: Digest,
        /// What was answered.
        found: Digest,
    },
    /// No image has that many layers.
    #[error("facts have {0} layers, not 1 to {IMAGE_LAYERS_MAX}")]
    Layers(usize),
    /// A layer without a blob, or the other way round.
    #[error("facts have {blobs} blobs of {layers} layers")]
    Blobs {
        /// How many blobs.
        blobs: usize,
        /// How many layers.
        layers: usize,
    },
    /// No image has such a long USER or VOLUME.
    #[error("facts have {0} bytes of USER and VOLUMEs, more than {IMAGE_TEXT_BYTES_MAX}")]
    Text(usize),
}

impl ImageFacts {
    /// Checks what must hold for the facts about `target`, wherever they come from.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn check(&self, target: &Digest) -> Result<(), FactsError> {
        let Self { target: found, manifest: _, config: _, diff_ids, layers, user, volumes, exposed: _ } =
            self;
        if found != target {
            return Err(FactsError::Target { wanted: *target, found: *found });
        }
        if diff_ids.is_empty() || diff_ids.len() > IMAGE_LAYERS_MAX {
            return Err(FactsError::Layers(diff_ids.len()));
        }
        if layers.len() != diff_ids.len() {
            return Err(FactsError::Blobs { blobs: layers.len(), layers: diff_ids.len() });
        }
        let text = user.0.len() + volumes.iter().map(String::len).sum::<usize>();
        if text > IMAGE_TEXT_BYTES_MAX {
            return Err(FactsError::Text(text));
        }
        Ok(())
    }
}
