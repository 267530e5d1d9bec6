//! Compares a layer's directory with the tar that it was unpacked from.
//!
//! ```text
//! blob ─feeder─► tar ─reader─► entry ─apply─► tree of names          (what containerd would have made)
//!   hash = the blob's            │ matching                              │
//!   hash of the tar = diff ID    └─ bytes against the file on disk       └─ check: every name on disk, both ways
//! ```
//! Compared are types, modes, owners, extended attributes, hard links, targets of symbolic links, numbers of devices,
//! sizes and bytes, and that nothing is missing or more. Not compared: times, which protect nothing, and labels of
//! security modules, which are the node's.
//!
//! Invariant: "the same" is said only of a tar that hashes to its diff ID and of a directory in which every name was
//! seen. A tar that containerd itself would not unpack is a flaw.
//! Invariant: nothing is opened but names below the layers' own directories.
//! Limit: whoever can write to a layer while it is compared can write to it afterwards as well: the caller takes a
//! receipt before and after, and believes the answer if both are the same.

mod apply;
mod check;
mod flaw;
mod header;
mod matching;
mod pax;
mod process;
mod reader;
mod stream;
mod tree;
mod unpack;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, SeekFrom},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use bulkhead_layers::LayerError;
use bulkhead_model::{Digest, DigestOf};

pub use process::{contents_main, layers_main};
pub use unpack::{LayerLine, unpack_main};

use self::{
    apply::{Place, Whiteouts},
    check::Unlike,
    flaw::TarFlaw,
    matching::{EveryHash, Matching},
    reader::{Piece, ReadError, Reader},
    tree::Tree,
};

/// Source: stat(2), `S_IFMT` and `S_IFREG`.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;

/// Most bytes of names, targets and extended attributes of one tar.
const TEXT_BYTES_MAX: u64 = 128 << 20;

/// Extended attributes of a layer's files, by path: read by a process that may see all of them.
pub type LayerXattrs = BTreeMap<Box<[u8]>, BTreeMap<Box<[u8]>, Box<[u8]>>>;

/// One layer and its tar.
#[derive(Debug)]
pub struct LayerToCompare<'l> {
    /// The layer's directory.
    pub dir: BorrowedFd<'l>,
    /// Its extended attributes.
    pub xattrs: &'l LayerXattrs,
    /// The layers below it, the next one first, with theirs.
    pub below: Vec<(BorrowedFd<'l>, &'l LayerXattrs)>,
    /// The blob, compressed or not.
    pub blob: &'l File,
    /// What the blob hashes to.
    pub digest: Digest,
    /// What the tar hashes to.
    pub diff_id: Digest,
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The directory is what containerd makes of the tar.
    Same,
    /// It is not.
    Different {
        /// Where, from the layer on.
        path: PathBuf,
        /// What is other there.
        what: String,
    },
    /// The tar is none: the same blob gives the same answer.
    Flaw(String),
    /// The blob is not what its name says.
    Spoilt(Digest),
}

/// What kept a comparison from coming to anything.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A call on the blob.
    #[error("{0} of the layer's blob")]
    Blob(&'static str, #[source] io::Error),
    /// A call on the layer.
    #[error("layer directory")]
    Layer(#[from] LayerError),
    /// The feeder.
    #[error("the thread that decompresses ended early")]
    Feeder,
}

/// Compares one layer.
///
/// # Errors
/// What could not be read.
pub fn compare(layer: &LayerToCompare<'_>) -> Result<Compared, CompareError> {
    match attempt(layer, EveryHash::No) {
        Err(Stopped::Exchanged) => conclude(layer, attempt(layer, EveryHash::Yes)),
        other => conclude(layer, other),
    }
}

fn conclude(layer: &LayerToCompare<'_>, attempt: Result<(), Stopped>) -> Result<Compared, CompareError> {
    match attempt {
        Ok(()) => Ok(Compared::Same),
        Err(Stopped::Different { path, what }) => Ok(Compared::Different { path, what }),
        Err(Stopped::Exchanged) => Err(CompareError::Feeder),
        Err(Stopped::Spoilt(found)) => Ok(Compared::Spoilt(found)),
        Err(Stopped::Error(error)) => Err(error),
        Err(Stopped::Flaw(flaw)) => {
            // A damaged blob is a damaged tar as well: then the blob is named, which can be had again.
            let found = hash_blob(layer.blob).map_err(|error| CompareError::Blob("read(2)", error))?;
            Ok(if found == layer.digest { Compared::Flaw(flaw.to_string()) } else { Compared::Spoilt(found) })
        }
    }
}

/// Why a comparison ended before it could say "the same".
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("different")]
    Different { path: PathBuf, what: String },
    #[error("names were exchanged")]
    Exchanged,
    #[error("spoilt")]
    Spoilt(Digest),
    #[error(transparent)]
    Flaw(#[from] TarFlaw),
    #[error(transparent)]
    Error(#[from] CompareError),
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Flaw(flaw) => Stopped::Flaw(flaw),
            ReadError::Io(error) => CompareError::Blob("read(2)", error).into(),
        }
    }
}

