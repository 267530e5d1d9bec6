//! Several processes write the record at once, and some are killed over it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bulkhead_model::Layout;

fn appender() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/appender");
    assert!(program.exists(), "cargo build -p bulkhead-audit --examples");
    program
}

fn start(root: &Path, name: &str, lines: u32, padding: usize) -> Child {
    Command::new(appender())
        .arg(root)
        .args([name, &lines.to_string(), &padding.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a writer says is there, to its end.
fn said(child: &mut Child) -> Vec<String> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect()
}

/// Containers of the lines that can be read, and how many cannot.
fn read(root: &Path) -> (Vec<String>, usize) {
    let bytes = fs::read(Layout::below(root).verdict_record()).unwrap();
    let mut broken = 0;
    let mut whole = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(line) => whole.push(line["container"].as_str().unwrap().to_owned()),
            Err(_) => broken += 1,
        }
    }
    (whole, broken)
}

#[test]
fn eight_writers_lose_and_tear_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut writers: Vec<Child> =
        (0..8).map(|number| start(dir.path(), &format!("w{number}"), 300, 700)).collect();
    let said: BTreeSet<String> = writers.iter_mut().flat_map(said).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let (found, broken) = read(dir.path());
    assert_eq!((found.len(), broken), (8 * 300, 0));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), said);
}

#[test]
fn killed_writers_take_no_line_of_others_with_them() {
    let dir = tempfile::tempdir().unwrap();
    // Lines of several pages: a write of many is what a signal can cut short.
    let mut killed: Vec<Child> =
        (0..6).map(|number| start(dir.path(), &format!("k{number}"), 1_000_000, 40_000)).collect();
    let mut staying: Vec<Child> =
        (0..2).map(|number| start(dir.path(), &format!("s{number}"), 200, 700)).collect();
    let mut said_by_killed = Vec::new();
    for (number, child) in killed.iter_mut().enumerate() {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        said_by_killed.extend(lines.by_ref().take(10 + number).map(Result::unwrap));
        child.kill().unwrap();
        child.wait().unwrap();
        said_by_killed.extend(lines.map_while(Result::ok));
    }
    let said_by_staying: Vec<String> = staying.iter_mut().flat_map(said).collect();
    assert!(staying.iter_mut().all(|writer| writer.wait().unwrap().success()));
    let (found, broken) = read(dir.path());
    let found: BTreeSet<String> = found.into_iter().collect();
    assert_eq!(said_by_staying.len(), 400);
    for line in said_by_killed.iter().chain(&said_by_staying) {
        assert!(found.contains(line), "{line} was said to be there, and is not");
    }
    assert!(broken <= 6, "{broken} broken lines, and six writers were killed");
}
