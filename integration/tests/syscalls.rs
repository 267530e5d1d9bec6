//! System calls of the hot path: how many each process of ours makes for a container that is created, started, exec'd
//! into, killed and deleted, against the numbers that were committed.
//!
//! Invariant: nothing here looks at a clock. `BULKHEAD_COUNTS=write` writes the numbers anew; they are read in review.

#![allow(clippy::unwrap_used)]

#[path = "syscalls/log.rs"]
mod log;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, time::Duration};

use bulkhead_integration::{Bench, Cri, Release, until, workspace};
use log::{Calls, counts};

/// How many calls of one process may come on top of those committed: what a kernel or a C library does otherwise.
fn margin(committed: u32) -> u32 {
    (committed / 20).max(8)
}

/// By layout of the control groups, process, call.
type Committed = BTreeMap<String, BTreeMap<String, Calls>>;

fn file() -> PathBuf {
    workspace().join("integration/tests/syscalls/counts.toml")
}

/// The layout decides how many directories are made and joined.
fn layout() -> String {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
        return "v2".to_owned();
    }
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().map(Result::unwrap);
    let hierarchies =
        entries.filter(|entry| entry.file_type().unwrap().is_dir() && entry.file_name() != "unified");
    format!("v1-{}", hierarchies.count())
}

#[test]
fn no_process_makes_more_system_calls_than_were_committed() {
    let layout = layout();
    let mut committed: Committed = toml::from_str(&fs::read_to_string(file()).unwrap()).unwrap();
    let write = std::env::var_os("BULKHEAD_COUNTS").is_some_and(|word| word == "write");
    if !committed.contains_key(&layout) && !write {
        println!("skipped: needs control groups of a layout whose calls were counted ({layout} was not)");
        return;
    }
    let counted = count();
    if write {
        committed.insert(layout, counted);
        let head = "# System calls of the hot path, by layout of the control groups (v1 with its number of hierarchies), process\n\
                    # and call. Written by BULKHEAD_COUNTS=write cargo test -p bulkhead-integration --test syscalls\n";
        fs::write(file(), format!("{head}{}", toml::to_string(&committed).unwrap())).unwrap();
        return;
    }
    let more = compare(&committed[&layout], &counted);
    assert!(more.is_empty(), "the hot path makes more system calls than before:\n{more}");
}

/// What grew beyond its margin, call by call; empty where nothing did. What shrank is printed.
fn compare(committed: &BTreeMap<String, Calls>, counted: &BTreeMap<String, Calls>) -> String {
    let mut grown = String::new();
    for (process, calls) in counted {
        let none = Calls::new();
        let before = committed.get(process).unwrap_or(&none);
        let (was, is) = (before.values().sum::<u32>(), calls.values().sum::<u32>());
        let mut text = format!("{process}: {was} -> {is}\n");
        for call in before.keys().chain(calls.keys()).collect::<std::collections::BTreeSet<_>>() {
            let of = |calls: &Calls| calls.get(call).copied().unwrap_or(0);
            if of(before) != of(calls) {
                writeln!(text, "  {call} {} -> {}", of(before), of(calls)).unwrap();
            }
        }
        print!("{text}");
        if is > was + margin(was) {
            grown.push_str(&text);
        }
    }
    for gone in committed.keys().filter(|process| !counted.contains_key(*process)) {
        println!("{gone}: there no more");
    }
    grown
}

/// One container's life under strace.
fn count() -> BTreeMap<String, Calls> {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    // The judge is asked here: what is counted is the path of every launch but the first.
    bench.run("warm", &["/bin/true"]).unwrap().success().unwrap();

    let (runtime, shim) = bench.daemon.runtime_traced("traced").unwrap();
    let id = bench.start_task_under(&runtime, "hot", &["/bin/sleep", "600"]).unwrap();
    bench.exec(&id, &["/bin/true"]).unwrap().success().unwrap();
    bench.daemon.ctr(&["task", "delete", "-f", &id]).unwrap().success().unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();

    let logs = || ["start", "delete"].map(|action| bench.daemon.trace("traced", action));
    until("the end of the server, and of what cleans up after it", Duration::from_secs(60), || {
        Ok(logs().iter().all(|log| log.ends_with("+++\n") && log.lines().all(|line| !line.is_empty()))
            && ended(&logs()[0]))
    })
    .unwrap();
    let [start, delete] = logs();
    let mut all = counts(&start, &shim, "start");
    all.extend(counts(&delete, &shim, "delete"));
    let known = ["start", "server", "zygote", "spare", "worker", "bulkhead-init", "delete"];
    for process in all.keys() {
        assert!(
            known.iter().any(|name| process.contains(name)),
            "a process that the hot path has no use for: {all:#?}"
        );
    }
    all
}

/// Whether every process of a log has ended.
fn ended(log: &str) -> bool {
    let pid = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let all: std::collections::BTreeSet<String> = log.lines().map(pid).collect();
    let gone: std::collections::BTreeSet<String> =
        log.lines().filter(|line| line.ends_with(" +++")).map(pid).collect();
    all == gone
}

#[test]
fn a_process_that_makes_a_few_more_calls_passes_and_one_that_makes_many_more_does_not() {
    let of = |n: u32| BTreeMap::from([("worker".to_owned(), Calls::from([("openat".to_owned(), n)]))]);
    assert_eq!(compare(&of(100), &of(108)), "");
    assert_eq!(compare(&of(100), &of(109)), "worker: 100 -> 109\n  openat 100 -> 109\n");
    assert_eq!(compare(&of(100), &of(1)), "");
    assert_eq!(compare(&BTreeMap::new(), &of(9)), "worker: 0 -> 9\n  openat 0 -> 9\n");
}
