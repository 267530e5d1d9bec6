//! The judge's process as the kernel sees it while it waits for its question.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_model::{Digest, JUDGE_VERSION, JudgeAbout, JudgeLine, JudgeQuestion};

#[test]
fn judge_waits_for_its_question_without_rights_files_or_environment() {
    let mut judge = Command::new(common::judge().program)
        .env_clear()
        .env("BULKHEAD_ROOT", "/tmp/elsewhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let proc = |name: &str| format!("/proc/{}/{name}", judge.id());
    let field = |name: &str| -> String {
        let status = fs::read_to_string(proc("status")).unwrap();
        let line = status.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let beside_stdio = || -> Vec<String> {
        let names = fs::read_dir(proc("fd")).unwrap().map(|entry| entry.unwrap());
        let others = names.filter(|entry| !["0", "1", "2"].map(Some).contains(&entry.file_name().to_str()));
        others.map(|entry| fs::read_link(entry.path()).unwrap_or_default().display().to_string()).collect()
    };
    // It reads its own status under the filter, and closes that last.
    let started = Instant::now();
    while field("Seccomp") != "2" || !beside_stdio().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "{} {:?}", field("Seccomp"), beside_stdio());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(field("Uid"), "61007 61007 61007 61007");
    assert_eq!(field("Gid"), "61007 61007 61007 61007");
    assert_eq!(field("Groups"), "");
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Threads"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let question =
        JudgeQuestion { version: JUDGE_VERSION, target: Digest::of(b"x"), about: JudgeAbout::Image };
    let mut input = judge.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(&question).unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(judge.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(matches!(serde_json::from_str(&line).unwrap(), JudgeLine::Blob { .. }), "{line}");
    drop(input);
    assert!(judge.wait().unwrap().code().is_some(), "killed by its own filter");
}
