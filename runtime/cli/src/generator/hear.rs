//! What a keeper hears of its child, all of it bounded: each line, what is kept of it, and how long it may take.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use bulkhead_generate::Cache;
use bulkhead_model::{CallArguments, FileRules, ProfileQuestion};
use bulkhead_profiles::{VALUES_MAX, narrowing};

use super::{LINE_BYTES_MAX, Line, NONE, REASONS_BYTES_MAX, baseline_calls};

/// How long a child may take for everything: no other profile is worked out meanwhile.
pub(super) const TIME_MAX: Duration = Duration::from_secs(600);

/// Analysis that is kept of one child, in bytes. More is heard and dropped.
const PUT_BYTES_MAX: u64 = 64 << 20;

/// What a child has worked out.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) calls: BTreeSet<String>,
    /// Values of their arguments.
    pub(super) arguments: CallArguments,
    /// Why they are the baseline's.
    pub(super) widened: Option<String>,
    pub(super) files: FileRules,
    /// Why there are none.
    pub(super) files_widened: Option<String>,
    pub(super) reasons: Vec<u8>,
}

/// Answers a child until it has said its last line.
pub(super) fn hear(
    to: UnixStream,
    question: &ProfileQuestion,
    cache: &impl Cache,
    until: Instant,
) -> io::Result<Worked> {
    let mut from = BufReader::new(Timed { stream: to.try_clone()?, until });
    let mut to = Timed { stream: to, until };
    let mut room = PUT_BYTES_MAX;
    let mut text = serde_json::to_vec(question)?;
    text.push(b'\n');
    to.write_all(&text)?;
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
        }
        match serde_json::from_slice(&line)? {
            Line::Get(hash) => {
                let kept = is_hash(&hash).then(|| cache.get(&hash)).flatten();
                to.write_all(&kept.as_ref().map_or(NONE, |kept| kept.len() as u64).to_le_bytes())?;
                to.write_all(kept.as_deref().unwrap_or_default())?;
            }
            Line::Put { hash, bytes } => match room.checked_sub(bytes) {
                Some(left) => {
                    room = left;
                    let made = take(&mut from, bytes)?;
                    if is_hash(&hash) {
                        cache.put(&hash, &made);
                    }
                }
                None => {
                    io::copy(&mut (&mut from).take(bytes), &mut io::sink())?;
                }
            },
            Line::Profile { calls, mut arguments, widened, files, files_widened, bytes } => {
                if bytes > REASONS_BYTES_MAX {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                let reasons = take(&mut from, bytes)?;
                let known = baseline_calls();
                let calls: BTreeSet<_> = calls.into_iter().filter(|call| known.contains(call)).collect();
                let widened = widened.or_else(|| no_narrower(&calls, &known).map(str::to_owned));
                arguments.retain(|call, _| calls.contains(call) && widened.is_none());
                let arguments = known_arguments(arguments);
                let files_widened = files_widened.or_else(|| files.flaw().map(str::to_owned));
                let files = if files_widened.is_some() { FileRules::default() } else { files };
                let short = |why: String| why.chars().take(400).collect();
                let (widened, files_widened) = (widened.map(short), files_widened.map(short));
                return Ok(Worked { calls, arguments, widened, files, files_widened, reasons });
            }
            Line::Failed(why) => return Err(io::Error::other(why.chars().take(300).collect::<String>())),
        }
    }
}

/// Why a profile that a child calls narrow is not: whoever took a child over gains no narrow profile as wide as the baseline.
fn no_narrower(calls: &BTreeSet<String>, baseline: &BTreeSet<String>) -> Option<&'static str> {
    baseline.is_subset(calls).then_some("its files can make every call of the baseline")
}

/// What of these can be enforced: of other arguments, and of too many values, all are allowed.
fn known_arguments(mut arguments: CallArguments) -> CallArguments {
    arguments.retain(|call, of_call| {
        of_call.retain(|arg, values| {
            let mask = narrowing(call, *arg).map_or(0, |known| known.mask);
            (1..=VALUES_MAX).contains(&values.len())
                && values.iter().all(|value| value & !mask == 0)
                && mask != 0
        });
        !of_call.is_empty()
    });
    arguments
}

fn take(from: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut taken = Vec::new();
    from.take(bytes).read_to_end(&mut taken)?;
    if taken.len() as u64 == bytes { Ok(taken) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A name of the cache, and no path.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A socket that fails from one moment on, however little at a time is said on it.
struct Timed {
    stream: UnixStream,
    until: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A timeout of a socket's is told as if it were one that does not block.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests;