fn attempt(layer: &LayerToCompare<'_>, every_hash: EveryHash) -> Result<(), Stopped> {
    let LayerToCompare { dir, xattrs, below, blob, digest, diff_id } = layer;
    rewind(blob)?;
    let (feeder, tar) = stream::tar();
    let (fed, read) = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feeder.feed(blob));
        // The stream is dropped with the reader: a feeder that waits for it ends.
        let whiteouts = if below.is_empty() { Whiteouts::Remove } else { Whiteouts::Overlay };
        let read = read(tar, &mut Matching::new(*dir, every_hash), whiteouts);
        (feeding.join(), read)
    });
    let (tree, found) = read?;
    let fed = fed.map_err(|_| CompareError::Feeder)?.ok_or(CompareError::Feeder)?;
    if fed.digest != *digest {
        return Err(Stopped::Spoilt(fed.digest));
    }
    if found != *diff_id {
        return Err(TarFlaw::DiffId { said: *diff_id, found }.into());
    }
    let layer = check::Layer { dir: *dir, below: below.clone(), xattrs };
    check::check(&tree, &layer).map_err(|unlike| match unlike {
        Unlike::Difference { path, what } => Stopped::Different { path, what },
        Unlike::Exchanged => Stopped::Exchanged,
        Unlike::Layer(LayerError::Foreign { path, why }) => {
            Stopped::Different { path: Path::new("/").join(path), what: why.to_owned() }
        }
        Unlike::Layer(LayerError::Entries) => {
            Stopped::Different { path: "/".into(), what: LayerError::Entries.to_string() }
        }
        Unlike::Layer(error) => CompareError::Layer(error).into(),
    })
}

/// The tree that the tar comes to, and what the tar hashes to.
fn read(
    tar: stream::Tar,
    matching: &mut Matching<'_>,
    whiteouts: Whiteouts,
) -> Result<(Tree, Digest), Stopped> {
    let mut reader = Reader::new(tar);
    let mut tree = Tree::new();
    let (mut entries, mut text) = (0, 0);
    while let Some(entry) = reader.next()? {
        entries += 1;
        let xattrs = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        text += (entry.name.len() + entry.link.len() + xattrs) as u64;
        if entries > bulkhead_layers::LAYER_ENTRIES_MAX || text > TEXT_BYTES_MAX {
            return Err(TarFlaw::Entries.into());
        }
        let mut removed = 0;
        let (place, base) = apply::place(&mut tree, &entry, whiteouts, &mut removed)?;
        if let Place::Name(dir) = place {
            let mut content = None;
            if entry.kind == b'0' {
                let mut path = tree.path(dir);
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(base);
                let path = Path::new(std::ffi::OsStr::from_bytes(&path));
                let give =
                    |take: &mut dyn FnMut(Piece<'_>) -> Result<(), ReadError>| reader.content(&entry, take);
                content = Some(matching.content(path, entry.size, give)?);
            }
            apply::put(&mut tree, dir, base, &entry, content, &mut removed)?;
        }
        matching.count_other(removed)?;
    }
    let found = reader.into_inner().finish().map_err(ReadError::from)?;
    Ok((tree, found))
}

fn hash_blob(mut blob: &File) -> io::Result<Digest> {
    blob.seek(SeekFrom::Start(0))?;
    let mut hash = DigestOf::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match io::Read::read(&mut blob, &mut buffer)? {
            0 => return Ok(hash.finish()),
            length => hash.add(&buffer[..length]),
        }
    }
}

fn rewind(mut blob: &File) -> Result<(), CompareError> {
    blob.seek(SeekFrom::Start(0)).map(drop).map_err(|error| CompareError::Blob("lseek(2)", error))
}

#[cfg(test)]
mod tests;
