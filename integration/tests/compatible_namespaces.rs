//! Namespaces of the compatible level: user namespaces with any maps, beside runc where it has them, clocks, and what goes
//! with them: id-mapped mounts, copies of what a tmpfs hides, scheduling.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::chown, path::Path};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, COMPATIBLE, ContainerOptions, Cri, Infra, ROOT, Refused, Release, bind,
    namespaces, on_each_containerd, push, same,
};
use k8s_cri::v1::{IdMapping, NamespaceMode, NamespaceOption, UserNamespace};
use serde_json::{Value, json};

fn users(spec: &mut Value, uids: &Value, gids: &Value) {
    push(spec, "/linux/namespaces", json!({ "type": "user" }));
    spec["linux"]["uidMappings"] = uids.clone();
    spec["linux"]["gidMappings"] = gids.clone();
}

fn may(spec: &mut Value, capabilities: &[&str]) {
    for set in ["bounding", "permitted", "effective"] {
        for capability in capabilities {
            push(spec, &format!("/process/capabilities/{set}"), json!(capability));
        }
    }
}

on_each_containerd! {
    // Not /dev/pts itself: ours is nobody's, for no process of the user namespace has mounted it; the terminals in it are
    // the container's.
    fn user_namespace_has_the_maps_of_the_request_and_its_root_rules_what_is_its_own_as_under_runc(release) {
        let infra = Infra::start(release);
        infra.allow(COMPATIBLE);
        let one = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        let other = json!([{ "containerID": 0, "hostID": 300_000, "size": 1 }, { "containerID": 1, "hostID": 400_000, "size": 65_000 }]);
        let script = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id; \
            grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp:)' /proc/self/status; \
            stat -c '%n %u %g %a' / /bin /proc /sys /dev /dev/null /dev/shm /run /srv; \
            mount -t tmpfs tmpfs /mnt 2>&1 && stat -c '%u' /mnt; hostname other 2>&1 && hostname; \
            ifconfig lo mtu 1400 2>&1; cat /sys/class/net/lo/mtu; echo 1 > /proc/sys/net/ipv4/ip_forward; \
            cat /proc/sys/net/ipv4/ip_forward; touch /dev/shm/made && stat -c '%u %g' /dev/shm/made; pwd; \
            cat /proc/1/comm; ls /proc/self/fd | wc -l";
        let edits: [&dyn Fn(&mut Value); 3] = [
            &|spec| {
                users(spec, &one, &one);
                may(spec, &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
            },
            &|spec| users(spec, &one, &other),
            &|spec| {
                users(spec, &one, &one);
                spec["process"]["noNewPrivileges"] = json!(true);
                spec["process"]["user"] = json!({ "uid": 1234, "gid": 99, "additionalGids": [7, 5] });
                spec["process"]["capabilities"] = Value::Null;
            },
        ];
        for (number, edit) in edits.iter().enumerate() {
            let seen = same(&infra, script, |spec| {
                edit(spec);
                push(spec, "/mounts", json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/srv",
                    "options": ["nosuid", "size=1m", "mode=0755", "uid=5", "gid=6"] }));
            });
            println!("{seen}");
            // Not vacuous: the first one has power over what is its own.
            assert_eq!(seen.contains("\nother\n1400\n"), number == 0, "{seen}");
            assert!(seen.contains("100000"), "{seen}");
        }
        infra.bench.assert_nothing_left();
    }

    fn what_a_tmpfs_hides_is_copied_into_it_where_the_request_says_so_as_by_runc(release) {
        let infra = Infra::start(release);
        infra.allow(COMPATIBLE);
        let seen = same(&infra, "cd /etc; find . | sort | while read f; do stat -c '%n %u %g %a %F' $f; done; cat passwd", |spec| {
            push(spec, "/mounts", json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/etc",
                "options": ["nosuid", "tmpcopyup"] }));
        });
        assert!(seen.contains("./passwd 0 0") && seen.contains("root:"), "{seen}");
        infra.bench.assert_nothing_left();
    }
}

#[test]
fn exec_is_in_the_user_namespace_and_the_clocks_of_its_container() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(COMPATIBLE);
    let one = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let id = infra.background(BULKHEAD, "exec", "sleep 600", |spec| {
        users(spec, &one, &one);
        push(spec, "/linux/namespaces", json!({ "type": "time" }));
        spec["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 86_400 }, "boottime": { "secs": 864_000, "nanosecs": 5 } });
    });
    let script = "cat /proc/self/uid_map /proc/self/timens_offsets; for of in time user; do readlink /proc/self/ns/$of; readlink /proc/1/ns/$of; done; cut -d. -f1 /proc/uptime";
    let seen = infra.bench.exec(&id, &["/bin/sh", "-c", script]).unwrap().success().unwrap().stdout;
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(
        &words[..9],
        ["0", "100000", "65536", "monotonic", "86400", "0", "boottime", "864000", "5"],
        "{seen}"
    );
    assert_eq!((words[9], words[11]), (words[10], words[12]), "{seen}");
    assert_ne!(words[9], fs::read_link("/proc/self/ns/time").unwrap().to_string_lossy());
    assert!(words[13].parse::<u64>().unwrap() >= 864_000, "{seen}");
    infra.bench.remove(&id).unwrap();
    // And without: the node's.
    let id = infra.background(BULKHEAD, "plain", "sleep 600", |_| {});
    let seen =
        infra.bench.exec(&id, &["/bin/readlink", "/proc/self/ns/time"]).unwrap().success().unwrap().stdout;
    assert_eq!(seen.trim(), fs::read_link("/proc/self/ns/time").unwrap().to_string_lossy());
    infra.bench.remove(&id).unwrap();
    infra.bench.assert_nothing_left();
}

