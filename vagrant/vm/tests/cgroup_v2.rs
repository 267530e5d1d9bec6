//! cgroup v2 under systemd with the cgroupfs driver: what a request asks stands in the kernel's files, and holds.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use guest::{Container, Events, bench, eventually, inside_group, number, read};
use serde_json::json;

const MIB: u64 = 1 << 20;

#[test]
fn limits_of_a_request_stand_in_the_groups_files_and_an_update_changes_them() {
    let container = Container::sleeping(|spec| {
        spec["linux"]["resources"]["memory"] =
            json!({ "limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB });
        spec["linux"]["resources"]["cpu"] =
            json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" });
        spec["linux"]["resources"]["pids"] = json!({ "limit": 32 });
    });
    let group = container.group();
    let found =
        ["memory.max", "memory.low", "cpu.max", "cpuset.cpus", "pids.max"].map(|file| read(&group, file));
    assert_eq!(
        found,
        [(64 * MIB).to_string(), (32 * MIB).to_string(), "50000 100000".into(), "0".into(), "32".into()]
    );
    // What the request names is memory and swap together; the kernel's file is swap alone.
    assert_eq!(read(&group, "memory.swap.max"), (32 * MIB).to_string());
    // From 2 to 262144 shares to a weight from 1 to 10000: half of the usual 1024 is less than the usual 100.
    let weight: u64 = read(&group, "cpu.weight").parse().unwrap();
    assert!((2..100).contains(&weight), "{weight}");
    // Inside, the group is all there is to see.
    assert_eq!(container.exec(&["/bin/cat", "/proc/self/cgroup"]).stdout, "0::/\n");

    let tasks = bench().daemon.tasks().unwrap();
    tasks
        .update(&container.id, &json!({ "memory": { "limit": 80 * MIB }, "pids": { "limit": 48 } }))
        .unwrap();
    assert_eq!(read(&group, "memory.max"), (80 * MIB).to_string());
    assert_eq!(read(&group, "pids.max"), "48");
    // What the update does not name stays.
    assert_eq!(read(&group, "cpu.max"), "50000 100000");

    let other = Container::sleeping(|_| {});
    let unlimited = other.group();
    assert_eq!(
        (read(&unlimited, "memory.max").as_str(), read(&unlimited, "cpu.weight").as_str()),
        ("max", "100")
    );
}

#[test]
fn metrics_are_those_of_cgroup_v2_and_grow_with_what_the_container_does() {
    let container = Container::start(
        |spec| {
            spec["linux"]["resources"]["memory"] = json!({ "limit": 96 * MIB });
            spec["linux"]["resources"]["pids"] = json!({ "limit": 20 });
        },
        &["/bin/sh", "-c", "while :; do :; done"],
    )
    .unwrap();
    let (group, before) = (container.group(), container.metrics());
    // protobuf's JSON writes 64 bits as text or as a number, as it likes.
    let value = |metrics: &serde_json::Value, section: &str, name: &str| {
        let found = &metrics[section][name];
        found
            .as_u64()
            .or_else(|| found.as_str()?.parse().ok())
            .unwrap_or_else(|| panic!("{section}.{name}: {metrics}"))
    };
    assert_eq!(value(&before, "memory", "usage_limit"), 96 * MIB);
    assert_eq!((value(&before, "pids", "current"), value(&before, "pids", "limit")), (1, 20));
    assert!((1..96 * MIB).contains(&value(&before, "memory", "usage")), "{before}");
    let used = value(&before, "cpu", "usage_usec");
    eventually("a second of processor time", || number(&group, "cpu.stat", "usage_usec") > used + 1_000_000);
    let after = container.metrics();
    assert!(value(&after, "cpu", "usage_usec") > used + 1_000_000, "{before} {after}");
}

#[test]
fn a_container_that_outgrows_its_memory_is_killed_and_containerd_hears_of_it() {
    let events = Events::follow("oom");
    let hungry = Container::start(
        |spec| spec["linux"]["resources"]["memory"] = json!({ "limit": 24 * MIB, "swap": 24 * MIB }),
        &["/bin/tail", "/dev/zero"],
    )
    .unwrap();
    assert_eq!(bench().daemon.tasks().unwrap().wait(&hungry.id).unwrap(), 137);
    events.wait_for("/tasks/oom", &hungry.id);
    // One that is killed by a person did not run out of memory.
    let mut killed = Container::sleeping(|_| {});
    killed.end();
    events.wait_for("/tasks/delete", &killed.id);
    assert!(!events.all().lines().any(|line| line.contains("/tasks/oom") && line.contains(&killed.id)));
}

#[test]
fn a_device_that_was_not_granted_cannot_be_opened_by_anybody_in_the_group() {
    let container = Container::sleeping(|_| {});
    let open = |device: &str| {
        format!(
            "if dd if={device} of=/dev/null count=1 2>&1 | grep -q 'not permitted'; then echo denied; else echo opened; fi"
        )
    };
    let script = |device: &str| open(device);
    // Root of this machine, with every capability and the machine's own /dev, but in the container's group.
    let inside = |device: &str| inside_group(&container.group(), &script(device));
    assert_eq!(inside("/dev/vda"), "denied\n");
    assert_eq!(inside("/dev/kmsg"), "denied\n");
    assert_eq!(inside("/dev/urandom"), "opened\n");
    // Outside of it the same works.
    let own = bulkhead_integration::run(
        std::process::Command::new("sh").args(["-c", &script("/dev/vda")]),
        guest::PATIENCE,
    );
    assert_eq!(own.unwrap().stdout, "opened\n");
    // And the container has those it needs.
    let output = container.exec(&["/bin/sh", "-c", "echo >/dev/null && head -c 1 /dev/zero | wc -c"]);
    assert_eq!(output.success().unwrap().stdout, "1\n");
}

#[test]
fn a_paused_container_is_frozen_by_the_kernel_and_can_be_killed() {
    let mut container = Container::sleeping(|_| {});
    let (group, tasks) = (container.group(), bench().daemon.tasks().unwrap());
    let frozen = || number(&group, "cgroup.events", "frozen");
    assert_eq!(frozen(), 0);
    tasks.pause(&container.id).unwrap();
    assert_eq!(frozen(), 1);
    tasks.resume(&container.id).unwrap();
    assert_eq!(frozen(), 0);
    assert!(container.exec(&["/bin/true"]).ok());
    tasks.pause(&container.id).unwrap();
    container.end();
    assert!(!group.exists());
}

#[test]
fn an_exec_is_in_its_containers_group_and_a_delete_leaves_none() {
    let mut container = Container::sleeping(|_| {});
    let group = container.group();
    let id = container.id.clone();
    let exec = std::thread::spawn(move || bench().exec(&id, &["/bin/sleep", "600"]));
    eventually("an exec in the group", || read(&group, "cgroup.procs").lines().count() == 2);
    // A group within, as a nested runtime makes it, with a process that nobody waits for.
    inside_group(
        &group,
        &format!(
            "mkdir {0}/nested && sh -c 'sleep 600 >/dev/null 2>&1 & echo $! >{0}/nested/cgroup.procs'",
            group.display()
        ),
    );
    assert_eq!(number(&group.join("nested"), "cgroup.events", "populated"), 1);
    container.end();
    // `ctr` waits for its process, whose exit code is gone with the task.
    assert!(!exec.join().unwrap().unwrap().ok());
    assert!(!group.exists());
    // The name is free again.
    let mut again = container.again();
    assert_eq!(again.group(), group);
    again.end();
}
