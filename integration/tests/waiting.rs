//! Launches that wait for a judge: at once they share one, and one that has waited too long is told so.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "trust/cosign.rs"]
#[allow(dead_code, reason = "shared with the suite of the store, which saves images too")]
mod cosign;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Registry, RegistryDoor, RegistryKind, Release, bulkhead_dir,
    on_each_containerd, run, until,
};
use cosign::Cosign;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// How many judges the launches on record have started.
fn judges(bench: &Bench) -> Vec<u64> {
    let record = bench.daemon.bulkhead_root().join("var/lib/bulkhead/audit/verdicts.jsonl");
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["judges"].as_u64().unwrap();
    fs::read_to_string(record).unwrap_or_default().lines().map(line).collect()
}

/// So many launches at once of an image of which nothing is known: one judge says what it is, one who signed it, and one
/// compares its layers.
fn launches_at_once(release: Release, launches: usize) {
    let bench = Bench::start(release, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let registry =
        Registry::start(RegistryKind::Docker, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
    let name = format!("{}/team-a/busybox", registry.address());
    let push = ["images", "push", "--plain-http", &format!("{name}:1"), ALLOWED];
    daemon.ctr(&push).unwrap().success().unwrap();
    let image = format!("{name}@{}", bench.digests.target);
    let ci = Cosign::new(3, &daemon.dir().join("ci"));
    ci.sign(&image);
    let root = daemon.bulkhead_root();
    let mut fetch = std::process::Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    fetch.arg("--root").arg(&root).args(["trust", "fetch", &image]).env("DOCKER_CONFIG", root.join("none"));
    run(&mut fetch, Duration::from_secs(60)).unwrap().success().unwrap();
    fs::create_dir_all(root.join("etc/bulkhead/keys")).unwrap();
    fs::write(root.join("etc/bulkhead/keys/ci.pub"), ci.public_key()).unwrap();
    daemon
        .policy(
            "version = 1\n[image]\n\"registry.test/team-a/*\" = { require = [\"ci\"] }\n\
             [rule.ci]\nkeys = [\"keys/ci.pub\"]\n",
        )
        .unwrap();
    assert!(judges(&bench).is_empty());
    thread::scope(|scope| {
        let one =
            |number: usize| bench.run(&format!("c{number}"), &["/bin/true"]).unwrap().success().unwrap();
        for number in 0..launches {
            scope.spawn(move || one(number));
        }
    });
    let started = judges(&bench);
    assert_eq!((started.len(), started.iter().sum::<u64>()), (launches, 3));
    bench.assert_nothing_left();
}

on_each_containerd! {
    fn launches_at_once_of_a_signed_image_judge_it_once(release) {
        launches_at_once(release, 16);
    }
}

#[test]
#[ignore = "long"]
fn a_hundred_launches_at_once_of_a_signed_image_judge_it_once() {
    launches_at_once(Release::V2_1, 100);
}

/// The judge of contents that a shim of this daemon has started.
fn judge_of_contents(tag: &str) -> Option<Pid> {
    let mut found = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        if !command.starts_with(b"bulkhead\0judge\0contents\0") {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
        let environment = fs::read(format!("/proc/{parent}/environ")).ok()?;
        String::from_utf8_lossy(&environment).contains(tag).then(|| Pid::from_raw(pid))
    });
    found.next()
}

/// The limit is the real one: 100 seconds. containerd 1.7 is asked because its `ctr` prints the code as well.
#[test]
#[ignore = "long"]
fn a_launch_whose_layers_take_too_long_to_compare_is_told_to_try_again_and_leaves_nothing() {
    let bench = Bench::start(Release::V1_7, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let policy = |contents: &str| {
        daemon.policy(&format!(
            "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [\"{}\"], contents = \"{contents}\" }}\n",
            bench.digests.manifest
        ))
    };
    policy("receipt").unwrap();
    let id = daemon.id("slow");
    let mut launch =
        daemon.ctr_command(daemon.tag(), &["run", "--rm", "--runtime", BULKHEAD, ALLOWED, &id, "/bin/true"]);
    let began = Instant::now();
    let output = thread::scope(|scope| {
        let launched = scope.spawn(|| run(&mut launch, Duration::from_secs(200)).unwrap());
        // Stopped, it takes as long as somebody wants.
        let mut stopped = None;
        let found = until("a judge of contents", Duration::from_secs(60), || {
            stopped = judge_of_contents(daemon.tag());
            let is = stopped.is_some_and(|pid| kill(pid, Signal::SIGSTOP).is_ok());
            Ok(is || launched.is_finished())
        });
        found.unwrap();
        assert!(stopped.is_some(), "the comparison was over before it could be stopped: {launched:?}");
        launched.join().unwrap()
    });
    assert!(!output.ok() && output.stderr.trim_end().ends_with(": unavailable"), "{output:?}");
    let says = ["are still being compared with their tars after 100s: 0 of", "bulkhead watch"];
    assert!(says.iter().all(|words| output.stderr.contains(words)), "{output:?}");
    assert!(began.elapsed() >= Duration::from_secs(100), "{output:?}");
    assert!(judges(&bench).is_empty(), "what was not judged is no verdict");
    bench.assert_nothing_left();
    // Nobody stops the next one.
    bench.run("again", &["/bin/true"]).unwrap().success().unwrap();
    bench.run("warm", &["/bin/true"]).unwrap().success().unwrap();
    assert_eq!(judges(&bench).last(), Some(&0));
    bench.assert_nothing_left();
}
