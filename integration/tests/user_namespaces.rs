//! User namespaces: whose ids a pod has on the node, what its mounts show, and that no two pods share one.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, ContainerOptions, Cri, RUNC, Refused, Release, UID, heard, namespaces,
    on_each_containerd, until,
};
use k8s_cri::v1::{IdMapping, NamespaceMode, UserNamespace};
use serde_json::json;

const SHIFTED: &str = "exec = [\"*\"]\nuser_namespace = \"shifted\"";
const FIRST_OF_NODE: u32 = 0x7000_0000;
const PAUSE: [&str; 2] = ["/bin/probe", "pause"];

/// `/proc/PID/uid_map`, as the node sees it.
fn map_of(pid: u32, name: &str) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// The uid that the node knows a process by.
fn uid_of(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/task")).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn pid_of(bench: &Bench, id: &str) -> u32 {
    let list = bench.daemon.ctr(&["task", "list"]).unwrap().success().unwrap().stdout;
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(id)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn ranges(bench: &Bench) -> BTreeSet<String> {
    let dir = bench.daemon.bulkhead_root().join("run/bulkhead/ids");
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn no_range_is_left(bench: &Bench) {
    until("the ranges are given back", Duration::from_secs(60), || Ok(ranges(bench).is_empty())).unwrap();
}

/// A directory of the node's that policy may name, with a file of root's and one of the container's user.
fn volume(bench: &Bench) -> PathBuf {
    let dir = bench.daemon.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    for (name, owner) in [("roots", 0), ("own", UID)] {
        fs::write(dir.join(name), "x").unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        chown(dir.join(name), Some(owner), Some(owner)).unwrap();
    }
    dir
}

fn with_volume(mode: &str, dir: &Path) -> String {
    format!(
        "exec = [\"*\"]\nuser_namespace = {mode:?}\nhost_paths = [{{ path = {:?}, access = \"read-write\" }}]",
        dir.display().to_string()
    )
}

fn mount_option(dir: &Path) -> String {
    format!("type=bind,src={},dst=/data,options=rbind:rw", dir.display())
}

on_each_containerd! {
    fn shifted_container_has_ids_that_are_nobodys_on_the_node_and_sees_its_own(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let node = bench.start_task("node", &PAUSE).unwrap();
        assert_eq!(uid_of(pid_of(&bench, &node)), UID);
        bench.remove(&node).unwrap();
        assert!(ranges(&bench).is_empty());

        bench.allow(SHIFTED).unwrap();
        let id = bench.start_task("shifted", &PAUSE).unwrap();
        let pid = pid_of(&bench, &id);
        for name in ["uid_map", "gid_map"] {
            assert_eq!(map_of(pid, name), [0, FIRST_OF_NODE, 65_536]);
        }
        assert_eq!(uid_of(pid), FIRST_OF_NODE + UID);
        let facts = bench.probe_exec(&id, &["facts"]).unwrap();
        let own = format!("{UID} {UID} {UID} {UID}");
        assert_eq!((facts.get("Uid"), facts.get("Gid"), facts.get("CapBnd")), (&*own, &*own, "0000000000000000"));
        // Files of the image are root's, those of its tmpfs the container's: nothing is nobody's.
        let seen = "stat -c %u /bin/busybox /etc/passwd / /tmp; touch /tmp/mine; stat -c %u /tmp/mine";
        let seen = bench.exec(&id, &["/bin/sh", "-c", seen]).unwrap().success().unwrap().stdout;
        let seen: Vec<&str> = seen.split_whitespace().collect();
        assert_eq!((&seen[..3], seen.last().unwrap().parse()), (&["0", "0", "0"][..], Ok(UID)), "{seen:?}");
        bench.remove(&id).unwrap();
        assert!(ranges(&bench).is_empty(), "delete gives the range back before it answers");
        bench.assert_nothing_left();
    }
}

#[test]
fn shifted_container_is_confined_as_others_are_and_its_root_has_no_power_over_its_namespaces() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(SHIFTED).unwrap();
    let words = [
        "try",
        "userns",
        "write:/bin/file",
        "run-dropped:/tmp/x",
        "memfd",
        "write:/tmp/file",
        "fork",
        "tcp",
        "signal-init",
        "read:/etc/passwd",
        "read:/dev/.bulkhead-canary",
    ];
    let answers = bench.probe(BULKHEAD, &words).unwrap();
    for (word, expected) in [
        ("userns", "EPERM"),
        ("write:/bin/file", "EROFS"),
        ("run-dropped:/tmp/x", "EACCES"),
        ("memfd", "ENOSYS"),
        ("write:/tmp/file", "done"),
        ("fork", "done"),
        ("tcp", "done"),
        ("signal-init", "done"),
        ("read:/etc/passwd", "done"),
        ("read:/dev/.bulkhead-canary", "EACCES"),
    ] {
        assert_eq!(answers.get(word), expected, "{word}");
    }
    let id = bench.start_task("own", &PAUSE).unwrap();
    let pid = pid_of(&bench, &id);
    // lsns walks all of /proc and fails where any process ends meanwhile (ESRCH): then it is asked again.
    let mut owners = String::new();
    until("lsns to answer", Duration::from_secs(60), || {
        let of = Command::new("lsns")
            .args(["-n", "-r", "-o", "TYPE,ONS", "-p", &pid.to_string()])
            .output()
            .unwrap();
        owners = String::from_utf8_lossy(&of.stdout).into_owned();
        Ok(of.status.success())
    })
    .unwrap();
    let owner = |name: &str| {
        let row = owners.lines().find_map(|row| row.strip_prefix(name)?.strip_prefix(' '));
        row.unwrap_or_else(|| panic!("no {name} in {owners}"))
    };
    let node = fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy().into_owned();
    assert_ne!(fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().to_string_lossy(), node);
    for name in ["net", "ipc", "uts", "mnt", "pid", "cgroup"] {
        assert_eq!(format!("user:[{}]", owner(name)), node, "{name}");
    }
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn two_pods_never_share_a_range_and_a_range_that_was_given_back_is_taken_again() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(SHIFTED).unwrap();
    let ids: Vec<String> = (0..3).map(|n| bench.start_task(&format!("c{n}"), &PAUSE).unwrap()).collect();
    let firsts: BTreeSet<u32> = ids.iter().map(|id| map_of(pid_of(&bench, id), "uid_map")[1]).collect();
    assert_eq!(firsts, (0..3).map(|n| FIRST_OF_NODE + n * 65_536).collect());
    bench.remove(&ids[1]).unwrap();
    let again = bench.start_task("again", &PAUSE).unwrap();
    assert_eq!(map_of(pid_of(&bench, &again), "uid_map")[1], FIRST_OF_NODE + 65_536);
    for id in [&ids[0], &ids[2], &again] {
        bench.remove(id).unwrap();
    }
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

#[test]
fn server_that_is_killed_and_create_that_fails_give_the_range_back() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(SHIFTED).unwrap();
    assert!(!bench.run("no-such", &["/bin/no-such-program"]).unwrap().ok());
    no_range_is_left(&bench);

    let id = bench.start_task("crash", &PAUSE).unwrap();
    assert_eq!(ranges(&bench).len(), 1);
    let status = fs::read_to_string(format!("/proc/{}/status", pid_of(&bench, &id))).unwrap();
    let server: i32 =
        status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    assert!(Command::new("kill").args(["-9", &server.to_string()]).status().unwrap().success());
    no_range_is_left(&bench);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn volume_shows_a_shifted_container_its_own_ids_and_keeps_them_and_roots_files_stay_closed() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = volume(&bench);
    let mount = mount_option(&dir);
    let script = "cat /data/own && echo && ! cat /data/roots && stat -c %u /data/own /data/roots && echo y > /data/new && \
                  ln /data/own /data/link";
    for mode in ["shifted", "request", "root-only"] {
        bench.allow(&with_volume(mode, &dir)).unwrap();
        let ran = bench
            .run_with(mode, &["--mount", &mount], &["/bin/sh", "-c", script])
            .unwrap()
            .success()
            .unwrap();
        // To a container whose root is another, the node's root is nobody it knows.
        let root = if mode == "root-only" { "65534" } else { "0" };
        assert_eq!(
            ran.stdout.split_whitespace().collect::<Vec<_>>(),
            ["x", &UID.to_string(), root],
            "{mode}"
        );
        let made = fs::metadata(dir.join("new")).unwrap();
        assert_eq!((made.uid(), made.gid()), (UID, UID), "{mode}: what is kept is of the container's own id");
        fs::remove_file(dir.join("new")).unwrap();
        fs::remove_file(dir.join("link")).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn volume_that_cannot_be_id_mapped_is_refused_by_name_and_root_only_takes_it() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    // The kernel has no id-mapped mounts of sysfs.
    let dir = Path::new("/sys/kernel/mm");
    let mount = format!("type=bind,src={},dst=/data,options=rbind:ro", dir.display());
    let run = |mode: &str| {
        let path = format!("exec = [\"*\"]\nuser_namespace = {mode:?}\nhost_paths = [{{ path = {dir:?} }}]");
        bench.allow(&path).unwrap();
        bench.run_with(mode, &["--mount", &mount], &["/bin/ls", "/data"]).unwrap()
    };
    let shifted = run("shifted");
    assert!(!shifted.ok());
    for word in ["/sys/kernel/mm on /data", "shifted owners", "root-only"] {
        assert!(shifted.stderr.contains(word), "{word}: {}", shifted.stderr);
    }
    run("root-only").success().unwrap();
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

#[test]
fn root_only_leaves_every_id_but_roots_as_it_is() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow("exec = [\"*\"]\nuser_namespace = \"root-only\"").unwrap();
    let id = bench.start_task("root-only", &PAUSE).unwrap();
    let pid = pid_of(&bench, &id);
    let map = map_of(pid, "uid_map");
    assert_eq!((&map[..4], map.len()), (&[0, FIRST_OF_NODE, 1, 1][..], 9));
    assert_eq!(uid_of(pid), UID);
    let facts = bench.probe_exec(&id, &["facts"]).unwrap();
    assert_eq!(facts.get("Uid"), format!("{UID} {UID} {UID} {UID}"));
    bench.remove(&id).unwrap();
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

#[test]
fn writable_root_of_a_shifted_container_keeps_its_own_ids_from_one_range_to_the_next() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(&format!("{SHIFTED}\nroot = \"writable\"")).unwrap();
    let script = "stat -c %u:%a /open && echo mine >> /open/kept && stat -c %u /open/kept && cat /open/kept";
    let id = bench.create_container(BULKHEAD, ALLOWED, "writable", &["/bin/sh", "-c", script]).unwrap();
    let run = || {
        let output = bench.start_container(&id).unwrap().success().unwrap().stdout;
        bench.daemon.ctr(&["task", "delete", &id]).unwrap();
        output
    };
    assert_eq!(run().split_whitespace().skip(1).collect::<Vec<_>>(), [&UID.to_string(), "mine"]);
    // Another has its range by now.
    let other = bench.start_task("other", &PAUSE).unwrap();
    assert_eq!(run().split_whitespace().skip(1).collect::<Vec<_>>(), [&UID.to_string(), "mine", "mine"]);
    bench.remove(&other).unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}

#[test]
fn request_that_maps_its_root_to_the_nodes_is_refused_and_one_with_a_range_of_its_own_runs() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let command = ["/bin/cat", "/proc/self/uid_map"];
    let start = |name: &str, outside: u32, count: u32| {
        let id = bench.create_container(BULKHEAD, ALLOWED, name, &command).unwrap();
        let map = json!([{ "containerID": 0, "hostID": outside, "size": count }]);
        let edit = |spec: &mut serde_json::Value| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map.clone();
        };
        bench.daemon.edit_spec(&id, edit).unwrap();
        let output = bench.start_container(&id).unwrap();
        bench.daemon.ctr(&["task", "delete", &id]).unwrap();
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        output
    };
    for (outside, count) in
        [(0, 65_536), (0, 4_294_967_295), (1000, 65_536), (0xffff_0000, 65_536), (65_536, 1)]
    {
        let refused = Refused::of(start(&format!("no-{outside}-{count}"), outside, count)).unwrap();
        assert_eq!(refused.rule(), "namespaces", "{}", refused.line());
    }
    let ran = start("yes", 131_072, 65_536).success().unwrap().stdout;
    assert_eq!(ran.split_whitespace().collect::<Vec<_>>(), ["0", "131072", "65536"]);
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

/// `hostUsers: false`, as the kubelet says it.
fn with_users(outside: u32) -> k8s_cri::v1::NamespaceOption {
    let map = vec![IdMapping { host_id: outside, container_id: 0, length: 65_536 }];
    k8s_cri::v1::NamespaceOption {
        userns_options: Some(UserNamespace { mode: NamespaceMode::Pod.into(), uids: map.clone(), gids: map }),
        ..namespaces()
    }
}

#[test]
fn pod_without_the_nodes_users_has_the_kubelets_range_and_its_containers_share_it() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run_in("bulkhead", "team-a", "users", with_users(131_072)).unwrap();
    let launch = |name: &str| {
        let mut options = ContainerOptions::restricted(name, ALLOWED, &PAUSE);
        options.security.namespace_options = Some(with_users(131_072));
        pods.launch(&pod, &options).unwrap()
    };
    let (one, two) = (launch("one"), launch("two"));
    for id in [&one, &two] {
        let map = pods.exec(id, &["/bin/cat", "/proc/self/uid_map"]).unwrap();
        assert_eq!(
            map.stdout.split_whitespace().collect::<Vec<_>>(),
            ["0", "131072", "65536"],
            "{}",
            map.stderr
        );
    }
    let namespace = |id: &str| pods.exec(id, &["/bin/readlink", "/proc/self/ns/user"]).unwrap().stdout;
    assert_eq!(namespace(&one), namespace(&two));
    assert_ne!(namespace(&one).trim(), fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy());
    // Files of the image and the pod's own are root's in there, too.
    let seen = pods.exec(&one, &["/bin/stat", "-c", "%u", "/bin/busybox", "/etc/hosts"]).unwrap().stdout;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "0"]);
    // The same ids for another pod: the kubelet's mistake, or somebody else's.
    let second = pods.run_in("bulkhead", "team-a", "same", with_users(131_072));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("belong to another pod"), "{error}");
    for id in [&one, &two] {
        pods.stop(id, 0).unwrap();
        pods.remove(id).unwrap();
    }
    assert_eq!(ranges(&bench), ["2".to_owned()].into());
    pods.remove_pod(&pod).unwrap();
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

