//! The node's store of signatures: `trust/sha256/<subject>/<hash of the file><suffix>`, root's alone.
//!
//! A file is written beside the store, synced and renamed into it: a reader sees it whole or not at all. Writers take
//! turns, so that the limits of a subject hold.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::{
    Digest, Layout, SIGNATURE_BYTES_MAX, SIGNATURE_FILES_MAX, SIGNATURES_BYTES_MAX, SignatureFormat,
};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::Found;

/// After which time a file that a killed writer left beside the store is removed.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Most subjects that the store keeps: whoever announces images must not fill the disk with directories.
const SUBJECTS_MAX: usize = 20_000;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error("{call} {}", .path.display())]
    File {
        /// System call.
        call: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others could have written there.
    #[error("{} is not a directory of root's alone: {problem}", .path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No more files about a subject.
    #[error(
        "{subject} has {files} signatures of {bytes} bytes already; no more than {SIGNATURE_FILES_MAX} of \
         {SIGNATURES_BYTES_MAX} bytes are looked at: remove some (bulkhead trust remove)"
    )]
    Full {
        /// About which subject.
        subject: Digest,
        /// How many there are.
        files: usize,
        /// What they come to.
        bytes: u64,
    },
    /// No more subjects.
    #[error("the store has {SUBJECTS_MAX} subjects already: remove those that no image has any more")]
    Subjects,
    /// A file that is too large.
    #[error("a signature has {0} bytes, more than {SIGNATURE_BYTES_MAX}")]
    Large(u64),
}

impl StoreError {
    fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { call, path, error }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there.
    Known,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What it was filed under.
    pub subject: Digest,
    /// Hash of its bytes, by its name.
    pub blob: Digest,
    /// What it is, by its name.
    pub format: SignatureFormat,
    /// Its size.
    pub bytes: u64,
}

/// The hashes of files that a judge has found to be signatures by a key or a certificate; none where that cannot be told.
pub type Proven<'a> = dyn Fn() -> Option<BTreeSet<Digest>> + 'a;

/// The store of one node.
pub struct Store<'a> {
    layout: &'a Layout,
    proven: Option<&'a Proven<'a>>,
}

impl<'a> Store<'a> {
    /// The store below a layout; made when something is added.
    #[must_use]
    pub fn of(layout: &'a Layout) -> Self {
        Self { layout, proven: None }
    }

