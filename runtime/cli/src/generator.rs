//! `bulkhead judge profile`: works a profile out and keeps it. Two processes:
//!
//! ```text
//! keeper   root: mounts the layers as the container will see them, read-only, in a mount namespace of its own; reads and
//!  │       writes the store; parses nothing that came from the image
//!  └ child own uid, Landlock: reading below that root, seccomp, limits: parses the image's files (`generator/child.rs`)
//! ```
//! The child's words are bounded, and its calls are names of the baseline or dropped. A child that dies gives a profile that
//! is the baseline's, with the reason, for ten minutes. What it can gain at most is a profile as wide as the baseline, for
//! its own image, and for files of other images that it has never seen the same as: their analysis is shared by hash.
//!
//! Invariant: one child at a time on a node: its memory is bounded once.

mod child;

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, OpenOptionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use bulkhead_containerd::{keep_profile, stored_profile};
use bulkhead_generate::{Cache as _, DirectoryCache};
use bulkhead_model::{Digest, Layout, PROFILE_VERSION, ProfileQuestion, ProfileTask, StoredProfile};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::answer::Trouble;

pub(crate) use child::child_main;

/// Longest question, in bytes.
const QUESTION_BYTES_MAX: u64 = 8 << 20;

/// Longest line of a child, in bytes.
const LINE_BYTES_MAX: u64 = 128 << 10;

/// Longest answer, with its reasons, and longest analysis of a file, in bytes.
const BYTES_MAX: u64 = 128 << 20;

/// What a child says, a line each; bytes follow where it says how many.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Line {
    /// It wants the analysis of a file, by its hash: answered with its length as 8 bytes, and the bytes; all ones if there
    /// is none.
    Get(String),
    /// It has made one.
    Put { hash: String, bytes: u64 },
    /// The end: the calls, and why they are the baseline's; the reasons follow.
    Profile { calls: BTreeSet<String>, widened: Option<String>, bytes: u64 },
    /// The end: the machine broke.
    Failed(String),
}

/// Length that stands for none.
pub(crate) const NONE: u64 = u64::MAX;

/// The keeper, as it is started by a worker: the task is its input, and nobody reads what it says.
#[must_use]
pub(crate) fn keeper_main() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(QUESTION_BYTES_MAX).read_to_end(&mut text);
    let task = read.ok().and_then(|_| serde_json::from_slice::<ProfileTask>(&text).ok());
    let Some(ProfileTask { program: _, root, question }) = task else { return ExitCode::from(2) };
    match keep(&Layout::below(root), &question) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("failed: {}", crate::answer::full(&trouble));
            ExitCode::from(3)
        }
    }
}

/// Works the profile of `question` out and keeps it, unless it is kept already or somebody else is at it.
pub(crate) fn keep(layout: &Layout, question: &ProfileQuestion) -> Result<(), Trouble> {
    let key =
        question.key().ok_or(Trouble::Kernel("hash the question", io::ErrorKind::InvalidData.into()))?;
    let (own, all) = (layout.judge_lock(&key), layout.judge_dir().join("generator.lock"));
    let Some(_mine) = lock(&own, FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(());
    };
    let _only = lock(&all, FlockOperation::LockExclusive)?;
    let kept = keep_locked(layout, question, key);
    for lock in [own, all] {
        // The shim's delete removes what nobody holds, too.
        match std::fs::remove_file(&lock) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Trouble::File { call: "unlink(2)", path: lock, source });
            }
            _ => {}
        }
    }
    kept
}

fn keep_locked(layout: &Layout, question: &ProfileQuestion, key: Digest) -> Result<(), Trouble> {
    if stored_profile(layout, &key)?.is_some() {
        return Ok(());
    }
    let (stored, reasons) = match work_out(layout, question) {
        Ok((calls, widened, reasons)) => (stored(key, calls, widened, false), reasons),
        Err(error) => {
            let why = format!("the generator failed: {error}");
            (stored(key, baseline_calls(), Some(why), true), Vec::new())
        }
    };
    Ok(keep_profile(layout, &stored, &reasons)?)
}

fn stored(key: Digest, calls: BTreeSet<String>, widened: Option<String>, passing: bool) -> StoredProfile {
    StoredProfile { version: PROFILE_VERSION, key, calls, widened, passing }
}

/// Names of all calls that the baseline allows.
pub(crate) fn baseline_calls() -> BTreeSet<String> {
    let allowed = bulkhead_profiles::rows().iter().filter(|row| row.then.runs() && !row.needs_memfd);
    allowed.map(|row| row.syscall.to_owned()).collect()
}

