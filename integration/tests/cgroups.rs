//! Control groups through a real containerd: limits, counts, kills for want of memory, pause, removal. Whatever a
//! client can see is compared with runc's shim in the same run.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "cgroups/life.rs"]
mod life;
#[path = "cgroups/metrics.rs"]
mod metrics;
#[path = "cgroups/paths.rs"]
mod paths;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, Cri, RUNC, Release, Tasks, until};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

/// Starts a task whose spec is changed before; its id.
fn start(
    bench: &Bench,
    runtime: &str,
    name: &str,
    command: &[&str],
    edit: impl FnOnce(&mut Value),
) -> String {
    let (tasks, id) = create(bench, runtime, name, command, edit);
    tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
    tasks.start(&id).unwrap();
    id
}

/// A container without its task.
fn create(
    bench: &Bench,
    runtime: &str,
    name: &str,
    command: &[&str],
    edit: impl FnOnce(&mut Value),
) -> (Tasks, String) {
    let short = if runtime == RUNC { "r" } else { "b" };
    let id = bench.create_container(runtime, ALLOWED, &format!("{name}-{short}"), &["/bin/true"]).unwrap();
    // ctr would take a shell's options for its own.
    let with_command = |spec: &mut Value| {
        spec["process"]["args"] = json!(command);
        edit(spec);
    };
    bench.daemon.edit_spec(&id, with_command).unwrap();
    (bench.daemon.tasks().unwrap(), id)
}

/// Where a task's group is, by controller; on v2 by none.
fn groups(bench: &Bench, id: &str) -> BTreeMap<String, PathBuf> {
    let pid = bench.daemon.tasks().unwrap().state(id, "").unwrap().pid;
    let rows = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut found = BTreeMap::new();
    for row in rows.lines() {
        let [_, names, path] = row.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{row}") };
        for name in names.split(',') {
            let mount = name.strip_prefix("name=").unwrap_or(name);
            let dir = Path::new("/sys/fs/cgroup").join(mount).join(path.trim_start_matches('/'));
            if dir.is_dir() {
                found.insert(mount.to_owned(), dir);
            }
        }
    }
    found
}

fn v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A file of a task's group, by version.
fn read(bench: &Bench, id: &str, v1: (&str, &str), in_v2: &str) -> String {
    let groups = groups(bench, id);
    let path = if v2() { groups[""].join(in_v2) } else { groups[v1.0].join(v1.1) };
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Files that limits go to: v1's controller and name, v2's name. Weights are left out: runc 1.4 changed their scale.
const LIMITS: [(&str, &str, &str); 8] = [
    ("memory", "memory.limit_in_bytes", "memory.max"),
    ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    ("memory", "memory.soft_limit_in_bytes", "memory.low"),
    ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    ("cpu", "cpu.cfs_period_us", "cpu.max.burst"),
    ("cpuset", "cpuset.cpus", "cpuset.cpus"),
    ("cpuset", "cpuset.mems", "cpuset.mems.effective"),
    ("pids", "pids.max", "pids.max"),
];

fn limits(bench: &Bench, id: &str) -> Vec<(&'static str, String)> {
    LIMITS.map(|(controller, v1, in_v2)| (v1, read(bench, id, (controller, v1), in_v2))).to_vec()
}

fn weight(bench: &Bench, id: &str) -> String {
    read(bench, id, ("cpu", "cpu.shares"), "cpu.weight")
}

fn resources(spec: &mut Value, given: &Value) {
    for (name, value) in given.as_object().unwrap() {
        spec["linux"]["resources"][name] = value.clone();
    }
}

#[test]
fn limits_and_updates_reach_the_kernel_as_under_runc() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let asked = json!({
        "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 },
        "cpu": { "shares": 2048, "quota": 50_000, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 77 },
    });
    let updates = [
        json!({ "memory": { "limit": 128 << 20, "swap": 192 << 20 } }),
        json!({ "memory": { "limit": 48 << 20, "swap": 48 << 20 }, "pids": { "limit": 55 } }),
        json!({ "cpu": { "quota": 20_000, "period": 50_000 } }),
        json!({ "cpu": { "quota": -1, "period": 50_000 } }),
        json!({ "memory": { "limit": -1, "swap": -1 } }),
    ];
    let run = |runtime| {
        let id = start(&bench, runtime, "limits", &["/bin/sleep", "600"], |spec| resources(spec, &asked));
        let tasks = bench.daemon.tasks().unwrap();
        let mut seen = vec![limits(&bench, &id)];
        for update in &updates {
            tasks.update(&id, update).unwrap();
            seen.push(limits(&bench, &id));
        }
        // What an update does not name stays.
        if !v2() || runtime == BULKHEAD {
            assert_eq!(weight(&bench, &id), if v2() { "174" } else { "2048" });
        }
        bench.remove(&id).unwrap();
        seen
    };
    let (runc, bulkhead) = (run(RUNC), run(BULKHEAD));
    for (step, (runc, bulkhead)) in runc.iter().zip(&bulkhead).enumerate() {
        assert_eq!(runc, bulkhead, "after update {step}");
    }
    let limit = |step: usize| bulkhead[step][0].1.parse::<u64>().ok();
    assert_eq!((limit(0), limit(1), limit(2)), (Some(64 << 20), Some(128 << 20), Some(48 << 20)));
    bench.assert_nothing_left();
}

