//! The reader of one layer's blob as a process: its entries, one after the other, for whoever makes files of them.
//!
//! ```text
//! bulkhead judge unpack     0 the blob, compressed or not · 1 a line for each entry, and after that of a file its bytes
//! ```
//! What a layer tells about those below it is told as such; what is neither file, directory nor link is left out: nobody
//! who reads an image's programs has a use for it. Names are from the layer on, without `.` and `..`.
//!
//! Invariant: not a byte of the blob is read before the process has locked itself down; it can write to its output and
//! nothing else. Whoever hears it makes of each name what a name is, and bounds what it takes.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd as _,
    process::ExitCode,
};

use bulkhead_layers::LAYER_ENTRIES_MAX;
use bulkhead_model::Digest;
use serde::{Deserialize, Serialize};

use super::{
    TEXT_BYTES_MAX,
    flaw::TarFlaw,
    reader::{Entry, Piece, ReadError, Reader},
    stream,
};
use crate::lockdown::{self, Handed};

/// Longest name and target, in bytes.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h.
const PATH_BYTES_MAX: usize = 4095;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Longest text of a failure, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// Zeros that a hole of a sparse file is written as at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What is said of a layer, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerLine {
    /// A directory.
    Directory {
        /// Its name.
        name: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// A file; its bytes follow.
    File {
        /// Its name.
        name: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// How many bytes follow.
        bytes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Its name.
        name: Vec<u8>,
        /// Where it leads.
        to: Vec<u8>,
    },
    /// One more name of a file that is there.
    Link {
        /// Its name.
        name: Vec<u8>,
        /// The other one, from the layer on.
        to: Vec<u8>,
    },
    /// What the layers below have of that name is not seen.
    Gone(Vec<u8>),
    /// Of what the layers below have in that directory nothing is seen.
    Opaque(Vec<u8>),
    /// The end: what the tar hashes to.
    End(Digest),
    /// The end: the tar is none.
    Flaw(String),
}

/// Why a layer is not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error(transparent)]
    Lockdown(#[from] lockdown::LockdownError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("write(2) to stdout")]
    Write(#[from] io::Error),
    #[error("the thread that decompresses ended early")]
    Feeder,
}

impl From<TarFlaw> for UnpackError {
    fn from(flaw: TarFlaw) -> Self {
        Self::Read(flaw.into())
    }
}

/// `bulkhead judge unpack`. 0: the layer was told, or what is wrong with it; 3: neither.
#[must_use]
pub fn unpack_main() -> ExitCode {
    let mut out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let last = match unpack(&mut out) {
        Ok(diff_id) => LayerLine::End(diff_id),
        Err(UnpackError::Read(ReadError::Flaw(flaw))) => {
            LayerLine::Flaw(flaw.to_string().chars().take(TEXT_CHARS_MAX).collect())
        }
        Err(_) => return ExitCode::from(3),
    };
    match say(&mut out, &last).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

fn unpack(out: &mut impl Write) -> Result<Digest, UnpackError> {
    let blob = io::stdin().as_fd().try_clone_to_owned()?;
    let Handed { blobs, .. } = lockdown::lock_down_holding(Handed { dirs: Vec::new(), blobs: vec![blob] })?;
    let blob = File::from(blobs.into_iter().next().ok_or(UnpackError::Feeder)?);
    let (feeder, tar) = stream::tar();
    let (fed, told) = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feeder.feed(&blob));
        let told = tell(tar, out);
        (feeding.join(), told)
    });
    let told = told?;
    fed.map_err(|_| UnpackError::Feeder)?.ok_or(UnpackError::Feeder)?;
    Ok(told)
}

/// Tells every entry; what the tar hashes to.
pub(super) fn tell(tar: stream::Tar, out: &mut impl Write) -> Result<Digest, UnpackError> {
    let mut reader = Reader::new(tar);
    let (mut entries, mut text) = (0, 0);
    while let Some(entry) = reader.next()? {
        entries += 1;
        text += (entry.name.len() + entry.link.len()) as u64;
        if entries > LAYER_ENTRIES_MAX || text > TEXT_BYTES_MAX {
            return Err(TarFlaw::Entries.into());
        }
        let Some(line) = line(&entry)? else { continue };
        say(out, &line)?;
        if let LayerLine::File { .. } = line {
            reader.content(&entry, &mut |piece| match piece {
                Piece::Bytes(bytes) => out.write_all(bytes).map_err(UnpackError::from),
                Piece::Zeros(count) => zeros(out, count).map_err(UnpackError::from),
            })?;
        }
    }
    Ok(reader.into_inner().finish().map_err(ReadError::from)?)
}

fn zeros(out: &mut impl Write, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let part = count.min(ZEROS.len() as u64);
        out.write_all(ZEROS.get(..usize::try_from(part).unwrap_or_default()).unwrap_or_default())?;
        count -= part;
    }
    Ok(())
}

/// `None` for what is no name within the layer, or no file, directory or link.
fn line(entry: &Entry) -> Result<Option<LayerLine>, TarFlaw> {
    if entry.link.len() > PATH_BYTES_MAX {
        return Err(TarFlaw::Path);
    }
    let Some(name) = clean(&entry.name)? else { return Ok(None) };
    let (dir, base) = match name.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (&[][..], name.as_slice()),
    };
    if base == OPAQUE {
        return Ok(Some(LayerLine::Opaque(dir.to_vec())));
    }
    if let Some(original) = base.strip_prefix(WHITEOUT) {
        if matches!(original, b"" | b"." | b"..") {
            return Err(TarFlaw::Whiteout);
        }
        let separator: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        return Ok(Some(LayerLine::Gone([dir, separator, original].concat())));
    }
    let (mode, link) = (entry.mode, &entry.link);
    Ok(Some(match entry.kind {
        b'0' => LayerLine::File { name, mode, bytes: entry.size },
        b'1' => LayerLine::Link { name, to: clean(link)?.ok_or(TarFlaw::HardLink)? },
        b'2' => LayerLine::Symlink { name, to: link.clone() },
        b'5' => LayerLine::Directory { name, mode },
        b'3' | b'4' | b'6' | b'g' => return Ok(None),
        kind => return Err(TarFlaw::Kind(kind)),
    }))
}

/// As Go's filepath.Clean of a path below the layer: `..` at the front ends in the top.
fn clean(name: &[u8]) -> Result<Option<Vec<u8>>, TarFlaw> {
    if name.len() > PATH_BYTES_MAX || name.contains(&0) {
        return Err(TarFlaw::Path);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(if parts.is_empty() { None } else { Some(parts.join(&b'/')) })
}

fn say(out: &mut impl Write, line: &LayerLine) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
