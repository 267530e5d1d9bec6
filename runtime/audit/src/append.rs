//! One line more, whole or not at all.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bulkhead_model::Layout;
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};
use serde::Serialize;

use crate::{line::Line, time::utc};

/// Longest line, in bytes, newline included: what the texts of [`Line`] come to at their longest, each byte spelt in
/// six, and some air.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// How long the lock is waited for. Who has it holds it for microseconds; one that was stopped meanwhile must not stop
/// the node for longer than a launch can wait.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long to sleep between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Version of the form of a line.
const VERSION: u32 = 1;

/// Why a verdict could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A system call.
    #[error("{call} {}", .path.display())]
    Call {
        /// Which.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others could write it, or it is no file.
    #[error("{} is not a file of root's alone: {problem}", .path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Somebody holds the lock.
    #[error("{} is locked by another process for more than {LOCK_WAIT_MAX:?}", .0.display())]
    Locked(PathBuf),
    /// It has more bytes than a line may.
    #[error("the line has {0} bytes, more than {LINE_BYTES_MAX}")]
    Long(usize),
    /// It cannot be written in JSON.
    #[error("the line cannot be written in JSON")]
    Json(#[source] serde_json::Error),
}

impl RecordError {
    /// What root can do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            RecordError::Call { path, error, .. } => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    format!("make room on the file system of {0}, or move {0} away", path.display())
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    format!("mount the file system of {} writable", path.display())
                }
                _ => format!("see to it that root can write {}", path.display()),
            },
            RecordError::Untrusted { path, .. } => format!("move {} away", path.display()),
            RecordError::Locked(path) => {
                format!("see who holds {} (lslocks) and end it", path.display())
            }
            RecordError::Long(_) | RecordError::Json(_) => {
                "report this: it is a fault of bulkhead".to_owned()
            }
        }
    }
}

#[derive(Serialize)]
struct Stamped<'a> {
    version: u32,
    time: String,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

/// Appends a line. When it returns, the line is in the file.
///
/// # Errors
/// The line is not in the file, or only a part of it, which no later line continues: what it allows must not begin.
pub fn append(layout: &Layout, line: &Line<'_>) -> Result<(), RecordError> {
    let stamped = Stamped { version: VERSION, time: utc(SystemTime::now()), line };
    let mut text = serde_json::to_vec(&stamped).map_err(RecordError::Json)?;
    text.push(b'\n');
    if text.len() > LINE_BYTES_MAX {
        return Err(RecordError::Long(text.len()));
    }
    let path = layout.verdict_record();
    let file = open(&path)?;
    let failed = |call, error| RecordError::Call { call, path: path.clone(), error };
    lock(&file, &path)?;
    let bytes = check(&file, &path)?;
    if half_a_line(&file, bytes).map_err(|error| failed("pread(2)", error))? {
        text.insert(0, b'\n');
    }
    (&file).write_all(&text).map_err(|error| failed("write(2)", error))
    // Closing it lets go of the lock.
}

fn open(path: &Path) -> Result<File, RecordError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open =
        || OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    let failed = |call, error| RecordError::Call { call, path: path.to_owned(), error };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)
                    .map_err(|error| failed("mkdir(2) of the directory of", error))?;
            }
            open().map_err(|error| failed("open(2)", error))
        }
        other => other.map_err(|error| failed("open(2)", error)),
    }
}

/// Waits for the lock, and not for ever.
fn lock(file: &File, path: &Path) -> Result<(), RecordError> {
    let began = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if began.elapsed() < LOCK_WAIT_MAX => thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(RecordError::Locked(path.to_owned())),
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(RecordError::Call {
                    call: "flock(2)",
                    path: path.to_owned(),
                    error: error.into(),
                });
            }
        }
    }
}

/// Whether it is a file that root alone writes; its size.
fn check(file: &File, path: &Path) -> Result<u64, RecordError> {
    let metadata = file.metadata().map_err(|error| RecordError::Call {
        call: "fstat(2)",
        path: path.to_owned(),
        error,
    })?;
    let problem = if !metadata.is_file() {
        "it is no regular file"
    } else if metadata.uid() != 0 {
        "its owner is not root"
    } else if metadata.mode() & 0o022 != 0 {
        "its group or everybody may write it"
    } else {
        return Ok(metadata.len());
    };
    Err(RecordError::Untrusted { path: path.to_owned(), problem })
}

/// Whether the file ends in a line that its writer was killed over, or that the disk had no room for.
fn half_a_line(file: &File, bytes: u64) -> io::Result<bool> {
    let Some(last) = bytes.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

#[cfg(test)]
mod tests;