#[test]
fn values_that_the_kernel_refuses_are_said_with_field_value_and_fix_and_the_task_goes_on() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let id = start(&bench, BULKHEAD, "wrong", &["/bin/sleep", "600"], |_| {});
    let tasks = bench.daemon.tasks().unwrap();
    for (update, parts) in [
        (json!({ "memory": { "limit": -5 } }), ["memory.limit = ", "fix: give bytes"]),
        (json!({ "cpu": { "quota": 1, "period": 100_000 } }), ["cpu.quota", "at least 1000"]),
        (json!({ "cpu": { "cpus": "4000" } }), ["4000", "CPUs and memory nodes"]),
    ] {
        let error = tasks.update(&id, &update).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
    bench.remove(&id).unwrap();

    let wrong = json!({ "memory": { "limit": -5 } });
    let (tasks, id) = create(&bench, BULKHEAD, "never", &["/bin/true"], |spec| resources(spec, &wrong));
    let error = tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap_err().to_string();
    assert!(error.contains("memory.limit = ") && error.contains("-5") && error.contains("fix: "), "{error}");
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}

/// Raised where the host lets us, else clamped, and that said once for all containers of a server.
#[test]
fn resource_limits_above_the_hosts_are_raised_or_clamped_and_that_is_said_once() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let row = limits.lines().find(|line| line.starts_with("Max pending signals")).unwrap();
    let hard: u64 = row.split_whitespace().nth(4).unwrap().parse().unwrap();
    let asked = json!([{ "type": "RLIMIT_SIGPENDING", "soft": hard + 7, "hard": hard + 7 }]);
    let id =
        start(&bench, BULKHEAD, "rlimits", &["/bin/sleep", "600"], |spec| spec["process"]["rlimits"] = asked);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let may_raise = u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0;
    let wanted = if may_raise { hard + 7 } else { hard };
    let limit_of = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let row = limits.lines().find(|line| line.starts_with("Max pending signals")).unwrap().to_owned();
        row.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap()
    };
    let tasks = bench.daemon.tasks().unwrap();
    assert_eq!(limit_of(tasks.state(&id, "").unwrap().pid), wanted);
    assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
    let said = || bench.daemon.log().matches("no CAP_SYS_RESOURCE").count();
    until("the server's word", WITHIN, || Ok(said() == usize::from(!may_raise))).unwrap();
    bench.remove(&id).unwrap();
    assert_eq!(said(), usize::from(!may_raise));
    bench.assert_nothing_left();
}
