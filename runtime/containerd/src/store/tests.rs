#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    os::unix::fs::{PermissionsExt, chown, symlink},
};

use bulkhead_model::ImageUser;

use super::*;

fn layout() -> (tempfile::TempDir, Layout, Digest, Verdict) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    let target = Digest::of(b"target");
    let facts = ImageFacts {
        target,
        manifest: target,
        config: Digest::of(b"config"),
        diff_ids: vec![Digest::of(b"layer")],
        layers: vec![Digest::of(b"blob")],
        user: ImageUser("1000".to_owned()),
        volumes: BTreeSet::from(["/data".to_owned()]),
        exposed: BTreeSet::from([80]),
    };
    (dir, layout, target, Verdict::Facts(facts))
}

fn rewrite(layout: &Layout, target: &Digest, from: &str, to: &str) {
    let path = layout.facts_file(target);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn verdicts_are_read_back_from_files_of_roots_alone() {
    let (_dir, layout, target, facts) = layout();
    assert_eq!(load(&layout, &target).unwrap(), None);
    for verdict in [facts, Verdict::Flaw("no layers".to_owned())] {
        save(&layout, &target, &verdict).unwrap();
        assert_eq!(load(&layout, &target).unwrap(), Some(verdict));
    }
    let path = layout.facts_file(&target);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn verdict_of_another_version_platform_image_or_cut_short_is_none() {
    let (_dir, layout, target, facts) = layout();
    let other = Digest::of(b"other").to_string();
    for (from, to) in [
        ("\"version\":3", "\"version\":2"),
        ("linux/amd64", "linux/arm64"),
        (target.to_string().as_str(), other.as_str()),
        ("\"volumes\"", "\"tenant\":1,\"volumes\""),
        ("}}}", ""),
        (&format!("[\"{}\"]", Digest::of(b"layer")), "[]"),
    ] {
        save(&layout, &target, &facts).unwrap();
        assert!(load(&layout, &target).unwrap().is_some());
        rewrite(&layout, &target, from, to);
        assert_eq!(load(&layout, &target).unwrap(), None, "{from} -> {to}");
    }
    fs::write(layout.facts_file(&target), "").unwrap();
    assert_eq!(load(&layout, &target).unwrap(), None);
}

#[test]
fn verdict_that_others_could_have_written_is_a_failure_that_names_the_file() {
    let (_dir, layout, target, facts) = layout();
    let path = layout.facts_file(&target);
    let spoil: [fn(&Path); 5] = [
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o620)).unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o602)).unwrap(),
        |path| chown(path, Some(1000), None).unwrap(),
        |path| fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap(),
        |path| {
            let other = path.with_extension("other");
            fs::rename(path, &other).unwrap();
            symlink(other, path).unwrap();
        },
    ];
    for spoil in spoil {
        save(&layout, &target, &facts).unwrap();
        assert!(load(&layout, &target).unwrap().is_some());
        spoil(&path);
        let failure = load(&layout, &target).unwrap_err();
        assert!(failure.to_string().contains(path.parent().unwrap().to_str().unwrap()), "{failure}");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}

#[test]
fn rest_of_a_writer_that_died_does_not_stop_the_next() {
    let (_dir, layout, target, facts) = layout();
    save(&layout, &target, &facts).unwrap();
    let beside = layout.facts_file(&target).with_extension("tmp");
    symlink("/etc/passwd", &beside).unwrap();
    save(&layout, &target, &facts).unwrap();
    assert!(!beside.exists());
    assert_eq!(load(&layout, &target).unwrap(), Some(facts));
}

#[tokio::test]
async fn lock_is_had_by_one_at_a_time_and_its_file_goes_with_it() {
    let (_dir, layout, target, _) = layout();
    let short = Duration::from_millis(20);
    let held = lock(&layout, &target, short).await.unwrap();
    assert!(matches!(lock(&layout, &target, short).await, Err(Failure::JudgeBusy { .. })));
    assert!(lock(&layout, &Digest::of(b"other"), short).await.is_ok());
    drop(held);
    assert!(!layout.judge_lock(&target).exists());
    assert!(lock(&layout, &target, short).await.is_ok());
}

/// The file is unlinked while a second one waits on it, and a third makes a new one: never two at once.
#[tokio::test]
async fn lock_holds_when_its_file_is_replaced_under_those_who_wait() {
    let (_dir, layout, target, _) = layout();
    let inside = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (layout, inside) = (layout.clone(), std::sync::Arc::clone(&inside));
            std::thread::spawn(move || {
                make_parent(&layout.judge_lock(&target)).unwrap();
                let mut had = 0;
                while had < 200 {
                    let Some(lock) = try_lock(&layout.judge_lock(&target)).unwrap() else { continue };
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two at once");
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(lock);
                    had += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Whoever took the lock may be killed: the work that it began goes on in the process that it started.
#[test]
fn lock_is_held_until_the_last_process_that_has_its_file_ends() {
    let (_dir, layout, target, _) = layout();
    let (path, aside) = (layout.judge_lock(&target), layout.judge_dir().join("aside"));
    let lock = try_lock(&path).unwrap().unwrap();
    let mut child =
        std::process::Command::new("sleep").arg("600").stderr(lock.file().unwrap()).spawn().unwrap();
    fs::hard_link(&path, &aside).unwrap();
    drop(lock);
    fs::rename(&aside, &path).unwrap();
    let while_it_lives = try_lock(&path).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(while_it_lives.is_none());
    // What another test starts at this moment has the file as well, until its own execve(2).
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while try_lock(&path).unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "the lock of the dead");
    }
}
