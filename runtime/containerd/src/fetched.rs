//! What the last fetch of signatures for a launch came to: read by servers, written by fetchers. A file of root's alone for
//! each image and repository; one that is missing, cut short or about something else says that nobody has asked.

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, SystemTime},
};

use bulkhead_model::{FETCH_VERSION, FetchFrom, FetchOutcome, Layout};
use rustix::fs::OFlags;

use crate::{Failure, store};

/// How long nobody is asked again for the signatures of an image.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// Most bytes of an outcome's file.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What a fetch from there came to within the last minute.
///
/// # Errors
/// The file is not root's alone, or cannot be read.
pub fn fetch_outcome(layout: &Layout, from: &FetchFrom) -> Result<Option<FetchOutcome>, Failure> {
    let path = layout.fetched_file(&from.id());
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
        let of_that = outcome.target == from.target && outcome.repository == from.repository;
        outcome.version == FETCH_VERSION && of_that && fresh
    }))
}

/// Writes down what a fetch came to. The caller holds the lock of that fetch.
///
/// # Errors
/// What could not be written.
pub fn keep_fetch_outcome(
    layout: &Layout,
    from: &FetchFrom,
    at: u64,
    found: Result<u32, String>,
) -> Result<(), Failure> {
    let path = layout.fetched_file(&from.id());
    let FetchFrom { target, repository, hosts_dirs: _, docker_config: _ } = from;
    let (target, repository) = (*target, repository.clone());
    let outcome = FetchOutcome { version: FETCH_VERSION, target, repository, at, found };
    let failed =
        |error: serde_json::Error| Failure::File { call: "encode", path: path.clone(), error: error.into() };
    let text = serde_json::to_vec(&outcome).map_err(failed)?;
    store::make_parent(&path)?;
    store::write_whole(&path, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use bulkhead_model::Digest;

    use super::*;

    fn from(target: &[u8], repository: &str) -> FetchFrom {
        let repository = format!("registry.example/{repository}");
        FetchFrom { target: Digest::of(target), repository, hosts_dirs: Vec::new(), docker_config: None }
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn outcome_counts_for_its_image_from_its_repository_and_for_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let (ours, other) = (from(b"target", "team-a/app"), from(b"other", "team-a/app"));
        let theirs = from(b"target", "team-b/app");
        let outcome = |from| fetch_outcome(&layout, from).unwrap();
        assert_eq!(outcome(&ours), None);
        keep_fetch_outcome(&layout, &ours, now() - 1, Ok(1)).unwrap();
        let FetchOutcome { target, repository, found, .. } = outcome(&ours).unwrap();
        assert_eq!((target, repository, found), (ours.target, ours.repository.clone(), Ok(1)));
        for from in [&other, &theirs] {
            assert_eq!(outcome(from), None, "nobody asked {} for {}", from.repository, from.target);
            fs::copy(layout.fetched_file(&ours.id()), layout.fetched_file(&from.id())).unwrap();
            assert_eq!(outcome(from), None, "about another");
        }
        keep_fetch_outcome(&layout, &ours, now() - 61, Ok(1)).unwrap();
        assert_eq!(outcome(&ours), None, "an old one");
        keep_fetch_outcome(&layout, &ours, now() + 600, Ok(1)).unwrap();
        assert_eq!(outcome(&ours), None, "one of the future");
    }

    #[test]
    fn outcome_that_others_may_write_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let ours = from(b"target", "team-a/app");
        keep_fetch_outcome(&layout, &ours, now() - 1, Ok(1)).unwrap();
        fs::set_permissions(layout.fetched_file(&ours.id()), fs::Permissions::from_mode(0o606)).unwrap();
        assert!(matches!(fetch_outcome(&layout, &ours), Err(Failure::Untrusted { .. })));
    }
}
