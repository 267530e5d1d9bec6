//! Where the analysis of an ELF file is kept, by the hash of its content: images share most of theirs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Longest entry that is read, in bytes.
const ENTRY_BYTES_MAX: u64 = 256 << 20;

/// Keeps bytes by hash. What it gives back is believed, and the hash within it only tells that it is whole: whoever can
/// write to it can widen the profiles of all who have the file, up to the baseline, and narrow them, so that a program's
/// calls are denied. It is for the generator alone.
pub trait Cache {
    /// What was kept.
    fn get(&self, hash: &str) -> Option<Vec<u8>>;
    /// Keeps it; a cache that cannot is no cache, and no error.
    fn put(&self, hash: &str, bytes: &[u8]);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoCache;

impl Cache for NoCache {
    fn get(&self, _hash: &str) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _hash: &str, _bytes: &[u8]) {}
}

/// A directory with a file per entry.
#[derive(Clone, Debug)]
pub struct DirectoryCache {
    directory: PathBuf,
}

impl DirectoryCache {
    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// mkdir(2).
    pub fn open(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }
}

impl Cache for DirectoryCache {
    fn get(&self, hash: &str) -> Option<Vec<u8>> {
        let path = self.directory.join(hash);
        let length = fs::metadata(&path).ok()?.len();
        if length > ENTRY_BYTES_MAX { None } else { fs::read(path).ok() }
    }

    fn put(&self, hash: &str, bytes: &[u8]) {
        // Written whole or not at all: another generator may read meanwhile.
        let path = self.directory.join(format!(".{hash}.{}", std::process::id()));
        let kept = fs::write(&path, bytes).and_then(|()| fs::rename(&path, self.directory.join(hash)));
        if kept.is_err() {
            fs::remove_file(&path).unwrap_or_default();
        }
    }
}
