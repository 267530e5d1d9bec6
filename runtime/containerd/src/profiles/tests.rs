#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.collect()
}

#[test]
fn oldest_files_go_first_and_what_fits_stays() {
    let dir = tempfile::tempdir().unwrap();
    for (age, name) in ["new", "older", "oldest"].into_iter().enumerate() {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        file.set_len(10_000).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60 * age as u64)).unwrap();
    }
    keep_small(dir.path(), 30_000).unwrap();
    assert_eq!(names(dir.path()).len(), 3);
    keep_small(dir.path(), 29_999).unwrap();
    assert_eq!(names(dir.path()), BTreeSet::from(["new".to_owned(), "older".to_owned()]));
    keep_small(&dir.path().join("none"), 0).unwrap();
}

#[test]
fn kept_failure_that_does_not_say_why_is_no_narrow_profile() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    let key = Digest::of(b"question");
    for (passing, why, counts) in [(true, None, false), (true, Some("why"), true), (false, None, true)] {
        let widened = why.map(str::to_owned);
        let calls = BTreeSet::from(["read".to_owned()]);
        let stored = StoredProfile { version: PROFILE_VERSION, key, calls, widened, passing };
        keep_profile(&layout, &stored, b"").unwrap();
        assert_eq!(stored_profile(&layout, &key).unwrap().is_some(), counts, "{stored:?}");
    }
}
