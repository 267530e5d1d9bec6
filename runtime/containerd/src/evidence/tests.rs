#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use bulkhead_model::{PublicKey, RejectedSignature, RootFile, Signature, Signer};
use tempfile::TempDir;

use super::*;

fn image() -> ImageFacts {
    ImageFacts {
        target: Digest::of(b"index"),
        manifest: Digest::of(b"manifest"),
        config: Digest::of(b"config"),
        diff_ids: vec![Digest::of(b"layer")],
        layers: Vec::new(),
        user: bulkhead_model::ImageUser::default(),
        volumes: Default::default(),
        exposed: Default::default(),
    }
}

fn material(key: &str) -> TrustMaterial {
    let key = PublicKey::from_der(key.as_bytes().to_vec()).unwrap();
    let root = RootFile::new(b"root".to_vec(), Duration::ZERO);
    TrustMaterial { keys: [("k".to_owned(), key)].into(), roots: [("r".to_owned(), root)].into() }
}

/// A store with one file about the index, one about the manifest, and what is none.
fn node() -> (TempDir, Layout) {
    let dir = TempDir::new().unwrap();
    let layout = Layout::below(dir.path());
    for (subject, format) in
        [(image().target, SignatureFormat::Bundle), (image().manifest, SignatureFormat::SimpleSigning)]
    {
        fs::create_dir_all(layout.subject_dir(&subject)).unwrap();
        fs::write(layout.signature_file(&subject, &Digest::of(b"x"), format), "x").unwrap();
        fs::write(layout.subject_dir(&subject).join("half-written.tmp"), "x").unwrap();
    }
    (dir, layout)
}

fn facts(question: &SignatureQuestion, rejected: bool) -> SignatureFacts {
    let mut facts = SignatureFacts::default();
    for file in &question.files {
        if rejected {
            facts.rejected.push(RejectedSignature { blob: file.blob, why: "bad".to_owned() });
            continue;
        }
        facts.signatures.push(Signature {
            blob: file.blob,
            subject: file.subject,
            format: file.format,
            signer: Signer::Key { fingerprint: Digest::of(b"one") },
            log: None,
            timestamp: None,
            predicate_type: None,
            repository: None,
        });
    }
    facts
}

#[test]
fn files_about_index_and_manifest_are_asked_about_and_nothing_else_that_lies_there() {
    let (_dir, layout) = node();
    let asked = question(&layout, &image(), &material("one")).unwrap();
    assert_eq!(asked.files.len(), 2);
    assert_eq!((asked.keys.len(), asked.roots.len()), (1, 1));
    let empty = TempDir::new().unwrap();
    assert!(question(&Layout::below(empty.path()), &image(), &material("one")).unwrap().files.is_empty());
}

#[test]
fn more_signatures_than_are_read_are_a_failure_that_says_what_to_remove() {
    let (_dir, layout) = node();
    for number in 0..=SIGNATURE_FILES_MAX {
        let blob = Digest::of(number.to_string().as_bytes());
        fs::write(layout.signature_file(&image().target, &blob, SignatureFormat::Bundle), "x").unwrap();
    }
    let error = question(&layout, &image(), &material("one")).unwrap_err();
    assert!(error.to_string().contains("bulkhead trust remove"), "{error}");
}

#[test]
fn facts_are_believed_for_their_own_signatures_keys_and_roots_alone() {
    let (_dir, layout) = node();
    let one = question(&layout, &image(), &material("one")).unwrap();
    let place = Place::new(&layout, &image(), &one).unwrap();
    assert_eq!(place.load().unwrap(), None);
    place.save(&facts(&one, false)).unwrap();
    assert_eq!(place.load().unwrap(), Some(facts(&one, false)));

    let other = question(&layout, &image(), &material("two")).unwrap();
    let elsewhere = Place::new(&layout, &image(), &other).unwrap();
    assert_eq!(elsewhere.load().unwrap(), None, "another key");
    // Facts of the one laid where those of the other belong.
    fs::copy(&place.path, &elsewhere.path).unwrap();
    assert_eq!(elsewhere.load().unwrap(), None);
    fs::write(&place.path, "{").unwrap();
    assert_eq!(place.load().unwrap(), None, "cut short");
    fs::remove_file(&place.path).unwrap();
    symlink(&elsewhere.path, &place.path).unwrap();
    assert!(place.load().is_err(), "a symlink");
}

#[test]
fn facts_about_other_files_or_signers_are_not_believed() {
    let (_dir, layout) = node();
    let asked = question(&layout, &image(), &material("one")).unwrap();
    assert_eq!(facts(&asked, false).check(&asked), Ok(()));
    assert_eq!(facts(&asked, true).check(&asked), Ok(()));
    let mut missing = facts(&asked, false);
    missing.signatures.pop();
    let mut twice = facts(&asked, false);
    twice.signatures.extend(facts(&asked, false).signatures);
    let mut stranger = facts(&asked, false);
    stranger.signatures[0].signer = Signer::Key { fingerprint: Digest::of(b"two") };
    let mut moved = facts(&asked, false);
    moved.signatures[0].subject = Digest::of(b"other");
    let mut forged = facts(&asked, true);
    forged.rejected[0].why = "a\nb".to_owned();
    for wrong in [missing, twice, stranger, moved, forged] {
        assert!(wrong.check(&asked).is_err(), "{wrong:?}");
    }
}

#[test]
fn rejected_signatures_are_looked_at_again_after_a_while_and_good_ones_are_not() {
    let (_dir, layout) = node();
    let asked = question(&layout, &image(), &material("one")).unwrap();
    let place = Place::new(&layout, &image(), &asked).unwrap();
    for (rejected, believed) in [(true, false), (false, true)] {
        place.save(&facts(&asked, rejected)).unwrap();
        assert!(place.load().unwrap().is_some());
        let file = fs::File::options().write(true).open(&place.path).unwrap();
        file.set_modified(SystemTime::now() - REJECTED_FOR - Duration::from_secs(1)).unwrap();
        assert_eq!(place.load().unwrap().is_some(), believed);
    }
}

#[test]
fn facts_of_many_sets_of_keys_do_not_pile_up() {
    let (_dir, layout) = node();
    for number in 0..2 * KEPT_MAX {
        let asked = question(&layout, &image(), &material(&number.to_string())).unwrap();
        Place::new(&layout, &image(), &asked).unwrap().save(&facts(&asked, true)).unwrap();
    }
    assert!(fs::read_dir(layout.signature_facts_dir(&image().target)).unwrap().count() <= KEPT_MAX);
}