    /// The store, with room for what is added: where all places of a subject are taken, the oldest files go that are not
    /// among `proven`. Whoever fills the places with what no key has signed shuts nobody out.
    #[must_use]
    pub fn making_room(layout: &'a Layout, proven: &'a Proven<'a>) -> Self {
        Self { layout, proven: Some(proven) }
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// It is too large, or one too many, or cannot be written.
    pub fn add(&self, found: &Found) -> Result<Added, StoreError> {
        let Found { subject, format, bytes } = found;
        let size = bytes.len() as u64;
        if size > SIGNATURE_BYTES_MAX {
            return Err(StoreError::Large(size));
        }
        let _lock = self.lock()?;
        let dir = self.layout.subject_dir(subject);
        let known = if dir.exists() { self.about(subject)? } else { Vec::new() };
        let blob = Digest::of(bytes);
        if known.iter().any(|entry| entry.blob == blob && entry.format == *format && entry.bytes == size) {
            return Ok(Added::Known);
        }
        self.make_room(subject, known.clone(), size)?;
        if known.is_empty() && !dir.exists() && self.subjects()?.len() >= SUBJECTS_MAX {
            return Err(StoreError::Subjects);
        }
        make(&dir)?;
        let path = self.layout.signature_file(subject, &blob, *format);
        let temporary = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(self.temporary_dir())
            .map_err(StoreError::file("open(2)", &self.temporary_dir()))?;
        temporary.as_file().write_all(bytes).map_err(StoreError::file("write(2)", temporary.path()))?;
        temporary.as_file().sync_all().map_err(StoreError::file("fsync(2)", temporary.path()))?;
        temporary.persist(&path).map_err(|error| StoreError::file("rename(2)", &path)(error.error))?;
        sync(&dir)?;
        Ok(Added::New)
    }

    /// Removes what is too much beside `size` bytes more.
    fn make_room(&self, subject: &Digest, mut known: Vec<Entry>, size: u64) -> Result<(), StoreError> {
        let taken = |known: &[Entry]| known.iter().map(|entry| entry.bytes).sum::<u64>();
        let full = |known: &[Entry]| {
            known.len() >= SIGNATURE_FILES_MAX || taken(known) + size > SIGNATURES_BYTES_MAX
        };
        if !full(&known) {
            return Ok(());
        }
        let place = |entry: &Entry| self.layout.signature_file(subject, &entry.blob, entry.format);
        let proven = self.proven.and_then(|proven| proven());
        let unproven = |entry: &&Entry| proven.as_ref().is_some_and(|proven| !proven.contains(&entry.blob));
        let mut others: Vec<Entry> = known.iter().filter(unproven).cloned().collect();
        // Newest first, so that the oldest is taken from the end. What is gone meanwhile is the oldest of all.
        others.sort_by_key(|entry| {
            std::cmp::Reverse(fs::symlink_metadata(place(entry)).and_then(|found| found.modified()).ok())
        });
        while full(&known) {
            let Some(oldest) = others.pop() else {
                return Err(StoreError::Full { subject: *subject, files: known.len(), bytes: taken(&known) });
            };
            let path = place(&oldest);
            fs::remove_file(&path).map_err(StoreError::file("unlink(2)", &path))?;
            known.retain(|entry| *entry != oldest);
        }
        Ok(())
    }

    /// Every file of the store, by subject.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for subject in self.subjects()? {
            entries.extend(self.about(&subject)?);
        }
        Ok(entries)
    }

    /// The files about one subject.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn about(&self, subject: &Digest) -> Result<Vec<Entry>, StoreError> {
        let dir = self.layout.subject_dir(subject);
        let mut entries = Vec::new();
        for name in names(&dir)? {
            let Some((blob, format)) = parse_name(&name) else { continue };
            let path = dir.join(&name);
            match fs::symlink_metadata(&path) {
                Ok(metadata) => {
                    entries.push(Entry { subject: *subject, blob, format, bytes: metadata.len() })
                }
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::file("lstat(2)", &path)(error)),
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Removes the files about `subject`, or the one with this hash; how many there were.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn remove(&self, subject: &Digest, blob: Option<&Digest>) -> Result<usize, StoreError> {
        let dir = self.layout.subject_dir(subject);
        if !dir.exists() {
            return Ok(0);
        }
        let _lock = self.lock()?;
        let mut removed = 0;
        for entry in self.about(subject)? {
            if blob.is_none_or(|blob| *blob == entry.blob) {
                let path = self.layout.signature_file(subject, &entry.blob, entry.format);
                fs::remove_file(&path).map_err(StoreError::file("unlink(2)", &path))?;
                removed += 1;
            }
        }
        match fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
            Err(error) => return Err(StoreError::file("rmdir(2)", &dir)(error)),
        }
        Ok(removed)
    }

    /// When a file of a subject was kept last; none where there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn kept_last(&self, subject: &Digest) -> Result<Option<SystemTime>, StoreError> {
        let mut last = None;
        for entry in self.about(subject)? {
            let path = self.layout.signature_file(subject, &entry.blob, entry.format);
            let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            last = last.max(Some(written.map_err(StoreError::file("lstat(2)", &path))?));
        }
        Ok(last)
    }

    fn subjects(&self) -> Result<Vec<Digest>, StoreError> {
        let names = names(&self.layout.trust_dir().join("sha256"))?;
        let mut subjects: Vec<Digest> =
            names.iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect();
        subjects.sort();
        Ok(subjects)
    }

    fn temporary_dir(&self) -> PathBuf {
        self.layout.trust_dir().join("tmp")
    }

    /// Makes the store, and waits for its other writers.
    fn lock(&self) -> Result<File, StoreError> {
        make(&self.layout.trust_dir().join("sha256"))?;
        make(&self.temporary_dir())?;
        let path = self.layout.trust_dir().join("lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(StoreError::file("open(2)", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| StoreError::file("flock(2)", &path)(error.into()))?;
        self.sweep()?;
        Ok(file)
    }

    /// Removes what killed writers left.
    fn sweep(&self) -> Result<(), StoreError> {
        let dir = self.temporary_dir();
        for name in names(&dir)? {
            let path = dir.join(name);
            let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            let stale = written.is_ok_and(|written| {
                SystemTime::now().duration_since(written).is_ok_and(|age| age > STALE_AFTER)
            });
            if stale {
                fs::remove_file(&path).map_err(StoreError::file("unlink(2)", &path))?;
            }
        }
        Ok(())
    }
}

/// Hash and format of a file, by its name.
fn parse_name(name: &str) -> Option<(Digest, SignatureFormat)> {
    SignatureFormat::ALL.into_iter().find_map(|format| {
        let blob = format!("sha256:{}", name.strip_suffix(format.suffix())?).parse().ok()?;
        Some((blob, format))
    })
}

/// Names in a directory; none where there is no such directory.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::file("open(2)", dir)(error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(StoreError::file("getdents(2)", dir))
}

/// A directory of root's alone.
fn make(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::file("mkdir(2)", dir))?;
    let metadata = fs::symlink_metadata(dir).map_err(StoreError::file("lstat(2)", dir))?;
    let problem = if !metadata.is_dir() {
        "it is a symbolic link"
    } else if metadata.uid() != 0 {
        "its owner is not root"
    } else if metadata.mode() & 0o022 != 0 {
        "its group or everybody may write it"
    } else {
        return Ok(());
    };
    Err(StoreError::Untrusted { path: dir.to_owned(), problem })
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::file("fsync(2)", dir))
}

#[cfg(test)]
mod tests;
