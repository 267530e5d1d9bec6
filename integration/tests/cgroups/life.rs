//! Pause, signals and removal.

use std::{fs, path::Path, thread, time::Duration};

use bulkhead_integration::{BULKHEAD, Bench, Cri, RUNC, Release};
use serde_json::json;

use super::{groups, read, start, v2};

#[test]
fn paused_task_takes_limits_and_signals_and_no_exec_as_under_runc() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let run = |runtime| {
        let id = start(&bench, runtime, "paused", &["/bin/sh", "-c", "while :; do :; done"], |_| {});
        let tasks = bench.daemon.tasks().unwrap();
        tasks.pause(&id).unwrap();
        let frozen = read(&bench, &id, ("freezer", "freezer.state"), "cgroup.freeze");
        let mut said = vec![frozen, format!("{:?}", tasks.state(&id, "").unwrap().status)];
        let before = cpu_time(&bench, &id);
        thread::sleep(Duration::from_millis(150));
        said.push(format!("stands still: {}", cpu_time(&bench, &id) == before));
        said.push(format!("exec: {}", bench.exec(&id, &["/bin/true"]).unwrap().ok()));
        said.push(format!("update: {}", tasks.update(&id, &json!({ "pids": { "limit": 9 } })).is_ok()));
        said.push(format!("metrics: {}", tasks.metrics(&id).unwrap()));
        tasks.kill(&id, 15, false).unwrap();
        said.push(format!("after SIGTERM: {:?}", tasks.state(&id, "").unwrap().status));
        tasks.kill(&id, 9, false).unwrap();
        said.push(format!("after SIGKILL: {}", tasks.wait(&id).unwrap()));
        bench.remove(&id).unwrap();
        said
    };
    let (runc, bulkhead) = (run(RUNC), run(BULKHEAD));
    assert_eq!(runc, bulkhead);
    assert!(bulkhead.contains(&"stands still: true".to_owned()), "{bulkhead:?}");
    bench.assert_nothing_left();
}

/// CPU time of a task's first process, in ticks.
fn cpu_time(bench: &Bench, id: &str) -> u64 {
    let pid = bench.daemon.tasks().unwrap().state(id, "").unwrap().pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn groups_inside_are_removed_while_their_processes_fork() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let script = "f() { f & }; for i in 1 2 3 4 5 6 7 8; do f; done; sleep 600";
    let id = start(&bench, BULKHEAD, "bomb", &["/bin/sh", "-c", script], |_| {});
    // As a privileged process inside would: a group below in each hierarchy, with processes in it.
    let init = bench.daemon.tasks().unwrap().state(&id, "").unwrap().pid.to_string();
    for dir in groups(&bench, &id).values().filter(|dir| dir.ends_with(&id)) {
        let below = dir.join("a/b");
        fs::create_dir_all(&below).unwrap();
        for name in ["cpuset.cpus", "cpuset.mems"].map(Path::new) {
            if !v2() && dir.join(name).exists() {
                let value = fs::read(dir.join(name)).unwrap();
                fs::write(dir.join("a").join(name), &value)
                    .and_then(|()| fs::write(below.join(name), &value))
                    .unwrap();
            }
        }
        for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().filter(|pid| *pid != init) {
            // Most are gone by now.
            fs::write(below.join("cgroup.procs"), pid).unwrap_or_default();
        }
    }
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn twenty_deletes_under_load_leave_nothing() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let load = start(
        &bench,
        BULKHEAD,
        "load",
        &["/bin/sh", "-c", "while :; do :; done & while :; do :; done"],
        |_| {},
    );
    thread::scope(|scope| {
        for thread in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..5 {
                    let name = format!("d{thread}x{round}");
                    let command = ["/bin/sh", "-c", "sleep 600 & sleep 600 & sleep 600"];
                    let id = start(bench, BULKHEAD, &name, &command, |_| {});
                    bench.remove(&id).unwrap();
                }
            });
        }
    });
    bench.remove(&load).unwrap();
    bench.assert_nothing_left();
}
