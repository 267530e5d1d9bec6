//! Between a shim and containerd's API: forwards bytes, and counts how long an answer is owed.
//!
//! Only as much of HTTP/2 is read as that takes: a stream opens with the client's HEADERS and ends with END_STREAM or
//! RST_STREAM of the server. While any stream is open, somebody waits on containerd.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;

/// What a client sends before its first frame. Source: RFC 9113, 3.4.
const PREFACE_BYTES: usize = 24;

/// Length, type, flags and stream of a frame. Source: RFC 9113, 4.1.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Forwards in threads of its own until the process ends.
pub(super) struct Proxy {
    waits: Arc<Mutex<Waits>>,
}

#[derive(Debug, Default)]
struct Waits {
    open: BTreeSet<(u64, u32)>,
    since: Option<Instant>,
    total: Duration,
}

impl Waits {
    fn opened(&mut self, stream: (u64, u32)) {
        self.open.insert(stream);
        self.since.get_or_insert_with(Instant::now);
    }

    fn closed(&mut self, done: impl Fn(&(u64, u32)) -> bool) {
        self.open.retain(|stream| !done(stream));
        if self.open.is_empty()
            && let Some(since) = self.since.take()
        {
            self.total += since.elapsed();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

impl Proxy {
    /// Listens at `at` and forwards to `to`.
    pub(super) fn start(at: &Path, to: &Path) -> Result<Self, HarnessError> {
        let listener = UnixListener::bind(at).map_err(HarnessError::at("bind", at))?;
        let waits: Arc<Mutex<Waits>> = Arc::default();
        let (counted, to) = (Arc::clone(&waits), to.to_owned());
        thread::spawn(move || {
            static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
            for client in listener.incoming().flatten() {
                let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = forward(client, &to, number, &counted) {
                    eprintln!("bench: proxy: {error}");
                }
            }
        });
        Ok(Self { waits })
    }

    /// Starts to count anew.
    pub(super) fn forget(&self) {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).total = Duration::ZERO;
    }

    /// How long an answer was owed since [`Self::forget`].
    pub(super) fn waited_ms(&self) -> f64 {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).total.as_secs_f64() * 1e3
    }
}

fn forward(client: UnixStream, to: &PathBuf, number: u64, waits: &Arc<Mutex<Waits>>) -> io::Result<()> {
    let server = UnixStream::connect(to)?;
    for (from, source, sink) in
        [(From::Client, client.try_clone()?, server.try_clone()?), (From::Server, server, client)]
    {
        let waits = Arc::clone(waits);
        thread::spawn(move || {
            // An error is one side's end, which the other is told.
            if copy(from, &source, &sink, number, &waits).is_err() || from == From::Server {
                waits.lock().unwrap_or_else(PoisonError::into_inner).closed(|(of, _)| *of == number);
            }
            drop(sink.shutdown(std::net::Shutdown::Write));
        });
    }
    Ok(())
}

fn copy(
    from: From,
    mut source: &UnixStream,
    mut sink: &UnixStream,
    number: u64,
    waits: &Mutex<Waits>,
) -> io::Result<()> {
    let mut frames = Frames::new(from);
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut heads = Vec::new();
        frames.read(&buffer[..length], &mut heads);
        let note = || {
            let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, flags, stream) in &heads {
                match (from, *kind) {
                    (From::Client, HEADERS) => waits.opened((number, *stream)),
                    (From::Server, DATA | HEADERS) if flags & END_STREAM != 0 => {
                        waits.closed(|open| *open == (number, *stream));
                    }
                    (_, RST_STREAM) => waits.closed(|open| *open == (number, *stream)),
                    _ => {}
                }
            }
        };
        // The wait begins before containerd has the request, and ends before the shim has the answer: forwarding
        // counts as the shim's own.
        note();
        sink.write_all(&buffer[..length])?;
    }
}

/// Finds the frames in one direction of a connection.
struct Frames {
    /// To skip: the rest of a frame, or the preface.
    skip: usize,
    head: Vec<u8>,
}

impl Frames {
    fn new(from: From) -> Self {
        Self { skip: if from == From::Client { PREFACE_BYTES } else { 0 }, head: Vec::new() }
    }

    /// Adds `(type, flags, stream)` of each frame that begins in `bytes`.
    fn read(&mut self, mut bytes: &[u8], heads: &mut Vec<(u8, u8, u32)>) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.head.len()).min(bytes.len());
            self.head.extend(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = self.head[..] {
                self.skip = u32::from_be_bytes([0, l1, l2, l3]) as usize;
                heads.push((kind, flags, u32::from_be_bytes([s1 & 0x7f, s2, s3, s4])));
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(body.len()).unwrap_or(0), kind, flags, 0, 0, 0, stream];
        frame.extend(body);
        frame
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'P'; PREFACE_BYTES];
        bytes.extend(frame(4, 0, 0, b"settings"));
        bytes.extend(frame(HEADERS, 4, 1, &[0; 40]));
        bytes.extend(frame(DATA, END_STREAM, 1, b""));
        for size in [1, 7, 9, 25, 200] {
            let (mut frames, mut heads) = (Frames::new(From::Client), Vec::new());
            bytes.chunks(size).for_each(|chunk| frames.read(chunk, &mut heads));
            assert_eq!(heads, [(4, 0, 0), (HEADERS, 4, 1), (DATA, END_STREAM, 1)], "chunks of {size}");
        }
    }

    #[test]
    fn a_wait_lasts_while_any_answer_is_owed_and_no_longer() {
        let mut waits = Waits::default();
        waits.opened((0, 1));
        waits.opened((0, 3));
        waits.closed(|stream| *stream == (0, 1));
        assert!(waits.since.is_some() && waits.total.is_zero());
        waits.closed(|stream| *stream == (0, 3));
        assert!(waits.since.is_none() && !waits.total.is_zero());
    }
}
