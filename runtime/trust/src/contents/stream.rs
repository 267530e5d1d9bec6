//! A layer's blob as a stream of its tar's bytes, decompressed by a thread of its own and hashed on both sides.
//!
//! ```text
//! blob ─read, hash─► decompress ─(a few chunks)─► hash ─► tar
//!      └──────── feeder ───────┘                └ whoever compares ┘
//! ```
//! What a blob is compressed with is told by its first bytes, as containerd does it; a media type is a hint.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use bulkhead_model::{Digest, DigestOf};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// Size of a chunk, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks that wait to be compared.
const CHUNKS: usize = 4;

/// How many bytes of a blob are read at a time.
const READ_BYTES: usize = 128 * 1024;

type Chunk = io::Result<Vec<u8>>;

/// The tar's bytes, hashed as they are taken.
pub(super) struct Tar {
    chunks: Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
    hash: DigestOf,
}

/// What to send chunks to.
pub(super) struct Feeder(SyncSender<Chunk>);

/// A blob's bytes, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
}

/// Both ends.
pub(super) fn tar() -> (Feeder, Tar) {
    let (sender, chunks) = sync_channel(CHUNKS);
    (Feeder(sender), Tar { chunks, chunk: Vec::new(), at: 0, hash: DigestOf::new() })
}

impl Feeder {
    /// Reads the blob to its end, or until nobody takes chunks any more.
    pub(super) fn feed(self, blob: &File) -> Option<Blob> {
        let Self(sender) = self;
        let mut input = BufReader::with_capacity(READ_BYTES, Hashed { blob, hash: DigestOf::new() });
        match decompress(&mut input, &sender) {
            Ok(Fed::All) => Some(Blob { digest: input.into_inner().hash.finish() }),
            Ok(Fed::Stopped) => None,
            Err(error) => {
                // Nobody there: whoever compared has found a reason to stop.
                if sender.send(Err(error)).is_err() {
                    return None;
                }
                None
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fed {
    All,
    Stopped,
}

/// Source: containerd pkg/archive/compression, `DetectCompression`; RFC 8878, section 3.1.2, for skippable frames.
fn decompress(input: &mut (impl BufRead + ?Sized), sender: &SyncSender<Chunk>) -> io::Result<Fed> {
    let start = input.fill_buf()?;
    match start {
        [0x1f, 0x8b, 0x08, ..] => chunks(&mut MultiGzDecoder::new(input), sender),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => frames(input, sender),
        _ => chunks(input, sender),
    }
}

/// Zstandard frames, one after the other, and those that are to be skipped.
fn frames(input: &mut (impl BufRead + ?Sized), sender: &SyncSender<Chunk>) -> io::Result<Fed> {
    while !input.fill_buf()?.is_empty() {
        match StreamingDecoder::new(&mut *input) {
            Ok(mut frame) => {
                if chunks(&mut frame, sender)? == Fed::Stopped {
                    return Ok(Fed::Stopped);
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = u64::from(length);
                if io::copy(&mut (&mut *input).take(length), &mut io::sink())? != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }
    Ok(Fed::All)
}

fn chunks(input: &mut (impl Read + ?Sized), sender: &SyncSender<Chunk>) -> io::Result<Fed> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut length = 0;
        while length < CHUNK_BYTES {
            match input.read(&mut chunk[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if length == 0 {
            return Ok(Fed::All);
        }
        chunk.truncate(length);
        if sender.send(Ok(chunk)).is_err() {
            return Ok(Fed::Stopped);
        }
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashed<'f> {
    blob: &'f File,
    hash: DigestOf,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.blob.read(buffer)?;
        self.hash.add(&buffer[..length]);
        Ok(length)
    }
}

impl Tar {
    /// Takes what is left, and gives the hash of all.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(self.hash.finish());
            }
            self.consume(length);
        }
    }
}

impl BufRead for Tar {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            // The feeder drops its end when the blob has no more.
            self.chunk = match self.chunks.recv() {
                Ok(chunk) => chunk?,
                Err(_) => Vec::new(),
            };
            self.at = 0;
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.hash.add(&self.chunk[self.at..self.at + length]);
        self.at += length;
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}
