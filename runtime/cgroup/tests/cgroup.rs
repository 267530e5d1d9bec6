//! Real control groups of this machine with real processes in them: needs root.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bulkhead_cgroup::{Cgroup, CgroupError, Host, MemoryStats, Version};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A group of one test: emptied and removed when the test ends, however it ends.
struct Group {
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Group {
    /// None, with the reason printed, where this machine cannot have one.
    fn new(resources: Value) -> Option<Self> {
        let group = Self::unmade()?;
        group.cgroup.create(&of(resources)).unwrap();
        Some(group)
    }

    fn unmade() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A parent of its own: another test's would be gone between its making and ours below it.
        let path = format!("/bulkhead-cgroup-test-{}-{number}/g", std::process::id()).parse().unwrap();
        let cgroup = Host::detect().unwrap().cgroup(&path);
        Some(Self { cgroup, children: Vec::new() })
    }

    fn v1(&self) -> bool {
        self.cgroup.version() != Version::V2
    }

    fn dir(&self, controller: &str) -> PathBuf {
        let mut dirs = self.cgroup.dirs();
        dirs.find(|(names, _)| names.is_empty() || names.split(',').any(|n| n == controller))
            .unwrap()
            .1
            .to_owned()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.dir(controller).join(file)).unwrap().trim().to_owned()
    }

    fn spawn(&mut self, command: &str) -> u32 {
        // Waits for a line, so that it does nothing before it is in the group.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("read go; {command}"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.cgroup.add(child.id()).unwrap();
        use std::io::Write;
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        self.children.pop().unwrap().wait().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let killed = self.cgroup.kill_all();
        for child in &mut self.children {
            child.wait().unwrap();
        }
        let removed = self.cgroup.remove();
        for (_, dir) in self.cgroup.dirs() {
            // Of this group alone.
            drop(fs::remove_dir(dir.parent().unwrap()));
        }
        if !std::thread::panicking() {
            assert!(killed.is_ok() || killed.unwrap_err().is_not_found());
            removed.unwrap();
            assert!(self.cgroup.dirs().all(|(_, dir)| !dir.exists()));
        }
    }
}

