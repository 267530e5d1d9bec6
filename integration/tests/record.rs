//! The record of verdicts, as launches on the real containerd leave it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::PathBuf, thread};

use bulkhead_integration::{Bench, Cri, Refused, Release, on_each_containerd};
use serde_json::Value;

fn file(bench: &Bench) -> PathBuf {
    bench.daemon.bulkhead_root().join("var/lib/bulkhead/audit/verdicts.jsonl")
}

fn lines(bench: &Bench) -> Vec<Value> {
    let text = fs::read_to_string(file(bench)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

on_each_containerd! {
    fn every_verdict_is_on_record_with_its_image_its_rule_and_the_policy(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        bench.allow("exec = [{ command = \"/bin/true\", stdin = true }]").unwrap();
        let id = bench.start_task("yes", &["/bin/sleep", "600"]).unwrap();
        bench.exec(&id, &["/bin/true"]).unwrap().success().unwrap();
        let refused = Refused::of(bench.exec(&id, &["/bin/cat", "/secret-argument"]).unwrap()).unwrap();
        assert_eq!(refused.rule(), "exec");
        bench.remove(&id).unwrap();
        bench.allow_digests(&[&format!("sha256:{}", "0".repeat(64))], "").unwrap();
        Refused::of(bench.run("no", &["/bin/true"]).unwrap()).unwrap();
        let policy = fs::read_to_string(bench.daemon.bulkhead_root().join("etc/bulkhead/policy.toml")).unwrap();
        bench.daemon.policy(&policy.replace("\"enforce\"", "\"audit\"")).unwrap();
        bench.run("audited", &["/bin/true"]).unwrap().success().unwrap();

        let lines = lines(&bench);
        let said: Vec<(&str, &str, &str)> = lines.iter().map(|line| {
            let text = |value: &'static str| line.pointer(value).and_then(Value::as_str).unwrap_or("");
            (text("/call"), text("/verdict"), text("/refusal/rule"))
        }).collect();
        assert_eq!(said, [
            ("create", "allow", ""),
            ("exec", "allow", ""),
            ("exec", "refuse", "exec"),
            ("create", "refuse", "image-digest"),
            ("create", "audit-only", "image-digest"),
        ]);
        for line in &lines {
            assert_eq!(line["image"]["manifest"], bench.digests.manifest.as_str(), "{line}");
            assert_eq!([&line["namespace"], &line["tenant"]], [bench.daemon.tag(); 2]);
            assert!(line["policy"].as_str().unwrap().starts_with("sha256:"), "{line}");
            assert!(line["image"]["chain"].as_str().unwrap().starts_with("sha256:"), "{line}");
            assert!(!line.to_string().contains("secret-argument"), "{line}");
        }
        let judges: Vec<u64> = lines.iter().map(|line| line["judges"].as_u64().unwrap()).collect();
        assert_eq!(judges, [1, 0, 0, 0, 0], "what was found out once is not found out again");
        assert_eq!(lines[0]["scope"], "registry.test/team-a/*");
        assert_eq!(lines[0]["container"], id.as_str());
        assert_ne!(lines[0]["policy"], lines[4]["policy"]);
        bench.assert_nothing_left();
    }

    fn a_launch_whose_verdict_cannot_be_recorded_does_not_happen(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        bench.run("yes", &["/bin/true"]).unwrap().success().unwrap();
        let aside = file(&bench).with_extension("aside");
        fs::rename(file(&bench), &aside).unwrap();
        fs::create_dir(file(&bench)).unwrap();
        let failed = bench.run("no", &["/bin/true"]).unwrap();
        assert!(!failed.ok() && failed.stderr.contains("cannot be recorded, so it does not run"), "{failed:?}");
        assert!(failed.stderr.contains("fix: "), "{failed:?}");
        fs::remove_dir(file(&bench)).unwrap();
        bench.run("again", &["/bin/true"]).unwrap().success().unwrap();
        assert_eq!(lines(&bench).len(), 1, "moved away, it is begun anew");
        bench.assert_nothing_left();
    }
}

#[test]
fn launches_of_one_image_at_once_judge_it_once_and_each_has_its_line() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    thread::scope(|scope| {
        let run = |number: u32| bench.run(&format!("c{number}"), &["/bin/true"]).unwrap().success().unwrap();
        for number in 0..12 {
            scope.spawn(move || run(number));
        }
    });
    let lines = lines(&bench);
    let judges: u64 = lines.iter().map(|line| line["judges"].as_u64().unwrap()).sum();
    assert_eq!((lines.len(), judges), (12, 1));
    bench.assert_nothing_left();
}
