//! What the last fetch of signatures for a launch came to: read by servers, written by fetchers. A file of root's alone for
//! each image; one that is missing, cut short or about something else says that nobody has asked.

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, SystemTime},
};

use bulkhead_model::{Digest, FETCH_VERSION, FetchOutcome, Layout};
use rustix::fs::OFlags;

use crate::{Failure, store};

/// How long nobody is asked again for the signatures of an image.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// Most bytes of an outcome's file.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What a fetch for `target` came to within the last minute.
///
/// # Errors
/// The file is not root's alone, or cannot be read.
pub fn fetch_outcome(layout: &Layout, target: &Digest) -> Result<Option<FetchOutcome>, Failure> {
    let path = layout.fetched_file(target);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::File { call: "open(2)", path, error }),
    };
    let failed = |call, error| Failure::File { call, path: path.clone(), error };
    store::check(&path, &file.metadata().map_err(|error| failed("fstat(2)", error))?)?;
    if let Some(dir) = path.parent() {
        let metadata =
            fs::symlink_metadata(dir).map_err(|error| failed("lstat(2) of the directory of", error))?;
        store::check(dir, &metadata)?;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| failed("read(2)", error))?;
    let outcome: Option<FetchOutcome> = serde_json::from_slice(&text).ok();
    Ok(outcome.filter(|outcome| {
        let over = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(outcome.at));
        // One of the future was written before the clock was set back.
        let fresh = over
            .and_then(|over| SystemTime::now().duration_since(over).ok())
            .is_some_and(|age| age < ASKED_FOR);
        outcome.version == FETCH_VERSION && outcome.target == *target && fresh
    }))
}

/// Writes down what a fetch came to. The caller holds the lock of that fetch.
///
/// # Errors
/// What could not be written.
pub fn keep_fetch_outcome(layout: &Layout, outcome: &FetchOutcome) -> Result<(), Failure> {
    let path = layout.fetched_file(&outcome.target);
    let failed =
        |error: serde_json::Error| Failure::File { call: "encode", path: path.clone(), error: error.into() };
    let text = serde_json::to_vec(outcome).map_err(failed)?;
    store::make_parent(&path)?;
    store::write_whole(&path, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn outcome(target: &Digest, ago: u64) -> FetchOutcome {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let repository = "registry.example/team-a/app".to_owned();
        FetchOutcome { version: FETCH_VERSION, target: *target, repository, at: now - ago, found: Ok(1) }
    }

    #[test]
    fn outcome_counts_for_its_image_and_for_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let (target, other) = (Digest::of(b"target"), Digest::of(b"other"));
        assert_eq!(fetch_outcome(&layout, &target).unwrap(), None);
        let fresh = outcome(&target, 1);
        keep_fetch_outcome(&layout, &fresh).unwrap();
        assert_eq!(fetch_outcome(&layout, &target).unwrap(), Some(fresh));
        fs::copy(layout.fetched_file(&target), layout.fetched_file(&other)).unwrap();
        assert_eq!(fetch_outcome(&layout, &other).unwrap(), None, "of another image");
        keep_fetch_outcome(&layout, &outcome(&target, 61)).unwrap();
        assert_eq!(fetch_outcome(&layout, &target).unwrap(), None, "an old one");
        let future = FetchOutcome { at: outcome(&target, 0).at + 600, ..outcome(&target, 0) };
        keep_fetch_outcome(&layout, &future).unwrap();
        assert_eq!(fetch_outcome(&layout, &target).unwrap(), None, "one of the future");
    }

    #[test]
    fn outcome_that_others_may_write_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let target = Digest::of(b"target");
        keep_fetch_outcome(&layout, &outcome(&target, 1)).unwrap();
        fs::set_permissions(layout.fetched_file(&target), fs::Permissions::from_mode(0o606)).unwrap();
        assert!(matches!(fetch_outcome(&layout, &target), Err(Failure::Untrusted { .. })));
    }
}
