#![allow(clippy::unwrap_used)]

use super::*;

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    (dir, layout)
}

fn found(subject: &[u8], bytes: &[u8]) -> Found {
    Found { subject: Digest::of(subject), format: SignatureFormat::Bundle, bytes: bytes.to_vec() }
}

#[test]
fn file_is_kept_once_by_subject_and_hash_for_root_alone() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    let file = found(b"image", b"{}");
    assert_eq!(store.add(&file).unwrap(), Added::New);
    assert_eq!(store.add(&file).unwrap(), Added::Known);
    let path = layout.signature_file(&file.subject, &Digest::of(b"{}"), SignatureFormat::Bundle);
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let dirs = [layout.trust_dir(), layout.subject_dir(&file.subject)];
    assert!(dirs.iter().all(|dir| fs::metadata(dir).unwrap().permissions().mode() & 0o7777 == 0o700));
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn file_that_was_cut_short_on_the_disk_is_written_again() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    let file = found(b"image", b"{ }");
    store.add(&file).unwrap();
    let path = layout.signature_file(&file.subject, &Digest::of(b"{ }"), SignatureFormat::Bundle);
    fs::write(&path, b"").unwrap();
    assert_eq!(store.add(&file).unwrap(), Added::New);
    assert_eq!(fs::read(&path).unwrap(), b"{ }");
}

#[test]
fn subject_gets_no_more_files_than_a_judge_reads() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    for number in 0..SIGNATURE_FILES_MAX {
        store.add(&found(b"image", number.to_string().as_bytes())).unwrap();
    }
    assert!(matches!(store.add(&found(b"image", b"more")), Err(StoreError::Full { .. })));
    assert_eq!(store.add(&found(b"image", b"0")).unwrap(), Added::Known);
    assert_eq!(store.add(&found(b"other", b"more")).unwrap(), Added::New);
    let large = vec![b' '; usize::try_from(SIGNATURE_BYTES_MAX).unwrap() + 1];
    assert!(matches!(store.add(&found(b"other", &large)), Err(StoreError::Large(_))));
}

/// A tenant's registry may have any number of files about any image.
#[test]
fn places_that_are_taken_by_what_nobody_proved_are_given_to_what_comes() {
    let (_dir, layout) = layout();
    let good = Digest::of(b"0");
    let proven = || Some(BTreeSet::from([good]));
    let store = Store::making_room(&layout, &proven);
    for number in 0..3 * SIGNATURE_FILES_MAX {
        assert_eq!(store.add(&found(b"image", number.to_string().as_bytes())).unwrap(), Added::New);
    }
    let kept: BTreeSet<Digest> =
        store.about(&Digest::of(b"image")).unwrap().into_iter().map(|entry| entry.blob).collect();
    assert_eq!(kept.len(), SIGNATURE_FILES_MAX);
    assert!(kept.contains(&good), "the proven one, and the oldest");
    assert!(kept.contains(&Digest::of((3 * SIGNATURE_FILES_MAX - 1).to_string().as_bytes())), "the last");
    // Where all are proven, or nobody can tell, nothing goes.
    let all = || Some(kept.clone());
    let unknown = || None;
    for proven in [&all as &Proven<'_>, &unknown] {
        let store = Store::making_room(&layout, proven);
        assert!(matches!(store.add(&found(b"image", b"more")), Err(StoreError::Full { .. })));
    }
}

#[test]
fn removed_are_one_file_or_all_about_a_subject() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    for bytes in [b"1", b"2", b"3"] {
        store.add(&found(b"image", bytes)).unwrap();
    }
    let subject = Digest::of(b"image");
    assert_eq!(store.remove(&subject, Some(&Digest::of(b"2"))).unwrap(), 1);
    assert_eq!(store.remove(&subject, Some(&Digest::of(b"2"))).unwrap(), 0);
    assert_eq!(store.remove(&subject, None).unwrap(), 2);
    assert_eq!(store.list().unwrap(), []);
    assert!(!layout.subject_dir(&subject).exists());
}

#[test]
fn names_that_are_none_of_ours_are_not_listed() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    let file = found(b"image", b"{}");
    store.add(&file).unwrap();
    let dir = layout.subject_dir(&file.subject);
    for name in ["x.bundle.json", "README", &format!("{}.json", Digest::of(b"{}").hex())] {
        fs::write(dir.join(name), "").unwrap();
    }
    fs::create_dir(layout.trust_dir().join("sha256/nonsense")).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn store_that_others_can_write_is_not_written() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    store.add(&found(b"image", b"{}")).unwrap();
    fs::set_permissions(layout.trust_dir().join("sha256"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(store.add(&found(b"image", b"{ }")), Err(StoreError::Untrusted { .. })));
}

#[test]
fn what_a_killed_writer_left_is_removed_after_a_while_and_not_before() {
    let (_dir, layout) = layout();
    let store = Store::of(&layout);
    store.add(&found(b"image", b"{}")).unwrap();
    let left = |name: &str| store.temporary_dir().join(name);
    for name in ["old", "new"] {
        fs::write(left(name), "half").unwrap();
    }
    let long_ago = SystemTime::now() - 2 * STALE_AFTER;
    File::options().write(true).open(left("old")).unwrap().set_modified(long_ago).unwrap();
    store.add(&found(b"image", b"{ }")).unwrap();
    assert_eq!((left("old").exists(), left("new").exists()), (false, true));
}