fn of(resources: Value) -> LinuxResources {
    serde_json::from_value(resources).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_parent_that_another_launch_has_just_made_gets_its_cpuset_too() {
    let path = format!("/bulkhead-cgroup-half-made-{}/a", std::process::id()).parse().unwrap();
    let mut group = Group { cgroup: Host::detect().unwrap().cgroup(&path), children: Vec::new() };
    if !nix::unistd::geteuid().is_root() || !group.v1() {
        println!("skipped: needs root and cgroup v1");
        return;
    }
    let parent = group.dir("cpuset").parent().unwrap().to_owned();
    fs::create_dir(&parent).unwrap();
    assert_eq!(fs::read_to_string(parent.join("cpuset.cpus")).unwrap().trim(), "");
    group.cgroup.create(&of(json!({}))).unwrap();
    group.spawn("exit 0");
    assert!(group.wait().success());
    assert_ne!(group.read("cpuset", "cpuset.cpus"), "");
}

#[test]
fn limits_are_set_and_read_back() {
    let Some(group) = Group::new(json!({
        "memory": { "limit": 32 << 20, "reservation": 16 << 20 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 17 },
    })) else {
        return;
    };
    if group.v1() {
        assert_eq!(group.read("memory", "memory.limit_in_bytes"), (32 << 20).to_string());
        assert_eq!(group.read("memory", "memory.soft_limit_in_bytes"), (16 << 20).to_string());
        assert_eq!(group.read("cpu", "cpu.shares"), "512");
        assert_eq!(group.read("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(group.read("cpuset", "cpuset.cpus"), "0");
        assert_ne!(group.read("cpuset", "cpuset.mems"), "");
    }
    assert_eq!(group.read("pids", "pids.max"), "17");
    let stats = group.cgroup.stats().unwrap();
    assert_eq!(stats.memory.unwrap().memory.limit, Some(32 << 20));
    assert_eq!(stats.pids.unwrap().limit, Some(17));
}

#[test]
fn unlimited_is_unlimited() {
    let Some(group) = Group::new(json!({ "pids": { "limit": -1 } })) else { return };
    let stats = group.cgroup.stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, None);
    assert_eq!(group.cgroup.oom_kills().unwrap(), Some(0));
}

#[test]
fn update_changes_what_it_names_in_either_direction_and_leaves_the_rest() {
    let Some(group) =
        Group::new(json!({ "memory": { "limit": 32 << 20, "swap": 48 << 20 }, "pids": { "limit": 9 } }))
    else {
        return;
    };
    for (limit, swap) in [(128 << 20, 192 << 20), (16 << 20, 16 << 20)] {
        group.cgroup.update(&of(json!({ "memory": { "limit": limit, "swap": swap } }))).unwrap();
        let memory = group.cgroup.stats().unwrap().memory.unwrap();
        assert_eq!(memory.memory.limit, Some(limit));
        assert_eq!(memory.swap.unwrap().limit, Some(if group.v1() { swap } else { swap - limit }));
    }
    group.cgroup.update(&of(json!({ "cpu": { "period": 50_000, "quota": 200_000 } }))).unwrap();
    group.cgroup.update(&of(json!({ "cpu": { "period": 1_000_000, "quota": 1_000 } }))).unwrap();
    assert_eq!(group.cgroup.stats().unwrap().pids.unwrap().limit, Some(9));
}

#[test]
fn limits_that_cannot_be_kept_are_errors() {
    let Some(group) = Group::unmade() else { return };
    for wrong in [
        json!({ "memory": { "useHierarchy": false } }),
        json!({ "blockIO": { "leafWeight": 10 } }),
        json!({ "hugepageLimits": [{ "pageSize": "../x", "limit": 1 }] }),
        json!({ "pids": { "limit": 5 }, "unified": { "cgroup.procs": "1" } }),
        json!({ "network": { "classID": 1 } }),
        json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 } } }),
    ] {
        let error = group.cgroup.create(&of(wrong.clone())).unwrap_err();
        let by_name = matches!(error, CgroupError::Unsupported { .. } | CgroupError::NoController { .. });
        assert!(by_name || !group.v1(), "{wrong}: {error}");
    }
}

#[test]
fn pids_limit_stops_a_fork_bomb() {
    let Some(mut group) = Group::new(json!({ "pids": { "limit": 5 } })) else { return };
    group.spawn("for i in 1 2 3 4 5 6 7 8; do sleep 100 & done 2>/dev/null; sleep 100");
    until("the limit is reached", || group.cgroup.stats().unwrap().pids.unwrap().current >= 4);
    std::thread::sleep(Duration::from_millis(100));
    assert!(group.cgroup.procs().unwrap().len() <= 5);
}

#[test]
fn unlimited_memory_lifts_the_limit_with_swap_and_a_smaller_limit_does_not() {
    let Some(group) = Group::new(json!({ "memory": { "limit": 32 << 20, "swap": 48 << 20 } })) else {
        return;
    };
    group.cgroup.update(&of(json!({ "memory": { "limit": 16 << 20 } }))).unwrap();
    let memory = group.cgroup.stats().unwrap().memory.unwrap();
    assert_eq!(memory.memory.limit, Some(16 << 20));
    let swap_limit = |memory: &MemoryStats| memory.swap.and_then(|swap| swap.limit);
    assert!(swap_limit(&memory).is_none_or(|bytes| bytes < 1 << 40), "{memory:?}");

    group.cgroup.update(&of(json!({ "memory": { "limit": -1 } }))).unwrap();
    let memory = group.cgroup.stats().unwrap().memory.unwrap();
    assert!(memory.memory.limit.unwrap() > 1 << 40, "{memory:?}");
    assert!(swap_limit(&memory).is_none_or(|bytes| bytes > 1 << 40), "{memory:?}");
}

#[test]
fn memory_limit_kills_and_the_kill_is_counted() {
    let Some(mut group) = Group::new(json!({ "memory": { "limit": 8 << 20, "swap": 8 << 20 } })) else {
        return;
    };
    group.spawn("head -c 64m /dev/zero | tail");
    group.wait();
    assert!(group.cgroup.oom_kills().unwrap() > Some(0));
}

