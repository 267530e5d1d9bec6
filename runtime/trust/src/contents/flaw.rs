//! What is wrong with a layer's tar.

use bulkhead_layers::LAYER_ENTRIES_MAX;

/// Why a tar is no layer that containerd could have unpacked, or none that is compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TarFlaw {
    /// A block that should be a header.
    #[error("has a damaged header")]
    Header,
    /// The end came in the middle.
    #[error("ends in the middle of a file")]
    Short,
    /// A record of a PAX header that is none.
    #[error("has a damaged PAX header")]
    Pax,
    /// A list of holes that makes no sense, or is too long.
    #[error("has a damaged list of a sparse file's parts")]
    Sparse,
    /// A header that speaks of the next one is too large.
    #[error("has a name or PAX header of more than 1 MiB")]
    LongHeader,
    /// A kind that containerd does not unpack.
    #[error("has an entry of the unknown kind {:?}", char::from(*.0))]
    Kind(u8),
    /// An owner that is none.
    #[error("gives an owner or a device a number that is none")]
    Number,
    /// `.wh..` and `.wh...`.
    #[error("has a whiteout of a directory's own name")]
    Whiteout,
    /// The whiteout of what the same layer has.
    #[error("has a file and its whiteout")]
    WhiteoutOfOwn,
    /// A directory that something else stands in place of.
    #[error("has a file below what is no directory")]
    NoDirectory,
    /// A path with too many symbolic links.
    #[error("has a path with more than 255 symbolic links")]
    Links,
    /// A hard link to what is not there.
    #[error("has a hard link to nothing")]
    HardLink,
    /// More than the kernel takes.
    #[error("has a path of more than 4095 bytes, or a name of more than 255")]
    Path,
    /// More than the kernel takes.
    #[error("has an extended attribute with a name of more than 255 bytes, or a value of more than 64 KiB")]
    Attribute,
    /// Too many entries.
    #[error("has more than {LAYER_ENTRIES_MAX} entries")]
    Entries,
    /// All that is kept of it while it is read, but for files' bytes, is too much.
    #[error("has more than {} MiB of names, links and extended attributes", .0 >> 20)]
    Text(usize),
    /// What of it is not on disk any more is too much: it writes the same files again and again.
    #[error("writes more than {} MiB that later entries of its own remove", .0 >> 20)]
    Overwritten(u64),
    /// Not gzip, not zstd, or damaged.
    #[error("cannot be decompressed: {0}")]
    Compression(String),
    /// It hashes to something else than the config says.
    #[error("unpacked hashes to {found}, its config says {said}")]
    DiffId {
        /// The config's.
        said: bulkhead_model::Digest,
        /// Found.
        found: bulkhead_model::Digest,
    },
}