/// A lock that ends with this process. `None`: another has it.
fn lock(path: &Path, how: FlockOperation) -> Result<Option<File>, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("mkdir(2)"))?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed("open(2)"))?;
    match flock(&file, how) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed("flock(2)")(error.into())),
    }
}

type Worked = (BTreeSet<String>, Option<String>, Vec<u8>);

fn work_out(layout: &Layout, question: &ProfileQuestion) -> io::Result<Worked> {
    let root = root_of(layout, &question.layers)?;
    let cache = DirectoryCache::open(&layout.analysis_dir())?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .args(["judge", "profile", "child"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(root))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()?;
    let heard = hear(File::from(OwnedFd::from(ours)), question, &cache);
    if heard.is_err() {
        // It may still be at work; one that has ended is not there to be killed.
        child.kill()?;
    }
    let status = child.wait()?;
    heard.map_err(|error| io::Error::other(format!("{error} ({status})")))
}

fn hear(mut to: File, question: &ProfileQuestion, cache: &DirectoryCache) -> io::Result<Worked> {
    let mut from = BufReader::new(to.try_clone()?);
    let mut text = serde_json::to_vec(question)?;
    text.push(b'\n');
    to.write_all(&text)?;
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match serde_json::from_slice(&line)? {
            Line::Get(hash) => {
                let kept = is_hash(&hash).then(|| cache.get(&hash)).flatten();
                to.write_all(&kept.as_ref().map_or(NONE, |kept| kept.len() as u64).to_le_bytes())?;
                to.write_all(kept.as_deref().unwrap_or_default())?;
            }
            Line::Put { hash, bytes } => {
                let made = take(&mut from, bytes)?;
                if is_hash(&hash) {
                    cache.put(&hash, &made);
                }
            }
            Line::Profile { calls, widened, bytes } => {
                let reasons = take(&mut from, bytes)?;
                let known = baseline_calls();
                let calls: BTreeSet<_> = calls.into_iter().filter(|call| known.contains(call)).collect();
                let widened = widened.or_else(|| no_narrower(&calls, &known).map(str::to_owned));
                return Ok((calls, widened.map(|why| why.chars().take(400).collect()), reasons));
            }
            Line::Failed(why) => return Err(io::Error::other(why.chars().take(300).collect::<String>())),
        }
    }
}

/// Why a profile that a child calls narrow is not: whoever took a child over gains no narrow profile as wide as the baseline.
fn no_narrower(calls: &BTreeSet<String>, baseline: &BTreeSet<String>) -> Option<&'static str> {
    baseline.is_subset(calls).then_some("its files can make every call of the baseline")
}

fn take(from: &mut BufReader<File>, bytes: u64) -> io::Result<Vec<u8>> {
    if bytes > BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut taken = Vec::new();
    from.take(bytes).read_to_end(&mut taken)?;
    if taken.len() as u64 == bytes { Ok(taken) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A name of the cache, and no path.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The root that the layers make, read-only: one layer's directory, or an overlay in a mount namespace of this process.
fn root_of(layout: &Layout, layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let (Some(top), Some(above)) = (layers.last(), layers.first().and_then(|layer| common(layer, layers)))
    else {
        return Err(io::Error::other("an image without layers"));
    };
    if layers.len() == 1 {
        return Ok(File::open(top)?.into());
    }
    let at = layout.run_dir().join("generator");
    DirBuilder::new().recursive(true).mode(0o700).create(&at)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Names from here on: a page of options has room for some 500 layers then.
    std::env::set_current_dir(&above)?;
    let mut options = "lowerdir=".to_owned();
    for (number, layer) in layers.iter().rev().enumerate() {
        let name = layer.strip_prefix(&above).map_err(io::Error::other)?.to_string_lossy().into_owned();
        if name.contains([':', ',', '\\']) {
            return Err(io::Error::other(format!("a layer's directory is called {name:?}")));
        }
        options.push_str(if number == 0 { "" } else { ":" });
        options.push_str(&name);
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("overlay"), &at, Some("overlay"), flags, Some(options.as_str()))?;
    std::env::set_current_dir("/")?;
    Ok(File::open(&at)?.into())
}

/// The directory that all of `layers` are below.
fn common(first: &Path, layers: &[PathBuf]) -> Option<PathBuf> {
    first
        .ancestors()
        .skip(1)
        .find(|above| layers.iter().all(|layer| layer.starts_with(above)))
        .map(Path::to_owned)
}
