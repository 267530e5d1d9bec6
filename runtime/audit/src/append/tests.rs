#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::{Call, Outcome, RefusalLine, TimingsUs};

fn line(container: &str) -> Line<'_> {
    Line {
        verdict: Outcome::Allow,
        call: Call::Create,
        container,
        exec: None,
        namespace: "k8s.io",
        tenant: "team-a",
        image: None,
        volumes: &[],
        scope: None,
        signed_by: &[],
        refusal: None,
        policy: None,
        judges: 0,
        timings_us: TimingsUs::default(),
    }
}

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    (dir, layout)
}

fn containers(layout: &Layout) -> Vec<String> {
    let text = fs::read_to_string(layout.verdict_record()).unwrap();
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    lines.filter_map(Result::ok).map(|line| line["container"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_are_in_the_file_one_after_the_other_for_root_alone() {
    let (_dir, layout) = layout();
    append(&layout, &line("a")).unwrap();
    append(&layout, &line("b")).unwrap();
    assert_eq!(containers(&layout), ["a", "b"]);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(layout.verdict_record()), mode(layout.audit_dir())), (0o600, 0o700));
}

#[test]
fn half_a_line_of_a_killed_writer_spoils_no_other() {
    let (_dir, layout) = layout();
    append(&layout, &line("a")).unwrap();
    let mut text = fs::read(layout.verdict_record()).unwrap();
    text.extend_from_slice(&text.clone()[..20]);
    fs::write(layout.verdict_record(), &text).unwrap();
    append(&layout, &line("b")).unwrap();
    append(&layout, &line("c")).unwrap();
    assert_eq!(containers(&layout), ["a", "b", "c"]);
    assert_eq!(fs::read_to_string(layout.verdict_record()).unwrap().lines().count(), 4);
}

#[test]
fn record_that_was_moved_away_is_begun_anew() {
    let (_dir, layout) = layout();
    append(&layout, &line("a")).unwrap();
    fs::rename(layout.verdict_record(), layout.audit_dir().join("verdicts.jsonl.1")).unwrap();
    append(&layout, &line("b")).unwrap();
    assert_eq!(containers(&layout), ["b"]);
}

#[test]
fn record_that_is_a_link_a_directory_or_anybodys_is_not_written() {
    for spoil in [
        |path: &Path| symlink("/dev/null", path).unwrap(),
        |path: &Path| fs::create_dir(path).unwrap(),
        |path: &Path| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        },
        |path: &Path| {
            fs::write(path, "").unwrap();
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        },
    ] {
        let (_dir, layout) = layout();
        fs::create_dir_all(layout.audit_dir()).unwrap();
        spoil(&layout.verdict_record());
        let error = append(&layout, &line("a")).unwrap_err();
        assert!(error.fix().contains("verdicts.jsonl"), "{error}: {}", error.fix());
    }
}

#[test]
fn line_that_the_disk_has_no_room_for_is_an_error_that_says_so() {
    let full = RecordError::Call {
        call: "write(2)",
        path: "/a".into(),
        error: io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error()),
    };
    assert!(full.fix().starts_with("make room"), "{}", full.fix());
}

#[test]
fn lock_that_nobody_lets_go_of_is_an_error_in_the_end() {
    let (_dir, layout) = layout();
    append(&layout, &line("a")).unwrap();
    let held = File::open(layout.verdict_record()).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    assert!(matches!(append(&layout, &line("b")), Err(RecordError::Locked(_))));
    drop(held);
    append(&layout, &line("c")).unwrap();
    assert_eq!(containers(&layout), ["a", "c"]);
}

#[test]
fn line_is_never_longer_than_may_be() {
    let (_dir, layout) = layout();
    let why = "\u{1}".repeat(100_000);
    let refusal = RefusalLine { rule: bulkhead_model::Rule::Policy, what: Some(why.clone()), why };
    let long = Line { verdict: Outcome::Refuse, refusal: Some(refusal), ..line("a") };
    assert!(matches!(append(&layout, &long), Err(RecordError::Long(_))));
    assert!(!fs::exists(layout.verdict_record()).unwrap());
}
