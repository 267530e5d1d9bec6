//! A file's bytes in the tar against those on disk, while the tar goes by.

use std::{fs::File, io::Read, os::fd::BorrowedFd, os::unix::fs::FileExt, path::Path};

use bulkhead_layers::{Stat, open_below, stat_of};
use bulkhead_model::{Digest, DigestOf};

use super::{
    MODE_FILE, MODE_TYPE,
    flaw::TarFlaw,
    reader::{Piece, ReadError},
    tree::Content,
};

/// Most bytes of a tar that are not those of a file on disk: what later entries remove, and what was changed on disk.
///
/// Bounds the work that a decompression bomb can make: all other bytes are on disk as well.
const OTHER_BYTES_MAX: u64 = 4 << 30;

/// How many bytes are read of a file at a time.
const READ_BYTES: usize = 256 * 1024;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How a tar's bytes are matched with those of a layer.
pub(super) struct Matching<'l> {
    layer: BorrowedFd<'l>,
    every_hash: EveryHash,
    buffer: Vec<u8>,
    /// Bytes of the tar that are not on disk.
    other: u64,
}

/// Whether files are hashed that are what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EveryHash {
    No,
    /// Where a tar's entries replace and link each other so that the file at a name is not the one that it was
    /// compared with.
    Yes,
}

impl<'l> Matching<'l> {
    pub(super) fn new(layer: BorrowedFd<'l>, every_hash: EveryHash) -> Self {
        Self { layer, every_hash, buffer: vec![0; READ_BYTES], other: 0 }
    }

    /// Counts bytes that are not on disk.
    pub(super) fn count_other(&mut self, bytes: u64) -> Result<(), TarFlaw> {
        self.other = self.other.saturating_add(bytes);
        if self.other > OTHER_BYTES_MAX { Err(TarFlaw::Overwritten(OTHER_BYTES_MAX)) } else { Ok(()) }
    }

    /// Takes a file's bytes from `give`, which hands them out piece by piece.
    pub(super) fn content(
        &mut self,
        path: &Path,
        size: u64,
        give: impl FnOnce(&mut dyn FnMut(Piece<'_>) -> Result<(), ReadError>) -> Result<(), ReadError>,
    ) -> Result<Content, ReadError> {
        let found = self.on_disk(path, size);
        let mut state = match found {
            Some((file, stat)) if self.every_hash == EveryHash::No => State::Same { file, stat, at: 0 },
            _ => State::Other(DigestOf::new()),
        };
        if let State::Other(_) = state {
            self.count_other(if self.every_hash == EveryHash::Yes { 0 } else { size })?;
        }
        give(&mut |piece| self.piece(piece, &mut state, size))?;
        Ok(match state {
            State::Same { stat, .. } => Content::SameAs(stat.inode),
            State::Other(hash) => Content::Hash(hash.finish()),
        })
    }

    fn on_disk(&self, path: &Path, size: u64) -> Option<(File, Stat)> {
        // Whatever is wrong with it, the walk at the end says so.
        let file = File::from(open_below(self.layer, path, false).ok()?);
        let stat = stat_of(&file).ok()?;
        (stat.mode & MODE_TYPE == MODE_FILE && stat.size == size).then_some((file, stat))
    }

    fn piece(&mut self, piece: Piece<'_>, state: &mut State, size: u64) -> Result<(), ReadError> {
        match piece {
            Piece::Bytes(bytes) => self.bytes(bytes, state, size),
            Piece::Zeros(mut count) => {
                while count > 0 {
                    let length = count.min(ZEROS.len() as u64);
                    self.bytes(&ZEROS[..usize::try_from(length).unwrap_or(0)], state, size)?;
                    count -= length;
                }
                Ok(())
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8], state: &mut State, size: u64) -> Result<(), ReadError> {
        match state {
            State::Other(hash) => {
                hash.add(bytes);
                Ok(())
            }
            State::Same { file, at, .. } => {
                if same(file, &mut self.buffer, bytes) {
                    *at += bytes.len() as u64;
                    return Ok(());
                }
                let mut hash = DigestOf::new();
                hash_range(file, &mut self.buffer, *at, &mut hash).map_err(ReadError::Io)?;
                hash.add(bytes);
                *state = State::Other(hash);
                Ok(self.count_other(size)?)
            }
        }
    }
}

enum State {
    /// So far.
    Same {
        file: File,
        stat: Stat,
        at: u64,
    },
    Other(DigestOf),
}

/// Whether the file goes on with these bytes.
fn same(file: &mut File, buffer: &mut [u8], bytes: &[u8]) -> bool {
    bytes.chunks(buffer.len()).all(|bytes| {
        let part = &mut buffer[..bytes.len()];
        file.read_exact(part).is_ok() && part == bytes
    })
}

/// Adds the first bytes of a file.
fn hash_range(file: &File, buffer: &mut [u8], length: u64, hash: &mut DigestOf) -> std::io::Result<()> {
    let mut at = 0;
    while at < length {
        let part = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..part], at)?;
        hash.add(&buffer[..part]);
        at += part as u64;
    }
    Ok(())
}

/// The hash of a file of `size` bytes, if it has as many.
pub(super) fn hash(layer: BorrowedFd<'_>, path: &Path, size: u64) -> std::io::Result<Digest> {
    let file = File::from(open_below(layer, path, false)?);
    let mut hash = DigestOf::new();
    hash_range(&file, &mut vec![0; READ_BYTES], size, &mut hash)?;
    Ok(hash.finish())
}