#[test]
fn cpu_time_is_counted() {
    let Some(mut group) = Group::new(json!({})) else { return };
    group.spawn("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    assert!(group.wait().success());
    let cpu = group.cgroup.stats().unwrap().cpu.unwrap();
    assert!(cpu.total_ns > 1_000_000, "{cpu:?}");
}

#[test]
fn frozen_processes_stand_still_and_thawed_ones_go_on() {
    let Some(mut group) = Group::new(json!({})) else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    group.spawn(&format!("while true; do echo x >> {}; done", file.path().display()));
    let length = || fs::metadata(file.path()).unwrap().len();
    until("it writes", || length() > 0);
    group.cgroup.freeze().unwrap();
    let frozen = length();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(length(), frozen);
    group.cgroup.thaw().unwrap();
    until("it writes again", || length() > frozen);
}

#[test]
fn frozen_group_can_be_killed() {
    let Some(mut group) = Group::new(json!({})) else { return };
    group.spawn("sleep 100");
    group.cgroup.freeze().unwrap();
    group.cgroup.kill_all().unwrap();
    assert!(!group.wait().success());
}

#[test]
fn kill_reaches_every_descendant_also_below() {
    let Some(mut group) = Group::new(json!({})) else { return };
    let outside = Command::new("sleep").arg("100").spawn().unwrap();
    group.spawn("sleep 100 & (sleep 100 & sleep 100) & setsid sleep 100 & sleep 100");
    until("they run", || group.cgroup.procs().unwrap().len() >= 5);
    group.cgroup.kill_all().unwrap();
    assert!(!group.wait().success());
    until("they are gone", || group.cgroup.procs().unwrap().is_empty());
    let mut outside = outside;
    assert!(outside.try_wait().unwrap().is_none(), "a process outside of the group was killed");
    outside.kill().unwrap();
    outside.wait().unwrap();
}

#[test]
fn group_with_groups_below_is_removed_and_one_that_is_not_there_too() {
    let Some(group) = Group::new(json!({})) else { return };
    for (_, dir) in group.cgroup.dirs() {
        fs::create_dir_all(dir.join("a/b")).unwrap();
    }
    group.cgroup.remove().unwrap();
    group.cgroup.remove().unwrap();
}

#[test]
fn group_with_processes_is_neither_taken_over_nor_removed() {
    let Some(mut group) = Group::new(json!({})) else { return };
    group.spawn("sleep 100");
    let error = group.cgroup.create(&of(json!({}))).unwrap_err();
    assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
    let begin = Instant::now();
    let error = group.cgroup.remove().unwrap_err();
    assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn empty_group_that_is_there_is_taken_over_with_the_new_limits() {
    let Some(group) = Group::new(json!({ "pids": { "limit": 5 } })) else { return };
    group.cgroup.create(&of(json!({ "pids": { "limit": 6 } }))).unwrap();
    assert_eq!(group.cgroup.stats().unwrap().pids.unwrap().limit, Some(6));
}

#[test]
fn devices_are_denied_but_those_that_a_rule_allows() {
    let Some(group) = Group::new(null_only()) else { return };
    devices(group);
}

fn null_only() -> Value {
    json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
    ]})
}

