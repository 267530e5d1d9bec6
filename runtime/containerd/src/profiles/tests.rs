#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bulkhead_model::{CallArguments, FileRules};

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
    for (passing, of_calls, of_files, counts) in [
        (true, None, None, false),
        (true, Some("why"), None, false),
        (true, None, Some("why"), false),
        (true, Some("why"), Some("why"), true),
        (false, None, None, true),
    ] {
        let (widened, files_widened) = (of_calls.map(str::to_owned), of_files.map(str::to_owned));
        let calls = BTreeSet::from(["read".to_owned()]);
        let files = FileRules::default();
        let (version, arguments) = (PROFILE_VERSION, CallArguments::new());
        let stored = StoredProfile { version, key, calls, arguments, widened, files, files_widened, passing };
        keep_profile(&layout, &stored, b"").unwrap();
        assert_eq!(stored_profile(&layout, &key).unwrap().is_some(), counts, "{stored:?}");
    }
}

#[test]
fn kept_rule_that_reaches_the_whole_root_is_not_believed_and_one_for_a_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    let key = Digest::of(b"question");
    for (path, counts) in [("/", false), ("/usr/../..", false), ("/usr/bin/a", true)] {
        let files = FileRules { execute: BTreeSet::from([path.into()]), read: BTreeSet::new() };
        let stored = StoredProfile {
            version: PROFILE_VERSION,
            key,
            calls: BTreeSet::new(),
            arguments: CallArguments::new(),
            widened: None,
            files,
            files_widened: None,
            passing: false,
        };
        keep_profile(&layout, &stored, b"").unwrap();
        assert_eq!(stored_profile(&layout, &key).unwrap().is_some(), counts, "{path}");
    }
}