#[test]
fn mount_shows_the_ids_that_the_request_maps_or_those_of_the_container() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(COMPATIBLE);
    let dir = infra.bench.daemon.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    for (name, owner) in [("roots", 0), ("fives", 5)] {
        fs::write(dir.join(name), "x").unwrap();
        chown(dir.join(name), Some(owner), Some(owner)).unwrap();
    }
    let script = "stat -c %u:%g /data/roots /data/fives; touch /data/made 2>&1";
    let seen = |edit: &dyn Fn(&mut Value)| {
        let output = infra.script(BULKHEAD, script, |spec| edit(spec));
        assert!(!output.stdout.is_empty(), "{}", output.stderr);
        output.stdout
    };
    let map = |outside: u32| json!([{ "containerID": 0, "hostID": outside, "size": 65_536 }]);
    let mapped = |spec: &mut Value, outside: u32| {
        push(
            spec,
            "/mounts",
            json!({ "type": "bind", "source": dir, "destination": "/data", "options": ["rbind", "rw"],
            "uidMappings": map(outside), "gidMappings": map(outside) }),
        );
    };
    assert_eq!(seen(&|spec| bind(spec, &dir, "/data", &["rbind"])), "0:0\n5:5\n");
    fs::remove_file(dir.join("made")).unwrap();
    assert!(seen(&|spec| mapped(spec, 1000)).starts_with("1000:1000\n1005:1005\n"));
    // As the kubelet's pods have them: the ids of the user namespace, by mappings or by an option.
    for option in [false, true] {
        let with = |spec: &mut Value| {
            users(spec, &map(100_000), &map(100_000));
            match option {
                true => bind(spec, &dir, "/data", &["rbind", "ridmap"]),
                false => mapped(spec, 100_000),
            }
        };
        assert_eq!(seen(&with), "0:0\n5:5\n", "{option}");
        let made = fs::metadata(dir.join("made")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "{option}");
        fs::remove_file(dir.join("made")).unwrap();
    }
    let refused = |edit: &dyn Fn(&mut Value)| {
        Refused::of(infra.script(BULKHEAD, "true", |spec| edit(spec))).unwrap().line().to_owned()
    };
    assert!(refused(&|spec| bind(spec, &dir, "/data", &["rbind", "idmap"])).contains("uidMappings"));
    assert!(refused(&|spec| spec["linux"]["uidMappings"] = map(5)).contains("without a user namespace"));
    infra.bench.assert_nothing_left();
}

#[test]
fn scheduler_and_io_priority_of_a_request_are_its_processes() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(COMPATIBLE);
    // Field 41 of proc_pid_stat(5): SCHED_BATCH is 3.
    let script = "cut -d' ' -f41 /proc/self/stat; ionice -p $$";
    let seen = infra.script(BULKHEAD, script, |spec| {
        spec["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    });
    let seen = seen.success().unwrap().stdout;
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["3", "best-effort: prio 6"]);
    infra.bench.assert_nothing_left();
}

/// `hostUsers: false`, as the kubelet says it.
fn with_users(outside: u32) -> NamespaceOption {
    let map = vec![IdMapping { host_id: outside, container_id: 0, length: 65_536 }];
    NamespaceOption {
        userns_options: Some(UserNamespace { mode: NamespaceMode::Pod.into(), uids: map.clone(), gids: map }),
        ..namespaces()
    }
}

#[test]
fn pod_without_the_nodes_users_runs_at_the_compatible_level_and_its_root_is_nobody_on_the_node() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    bench.allow_pods(COMPATIBLE).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run_in("bulkhead", "team-a", "users", with_users(131_072)).unwrap();
    let mut options = ContainerOptions::restricted("root", ALLOWED, &["/bin/probe", "pause"]);
    options.security.namespace_options = Some(with_users(131_072));
    options.security.run_as_user = Some(k8s_cri::v1::Int64Value { value: 0 });
    options.security.readonly_rootfs = false;
    let id = pods.launch(&pod, &options).unwrap();
    let exec = |command: &[&str]| {
        let ran = pods.exec(&id, command).unwrap();
        assert_eq!(ran.code, 0, "{command:?}: {}", ran.stderr);
        ran.stdout
    };
    let map = exec(&["/bin/cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "131072", "65536"]);
    // Its image, its own files and those of the pod are its root's.
    let script = "touch /made /dev/shm/made; stat -c %u /bin/busybox /etc/hosts /made /dev/shm/made";
    let seen = exec(&["/bin/sh", "-c", script]);
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0"; 4]);
    let pid = exec(&["/bin/readlink", "/proc/self/ns/user"]);
    assert_ne!(pid.trim(), fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy());
    pods.stop(&id, 0).unwrap();
    pods.remove_pod(&pod).unwrap();
    assert!(!Path::new(&bench.daemon.bulkhead_root()).join("run/bulkhead/ids/2").exists());
    bench.assert_nothing_left();
}

#[test]
fn ctr_runs_an_image_of_the_compatible_level_with_the_owners_of_its_user_namespace() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(COMPATIBLE);
    let id = infra.bench.daemon.id("labels");
    let args = [
        "run",
        "--rm",
        "--runtime",
        BULKHEAD,
        "--uidmap",
        "0:131072:65536",
        "--gidmap",
        "0:131072:65536",
        "--remap-labels",
        ROOT,
        &id,
        "/bin/stat",
        "-c",
        "%u:%g",
        "/bin/busybox",
        "/etc/passwd",
    ];
    let seen = infra.bench.daemon.ctr(&args).unwrap().success().unwrap().stdout;
    assert_eq!(seen, "0:0\n0:0\n");
    infra.bench.assert_nothing_left();
}
