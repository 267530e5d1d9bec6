//! The store of verdicts: one file of root's alone per target digest, written whole or not at all.
//!
//! A file that is missing, cut short, of another version or platform is no verdict: the image is judged anew. A file
//! that others could have written is a failure that names it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bulkhead_model::{Digest, ImageFacts, JUDGE_LINE_BYTES_MAX, JUDGE_VERSION, Layout};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::{Failure, judge::Verdict};

/// The platform that verdicts of this build are about.
const PLATFORM: &str = "linux/amd64";

/// Most bytes of a verdict's file: the judge's longest line, and some air.
const FILE_BYTES_MAX: u64 = JUDGE_LINE_BYTES_MAX as u64 + 4096;

/// How long to sleep between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    platform: String,
    target: Digest,
    verdict: StoredVerdict,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum StoredVerdict {
    Facts(ImageFacts),
    Flaw(String),
}

/// The stored verdict of `target`, if there is one to be believed.
pub(crate) fn load(layout: &Layout, target: &Digest) -> Result<Option<Verdict>, Failure> {
    let path = layout.facts_file(target);
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(nofollow).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::File { call: "open(2)", path, error }),
    };
    let failed = |call, error| Failure::File { call, path: path.clone(), error };
    check(&path, &file.metadata().map_err(|error| failed("fstat(2)", error))?)?;
    if let Some(dir) = path.parent() {
        check(
            dir,
            &fs::symlink_metadata(dir).map_err(|error| failed("lstat(2) of the directory of", error))?,
        )?;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| failed("read(2)", error))?;
    Ok(parse(&text, target))
}

/// The verdict in a file's bytes, if they are one about `target` of this version.
fn parse(text: &[u8], target: &Digest) -> Option<Verdict> {
    let Stored { version, platform, target: found, verdict } = serde_json::from_slice(text).ok()?;
    if version != JUDGE_VERSION || platform != PLATFORM || found != *target {
        return None;
    }
    match verdict {
        StoredVerdict::Facts(facts) => facts.check(target).is_ok().then_some(Verdict::Facts(facts)),
        StoredVerdict::Flaw(flaw) => Some(Verdict::Flaw(flaw)),
    }
}

/// Writes a verdict beside its place and moves it there.
pub(crate) fn save(layout: &Layout, target: &Digest, verdict: &Verdict) -> Result<(), Failure> {
    let path = layout.facts_file(target);
    make_parent(&path)?;
    let stored = Stored {
        version: JUDGE_VERSION,
        platform: PLATFORM.to_owned(),
        target: *target,
        verdict: match verdict {
            Verdict::Facts(facts) => StoredVerdict::Facts(facts.clone()),
            Verdict::Flaw(flaw) => StoredVerdict::Flaw(flaw.clone()),
        },
    };
    let encode =
        |error: serde_json::Error| Failure::File { call: "encode", path: path.clone(), error: error.into() };
    write_whole(&path, &serde_json::to_vec(&stored).map_err(encode)?)
}

/// Writes a file whole or not at all. The lock is held that makes `path`, with another extension, nobody else's.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> Result<(), Failure> {
    write_by_way_of(path.with_extension("tmp"), path, text)
}

/// Writes a file that several may write at once, each whole: the last one stays.
pub(crate) fn write_whole_among_others(path: &Path, text: &[u8]) -> Result<(), Failure> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    write_by_way_of(path.with_extension(format!("{}-{number}.tmp", std::process::id())), path, text)
}

fn write_by_way_of(beside: PathBuf, path: &Path, text: &[u8]) -> Result<(), Failure> {
    let failed = |call, error| Failure::File { call, path: beside.clone(), error };
    match fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("unlink(2)", error)),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|error| failed("open(2)", error))?;
    file.write_all(text).map_err(|error| failed("write(2)", error))?;
    fs::rename(&beside, path).map_err(|error| failed("rename(2)", error))
}

/// A lock on the judge of one digest, or on the work that a file stands for. The file goes with it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Its file, for a process that holds the lock, too, until it ends.
    ///
    /// # Errors
    /// dup(2).
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever opened the file before finds, once it has the lock, that its name is gone, and tries again.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "unlink(2) of a judge's lock");
        }
    }
}

/// By what the lock on the judges of an image's signatures goes.
pub(crate) fn signatures_key(target: &Digest) -> Digest {
    Digest::of(format!("signatures {target}").as_bytes())
}

/// By what the lock on the comparison of a layer goes.
pub(crate) fn contents_key(chain: &Digest) -> Digest {
    Digest::of(format!("contents {chain}").as_bytes())
}

/// Waits for the lock on `target`'s judge, but not longer than `wait_max`.
pub(crate) async fn lock(layout: &Layout, target: &Digest, wait_max: Duration) -> Result<Lock, Failure> {
    let path = layout.judge_lock(target);
    make_parent(&path)?;
    let started = Instant::now();
    loop {
        if let Some(lock) = try_lock(&path)? {
            return Ok(lock);
        }
        if started.elapsed() >= wait_max {
            return Err(Failure::JudgeBusy { target: *target, after: wait_max });
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Removes what judges left whose server was killed: locks that nobody holds, and verdicts that were not finished. Says
/// what it could not remove.
#[must_use]
pub fn remove_stale_files(layout: &Layout) -> Vec<String> {
    let mut problems = Vec::new();
    let names = |dir: PathBuf| {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for lock in names(layout.judge_dir()) {
        match try_lock(&lock) {
            Ok(Some(held)) => {
                // Who writes a verdict holds the lock of its digest.
                let verdict = layout.verdicts_dir().join(lock.file_name().unwrap_or_default());
                match fs::remove_file(verdict.with_extension("tmp")) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        problems.push(format!("unlink(2) {}: {error}", verdict.display()));
                    }
                    _ => {}
                }
                drop(held);
            }
            // A judge is at work.
            Ok(None) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems
}

/// The lock, if nobody else has it. Whoever finds that the name is another file's by now has locked nothing.
///
/// # Errors
/// The file is in a directory of others', or cannot be made or locked.
pub fn try_lock(path: &Path) -> Result<Option<Lock>, Failure> {
    make_parent(path)?;
    let failed = |call, error| Failure::File { call, path: path.to_owned(), error };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| failed("open(2)", error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(failed("flock(2)", error.into())),
    }
    let held = file.metadata().map_err(|error| failed("fstat(2)", error))?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
            Ok(Some(Lock { path: path.to_owned(), file }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("lstat(2)", error)),
    }
}

/// Makes the directory of `path` with mode 0700, or checks that it is root's alone.
pub(crate) fn make_parent(path: &Path) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let failed = |call, error| Failure::File { call, path: dir.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("mkdir(2)", error))?;
    check(dir, &fs::symlink_metadata(dir).map_err(|error| failed("lstat(2)", error))?)
}

/// Whether a file or directory can be written by nobody but root.
pub(crate) fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    let problem = if metadata.file_type().is_symlink() {
        "it is a symbolic link"
    } else if metadata.uid() != 0 {
        "its owner is not root"
    } else if metadata.mode() & 0o022 != 0 {
        "its group or everybody may write it"
    } else {
        return Ok(());
    };
    Err(Failure::Untrusted { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests;