#[test]
fn container_whose_policy_shifts_ids_is_refused_in_a_pod_whose_sandbox_has_the_nodes() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let options = ContainerOptions::restricted("app", ALLOWED, &PAUSE);
    bench.allow(SHIFTED).unwrap();
    let pod = pods.run("bulkhead", "team-a", "mixed").unwrap();
    let error = pods.launch(&pod, &options).unwrap_err().to_string();
    assert!(error.contains("user_namespace") && error.contains("pause"), "{error}");
    pods.remove_pod(&pod).unwrap();

    bench.allow_pods(SHIFTED).unwrap();
    let pod = pods.run("bulkhead", "team-a", "shifted").unwrap();
    let id = pods.launch(&pod, &options).unwrap();
    let map = pods.exec(&id, &["/bin/cat", "/proc/self/uid_map"]).unwrap().stdout;
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1879048192", "65536"]);
    pods.stop(&id, 0).unwrap();
    pods.remove_pod(&pod).unwrap();
    no_range_is_left(&bench);
    bench.assert_nothing_left();
}

#[test]
fn terminal_of_a_shifted_container_is_its_users() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(SHIFTED).unwrap();
    let script = "tty && stat -c owner=%u $(tty) && echo written > $(tty)";
    let run = |runtime: &str, name: &str| {
        let id = bench.daemon.id(name);
        let args = ["run", "--rm", "-t", "--runtime", runtime, ALLOWED, &id, "/bin/sh", "-c", script];
        heard(runtime, || Ok(bench.daemon.ctr_on_terminal(&args)?.success()?.stdout)).unwrap()
    };
    for (runtime, name) in [(RUNC, "runc"), (BULKHEAD, "ours")] {
        let output = run(runtime, name);
        assert!(
            output.contains(&format!("owner={UID}")) && output.contains("written"),
            "{runtime}: {output}"
        );
    }
    let id = bench.start_task("exec", &PAUSE).unwrap();
    let args = ["task", "exec", "-t", "--exec-id", "t", &id, "/bin/sh", "-c", script];
    let output = bench.daemon.ctr_on_terminal(&args).unwrap().success().unwrap().stdout;
    assert!(output.contains(&format!("owner={UID}")) && output.contains("written"), "{output}");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}
