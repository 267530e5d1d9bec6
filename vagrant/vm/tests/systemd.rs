//! systemd's driver: the container's group is a scope of systemd's, as the kubelet of every systemd distribution asks.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use std::fs;

use guest::{Container, Events, bench, eventually, inside_group, number, read, systemctl};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A path as containerd's CRI plugin sends it, and the unit that it names.
fn in_slice(spec: &mut Value, name: &str) -> String {
    spec["linux"]["cgroupsPath"] = format!("bulkheadtest-pod1.slice:bulkhead:{name}").into();
    format!("bulkhead-{name}.scope")
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// systemd forgets a unit that it has ended on its own time.
fn forgotten(unit: &str) {
    eventually("a unit that is forgotten", || property(unit, "LoadState") == "not-found");
}

#[test]
fn a_container_is_a_scope_in_its_slice_with_its_limits_until_it_is_deleted() {
    let mut unit = String::new();
    let mut container = Container::sleeping(|spec| {
        unit = in_slice(spec, "limits");
        spec["linux"]["resources"]["memory"] = json!({ "limit": 64 * MIB });
        spec["linux"]["resources"]["cpu"] = json!({ "quota": 20_000, "period": 100_000 });
        spec["linux"]["resources"]["pids"] = json!({ "limit": 32 });
    });
    let group = container.group();
    assert!(group.ends_with(format!("bulkheadtest.slice/bulkheadtest-pod1.slice/{unit}")), "{group:?}");
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), "bulkheadtest-pod1.slice");
    assert_eq!(property(&unit, "Delegate"), "yes");
    let limits =
        |unit: &str| ["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec"].map(|name| property(unit, name));
    assert_eq!(limits(&unit), [(64 * MIB).to_string(), "32".into(), "200ms".into()]);
    let files = || ["memory.max", "pids.max", "cpu.max"].map(|file| read(&group, file));
    assert_eq!(files(), [(64 * MIB).to_string(), "32".into(), "20000 100000".into()]);

    // What systemd writes again on a reload is what the request asked.
    systemctl(&["daemon-reload"]);
    assert_eq!(files(), [(64 * MIB).to_string(), "32".into(), "20000 100000".into()]);

    let tasks = bench().daemon.tasks().unwrap();
    tasks
        .update(&container.id, &json!({ "memory": { "limit": 80 * MIB }, "pids": { "limit": 40 } }))
        .unwrap();
    assert_eq!(limits(&unit), [(80 * MIB).to_string(), "40".into(), "200ms".into()]);
    systemctl(&["daemon-reload"]);
    assert_eq!(files(), [(80 * MIB).to_string(), "40".into(), "20000 100000".into()]);

    container.end();
    assert!(!group.exists());
    forgotten(&unit);
    // The name is free again.
    let mut again = container.again();
    assert_eq!(again.group(), group);
    again.end();
}

#[test]
fn a_scope_holds_its_execs_refuses_devices_and_freezes() {
    let mut container = Container::sleeping(|spec| drop(in_slice(spec, "devices")));
    let (group, tasks) = (container.group(), bench().daemon.tasks().unwrap());
    assert_eq!(container.exec(&["/bin/cat", "/proc/self/cgroup"]).stdout, "0::/\n");
    let open = |device: &str| {
        let script = format!(
            "if dd if={device} of=/dev/null count=1 2>&1 | grep -q 'not permitted'; then echo denied; else echo opened; fi"
        );
        inside_group(&group, &script)
    };
    assert_eq!((open("/dev/vda").as_str(), open("/dev/zero").as_str()), ("denied\n", "opened\n"));
    // systemd puts its own program in place again when it reloads: it must deny the same.
    systemctl(&["daemon-reload"]);
    assert_eq!((open("/dev/vda").as_str(), open("/dev/zero").as_str()), ("denied\n", "opened\n"));
    tasks.pause(&container.id).unwrap();
    assert_eq!(number(&group, "cgroup.events", "frozen"), 1);
    tasks.resume(&container.id).unwrap();
    assert_eq!(number(&group, "cgroup.events", "frozen"), 0);
    container.end();
    assert!(!group.exists());
}

#[test]
fn a_scope_that_outgrows_its_memory_is_killed_and_leaves_no_failed_unit() {
    let events = Events::follow("scope-oom");
    // As a pod's own container does: the slice stays.
    let _pod = Container::sleeping(|spec| drop(in_slice(spec, "sandbox")));
    let mut unit = String::new();
    let mut hungry = Container::start(|spec| unit = hungry_in_slice(spec, "hungry"), &EATS).unwrap();
    eat(&hungry);
    assert_eq!(bench().daemon.tasks().unwrap().wait(&hungry.id).unwrap(), 137);
    events.wait_for("/tasks/oom", &hungry.id);
    hungry.delete();
    forgotten(&unit);
}

#[test]
fn a_kill_for_want_of_memory_is_told_when_systemd_has_removed_its_count() {
    let events = Events::follow("forgotten");
    let _pod = Container::sleeping(|spec| drop(in_slice(spec, "kept")));
    let ends_unseen = |container: &Container, end: &dyn Fn()| {
        let (server, group) = (parent(container.pid), container.group());
        kill(server, Signal::SIGSTOP).unwrap();
        end();
        eventually("the end of the scope", || !group.exists());
        kill(server, Signal::SIGCONT).unwrap();
        assert_eq!(bench().daemon.tasks().unwrap().wait(&container.id).unwrap(), 137);
        events.wait_for("/tasks/exit", &container.id);
    };
    let told = |container: &Container| {
        let all = events.all();
        let topics = all.lines().filter(|line| line.contains(&container.id));
        topics.filter(|line| line.contains("/tasks/oom")).count()
    };
    let mut hungry = Container::start(|spec| drop(hungry_in_slice(spec, "forgotten")), &EATS).unwrap();
    ends_unseen(&hungry, &|| eat(&hungry));
    assert_eq!(told(&hungry), 1);
    hungry.delete();
    // One beside it that a person kills: the slice has counted a kill, and it was not this one's.
    let mut killed = Container::start(|spec| drop(hungry_in_slice(spec, "killed")), &EATS).unwrap();
    let init = pid(killed.pid);
    ends_unseen(&killed, &|| kill(init, Signal::SIGKILL).unwrap());
    killed.delete();
    events.wait_for("/tasks/delete", &killed.id);
    assert_eq!(told(&killed), 0);
}

/// Waits for a word, then asks for more memory than it may have.
const EATS: [&str; 3] = ["/bin/sh", "-c", "until [ -e /tmp/eat ]; do sleep 0.1; done; exec tail /dev/zero"];

fn eat(container: &Container) {
    fs::write(format!("/proc/{}/root/tmp/eat", container.pid), "").unwrap();
}

fn hungry_in_slice(spec: &mut Value, name: &str) -> String {
    spec["linux"]["resources"]["memory"] = json!({ "limit": 24 * MIB, "swap": 24 * MIB });
    in_slice(spec, name)
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed())
}

fn parent(of: u32) -> Pid {
    let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap())
}