/// Denied, then allowed by other rules in their place, then denied again.
fn devices(mut group: Group) {
    assert!(Path::new("/dev/zero").exists());
    let denied = "exec 2>/dev/null 3</dev/null; head -c1 /dev/null && ! head -c1 /dev/zero >&3";
    group.spawn(denied);
    assert!(group.wait().success());
    let open =
        json!({ "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "access": "rwm" }] });
    group.cgroup.update(&of(open)).unwrap();
    group.spawn("exec >/dev/null; head -c1 /dev/zero");
    assert!(group.wait().success());
    group.cgroup.update(&of(null_only())).unwrap();
    group.spawn(denied);
    assert!(group.wait().success());
    let hole = json!({ "devices": [
        { "allow": true, "type": "c", "major": 1, "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 5, "access": "w" },
    ]});
    assert!(matches!(group.cgroup.update(&of(hole)), Err(CgroupError::Unsupported { .. })));
    group.spawn(denied);
    assert!(group.wait().success());
}

/// A value that the kernel refuses: the field, the value, the file and a way out are in the message.
#[test]
fn values_that_the_kernel_refuses_are_named() {
    let Some(group) = Group::new(json!({})) else { return };
    for (wrong, parts) in [
        (json!({ "memory": { "limit": -5 } }), ["memory.limit", "\"-5\"", "fix: give bytes"]),
        (json!({ "cpu": { "quota": 1, "period": 100_000 } }), ["cpu.quota", "cpu.", "at least 1000"]),
        (json!({ "cpu": { "cpus": "0-8191" } }), ["cpu.cpus", "\"0-8191\"", "cpuset.cpus"]),
        (json!({ "pids": { "limit": i64::MAX } }), ["pids.limit", "pids.max", "4194304"]),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 4094, "minor": 1, "rate": 1 }] } }),
            ["blockIO.throttleReadBpsDevice", "4094:1", "block device of this host"],
        ),
    ] {
        let error = group.cgroup.update(&of(wrong.clone())).unwrap_err();
        assert!(matches!(error, CgroupError::Refused { .. }), "{wrong}: {error}");
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// Each generation forks the next and ends: a list of processes is out of date as soon as it is read.
#[test]
fn groups_made_inside_are_killed_and_removed_while_they_fork() {
    let Some(mut group) = Group::new(json!({})) else { return };
    let dir = group.dir("pids").join("a/b");
    fs::create_dir_all(&dir).unwrap();
    for _ in 0..3 {
        let join = format!("echo 0 > {}/cgroup.procs", dir.display());
        group.spawn(&format!("{join}; f() {{ f & }}; for i in 1 2 3 4 5 6 7 8 9 10; do f; done; sleep 100"));
    }
    until("they fork", || group.cgroup.procs().unwrap().len() > 6);
    group.cgroup.kill_all().unwrap();
    for mut child in std::mem::take(&mut group.children) {
        child.wait().unwrap();
    }
    group.cgroup.remove().unwrap();
}

/// The version 2 hierarchy of a hybrid host has no controllers, but everything else that is version 2.
#[test]
fn version_2_denies_devices_freezes_kills_and_removes() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if !unified.exists() || Group::unmade().is_none() {
        println!("skipped: needs root on a hybrid host; other tests cover a host with cgroup v2");
        return;
    }
    let group = |name: &str| {
        let path = format!("/bulkhead-cgroup-test-{}-v2-{name}/g", std::process::id()).parse().unwrap();
        let cgroup = Host::below(unified).unwrap().cgroup(&path);
        assert_eq!(cgroup.version(), Version::V2);
        Group { cgroup, children: Vec::new() }
    };
    let limited = group("limit");
    let error = limited.cgroup.create(&of(json!({ "pids": { "limit": 5 } }))).unwrap_err();
    assert!(matches!(error, CgroupError::Unsupported { .. }), "{error}");

    let denied = group("devices");
    denied.cgroup.create(&of(null_only())).unwrap();
    devices(denied);

    let mut bomb = group("bomb");
    bomb.cgroup.create(&of(json!({}))).unwrap();
    fs::create_dir_all(bomb.dir("").join("a/b")).unwrap();
    bomb.spawn(&format!("echo 0 > {}/a/b/cgroup.procs; while :; do sleep 1 & done", bomb.dir("").display()));
    until("it grows", || bomb.cgroup.procs().unwrap().len() > 20);
    bomb.cgroup.kill_all().unwrap();
    assert!(!bomb.wait().success());
    bomb.cgroup.remove().unwrap();

    let mut frozen = group("frozen");
    frozen.cgroup.create(&of(json!({}))).unwrap();
    frozen.spawn("sleep 100 & sleep 100");
    until("they run", || frozen.cgroup.procs().unwrap().len() >= 2);
    frozen.cgroup.freeze().unwrap();
    frozen.cgroup.thaw().unwrap();
    frozen.cgroup.freeze().unwrap();
    frozen.cgroup.kill_all().unwrap();
    assert!(!frozen.wait().success());
    assert!(frozen.cgroup.stats().unwrap().cpu.is_some());
}
