//! Profiles that a generator has worked out: read back, and kept. Made by `bulkhead judge profile`.
//!
//! Invariant: a profile is believed only for exactly the question it was made for, and only from a file of root's alone.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::{
    Digest, GeneratedFiles, GeneratedProfile, Layout, Mount, PROFILE_BYTES_MAX, PROFILE_VERSION,
    StoredProfile,
};
use rustix::fs::OFlags;

use crate::{Failure, contents::mounts, store};

/// Profiles that are kept, in bytes; reasons and analysis each.
const PROFILES_BYTES_MAX: u64 = 32 << 20;
const BESIDE_BYTES_MAX: u64 = 256 << 20;

/// Least that a file takes.
const BLOCK_BYTES: u64 = 4096;

/// How long a failure that may pass counts.
const PASSING_FOR: Duration = Duration::from_secs(600);

/// The directories of the layers of an image with so many, the lowest first, where a container mounts them so.
///
/// # Errors
/// Says what the container mounts in their place.
pub fn layer_dirs(mounts: &[Mount], count: usize) -> Result<Vec<PathBuf>, String> {
    mounts::layers(mounts, count).map(|layers| layers.dirs)
}

/// The profile that is kept for a question, if there is one to be believed.
///
/// # Errors
/// The file is not root's alone, or cannot be read.
pub fn stored_profile(layout: &Layout, key: &Digest) -> Result<Option<GeneratedProfile>, Failure> {
    let path = layout.profile_file(key);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::File { call: "open(2)", path, error }),
    };
    let failed = |call, error| Failure::File { call, path: path.clone(), error };
    let metadata = file.metadata().map_err(|error| failed("fstat(2)", error))?;
    store::check(&path, &metadata)?;
    if let Some(dir) = path.parent() {
        let dir_metadata = fs::symlink_metadata(dir).map_err(|error| failed("lstat(2)", error))?;
        store::check(dir, &dir_metadata)?;
    }
    let mut text = Vec::new();
    file.take(PROFILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| failed("read(2)", error))?;
    let Ok(stored) = serde_json::from_slice(&text) else { return Ok(None) };
    let StoredProfile { version, key: found, calls, arguments, widened, files, files_widened, passing } =
        stored;
    let written = metadata.modified().map_err(|error| failed("fstat(2)", error))?;
    let fresh = SystemTime::now().duration_since(written).is_ok_and(|age| age < PASSING_FOR);
    // A failure is as wide as the baseline, whatever its file says.
    let told = !passing || widened.is_some() && files_widened.is_some();
    let counts = version == PROFILE_VERSION && found == *key && told && (!passing || fresh);
    let counts = counts && files.flaw().is_none();
    Ok(counts
        .then(|| GeneratedProfile::new(calls, arguments, widened, GeneratedFiles::new(files, files_widened))))
}

/// Keeps a profile, whole or not at all. The caller holds the lock of its question.
///
/// # Errors
/// What could not be written.
pub fn keep_profile(layout: &Layout, profile: &StoredProfile, reasons: &[u8]) -> Result<(), Failure> {
    let path = layout.profile_file(&profile.key);
    let text = serde_json::to_vec(profile).map_err(|error| Failure::File {
        call: "encode",
        path: path.clone(),
        error: error.into(),
    })?;
    let why = layout.profile_reasons_file(&profile.key);
    store::make_parent(&why)?;
    store::write_whole(&why, reasons)?;
    store::make_parent(&path)?;
    store::write_whole(&path, &text)?;
    for (file, bytes_max) in [(why, BESIDE_BYTES_MAX), (path, PROFILES_BYTES_MAX)] {
        if let Some(dir) = file.parent() {
            keep_small(dir, bytes_max)?;
        }
    }
    Ok(())
}

/// Removes the oldest analysis where it is too much.
///
/// # Errors
/// What could not be removed.
pub fn keep_analysis_small(layout: &Layout) -> Result<(), Failure> {
    keep_small(&layout.analysis_dir(), BESIDE_BYTES_MAX)
}

/// Removes the oldest files of a directory until the rest is no more than that.
fn keep_small(dir: &Path, bytes_max: u64) -> Result<(), Failure> {
    let failed = |call| move |error| Failure::File { call, path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("opendir(3)"))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("readdir(3)"))?;
        // Another may have removed it meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        let written = metadata.modified().map_err(failed("lstat(2)"))?;
        files.push((written, metadata.len().max(BLOCK_BYTES), entry.path()));
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= bytes_max {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::File { call: "unlink(2)", path, error });
            }
            _ => total -= bytes,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
