//! One script of calls under runc's shim and under Bulkhead's: what they answer, line by line.

use std::{fs, thread, time::Duration};

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, RUNC, Result, Tasks, merge_report, until};
use serde_json::json;

/// What a client makes of an answer: a call that its state does not allow, that policy or a limit forbids or that is
/// not built is "unknown" to runc's shim, and has a code of its own here.
pub(crate) fn answer<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.status().map(tonic::Status::code) {
            Some(tonic::Code::NotFound) => "not found".to_owned(),
            Some(tonic::Code::AlreadyExists) => "already exists".to_owned(),
            Some(
                tonic::Code::Unknown
                | tonic::Code::FailedPrecondition
                | tonic::Code::InvalidArgument
                | tonic::Code::PermissionDenied
                | tonic::Code::Unimplemented,
            ) => "no".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// Runs a script of calls under both runtimes; what they answered must be the same, line by line. The table of it is
/// printed, and goes into the report of conformance as suite `task-api`.
pub(crate) fn same_under_both(bench: &Bench, script: impl Fn(&Bench, &str, &mut dyn FnMut(&str, String))) {
    let run = |runtime: &str| {
        let mut lines = Vec::new();
        script(bench, runtime, &mut |call, answer| lines.push((call.to_owned(), answer)));
        lines
    };
    let (runc, bulkhead) = (run(RUNC), run(BULKHEAD));
    assert!(!runc.is_empty());
    let name = thread::current().name().unwrap_or("task").to_owned();
    let mut rows = Vec::new();
    for number in 0..runc.len().max(bulkhead.len()) {
        let said =
            |lines: &[(String, String)]| lines.get(number).map_or("not reached", |line| &line.1).to_owned();
        let call = runc.get(number).or(bulkhead.get(number)).map_or("", |line| &line.0);
        println!("{call:40} {:30} {}", said(&runc), said(&bulkhead));
        let test = format!("{name}: {} {call}", number + 1);
        rows.push(
            json!({ "suite": "task-api", "test": test, "runc": said(&runc), "bulkhead": said(&bulkhead) }),
        );
    }
    merge_report("conformance", &["suite", "test"], &rows).unwrap();
    assert_eq!(runc, bulkhead);
}

/// A container whose task is not there yet.
pub(crate) fn container(bench: &Bench, runtime: &str, name: &str, command: &[&str]) -> (Tasks, String) {
    let id = bench.daemon.id(&format!("{name}-{}", runtime.split('.').nth(2).unwrap()));
    let mut args = vec!["container", "create", "--runtime", runtime, "--", ALLOWED, &id];
    args.extend(command);
    bench.daemon.ctr(&args).unwrap().success().unwrap();
    (bench.daemon.tasks().unwrap(), id)
}

/// Waits until the first process of a task has its handler of SIGTERM: one that comes before is dropped by the kernel.
#[allow(dead_code, reason = "each suite uses a part")]
pub(crate) fn until_it_heeds_sigterm(tasks: &Tasks, id: &str) {
    let pid = tasks.state(id, "").unwrap().pid;
    until("a handler of SIGTERM", Duration::from_secs(60), || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        Ok(u64::from_str_radix(caught.trim(), 16).is_ok_and(|set| set & 1 << (15 - 1) != 0))
    })
    .unwrap();
}

pub(crate) fn remove_container(bench: &Bench, id: &str) {
    bench.daemon.ctr(&["container", "delete", id]).unwrap().success().unwrap();
}
