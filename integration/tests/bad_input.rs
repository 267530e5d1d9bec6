//! Requests that are malformed, and a machine that has run out of something: a clear error in bounded time, with what,
//! why and what to do about it, and nothing left.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Release, Result, StreamPaths, child_named, on_each_containerd, parent_of,
    run, until,
};
use serde_json::{Value, json};

/// How long an answer may take on a loaded machine.
const BOUND: Duration = Duration::from_secs(60);

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

/// The text of an error that came in time and says what, why, and what to do.
#[track_caller]
fn clear<T: std::fmt::Debug>(case: &str, began: Instant, answer: Result<T>) -> String {
    let error = answer.expect_err(case).to_string();
    assert!(began.elapsed() < BOUND, "{case}: {:?}", began.elapsed());
    assert!(error.contains("fix: "), "{case}: what to do about it? {error}");
    assert!(error.len() < 1200, "{case}: {} bytes", error.len());
    error
}

/// A change of a spec.
type Edit = fn(&mut Value);

/// What is wrong, how to make it so, and what the error must name.
const SPECS: &[(&str, Edit, &str)] = &[
    ("no process", |spec| drop(spec.as_object_mut().unwrap().remove("process")), "process"),
    ("a process that is null", |spec| spec["process"] = Value::Null, "process"),
    ("no arguments", |spec| spec["process"]["args"] = json!([]), "process.args"),
    ("arguments that are text", |spec| spec["process"]["args"] = json!("x"), "expected a sequence"),
    ("no linux section", |spec| drop(spec.as_object_mut().unwrap().remove("linux")), "linux"),
    ("no root", |spec| drop(spec.as_object_mut().unwrap().remove("root")), "root"),
    ("another version", |spec| spec["ociVersion"] = json!("9.0.0"), "9.0.0"),
    ("a relative directory", |spec| spec["process"]["cwd"] = json!("tmp"), "process.cwd"),
    ("a directory above the root", |spec| spec["process"]["cwd"] = json!("/../../etc"), "process.cwd"),
    (
        "an unknown limit",
        |spec| spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_BOGUS", "hard": 1, "soft": 1 }]),
        "RLIMIT_BOGUS",
    ),
    (
        "a limit of three open files",
        |spec| spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 3, "soft": 3 }]),
        "process.rlimits",
    ),
    (
        "a limit that is given twice",
        |spec| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "hard": 9, "soft": 9 });
            spec["process"]["rlimits"] = json!([limit, limit]);
        },
        "RLIMIT_NOFILE twice",
    ),
    (
        "10 MB of annotations",
        |spec| spec["annotations"] = json!({ "a": "x".repeat(10 << 20) }),
        "4194304 bytes",
    ),
    ("3 MB of annotations", |spec| spec["annotations"] = json!({ "a": "x".repeat(3 << 20) }), "annotations"),
    (
        "a zero byte in an argument",
        |spec| spec["process"]["args"] = json!(["/bin/true", "a\0b"]),
        "process.args",
    ),
    ("a zero byte in the environment", |spec| spec["process"]["env"] = json!(["A=\0"]), "process.env"),
    ("a variable without a name", |spec| spec["process"]["env"] = json!(["=x"]), "process.env"),
    ("a zero byte in a host name", |spec| spec["hostname"] = json!("a\0b"), "hostname"),
    (
        "a zero byte in a masked path",
        |spec| spec["linux"]["maskedPaths"] = json!(["/proc/\0"]),
        "maskedPaths",
    ),
    (
        "a zero byte in a mount",
        |spec| {
            let mount = json!({ "destination": "/a\0b", "type": "tmpfs", "source": "tmpfs" });
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
        "destination",
    ),
    (
        "a control group above its own",
        |spec| spec["linux"]["cgroupsPath"] = json!("/a/../../b"),
        "/a/../../b",
    ),
    ("the root of all control groups", |spec| spec["linux"]["cgroupsPath"] = json!("/"), "cgroup path"),
    ("a zero byte in a control group", |spec| spec["linux"]["cgroupsPath"] = json!("/a\0b"), "cgroup path"),
    ("a negative user", |spec| spec["process"]["user"]["uid"] = json!(-1), "-1"),
    ("the user that is none", |spec| spec["process"]["user"]["uid"] = json!(u32::MAX), "process.user"),
    ("one byte of memory", |spec| spec["linux"]["resources"]["memory"] = json!({ "limit": 1 }), "memory"),
    (
        "an unknown namespace",
        |spec| spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "bogus" })),
        "bogus",
    ),
    (
        "a hundred thousand arguments",
        |spec| spec["process"]["args"] = json!(vec!["/bin/true"; 100_000]),
        "process.args",
    ),
    (
        "five thousand mounts",
        |spec| {
            let mount = |n| json!({ "destination": format!("/mnt/{n}"), "type": "tmpfs", "source": "tmpfs" });
            spec["mounts"].as_array_mut().unwrap().extend((0..5000).map(mount));
        },
        "mounts",
    ),
    ("a score that no kernel has", |spec| spec["process"]["oomScoreAdj"] = json!(5000), "oomScoreAdj"),
];

#[test]
fn a_spec_that_is_malformed_is_answered_with_what_why_and_fix_and_leaves_nothing() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let (runtime, config) = bench.daemon.runtime_with_config("swapped").unwrap();
    let id = bench.create_container(&runtime, ALLOWED, "bad", &["/bin/true"]).unwrap();
    let good = bench.daemon.spec(&id).unwrap();
    let rootfs = tasks.mounts(&id).unwrap();
    let create = |case: &str, bytes: &[u8], says: &str| {
        fs::write(&config, bytes).unwrap();
        let began = Instant::now();
        let error = clear(case, began, tasks.create(&id, rootfs.clone()));
        assert!(error.contains(says), "{case}: {says} is not named: {error}");
    };
    for (case, edit, says) in SPECS {
        let mut spec = good.clone();
        edit(&mut spec);
        create(case, spec.to_string().as_bytes(), says);
    }
    let text = good.to_string();
    create("an empty file", b"", "config.json");
    create("half of a spec", &text.as_bytes()[..text.len() / 2], "config.json");
    let mut bytes = text.clone().into_bytes();
    let at = text.find("/bin/true").unwrap();
    bytes[at + 1] = 0xff;
    create("a byte that is no UTF-8", &bytes, "config.json");
    let deep = [b"{\"annotations\":".as_slice(), &[b'['; 100_000], &[b']'; 100_000], b"}"].concat();
    create("brackets without end", &deep, "config.json");
    bench.assert_nothing_left();

    // The same container runs once its spec is whole.
    fs::write(&config, text).unwrap();
    tasks.create(&id, rootfs.clone()).unwrap();
    tasks.start(&id).unwrap();
    assert_eq!(tasks.wait(&id).unwrap(), 0);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

on_each_containerd! {
    fn an_exec_that_is_malformed_is_answered_with_what_why_and_fix_and_its_container_goes_on(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("host", &["/bin/sleep", "600"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let good = json!({ "user": { "uid": 65532, "gid": 65532 }, "args": ["/bin/true"], "env": [], "cwd": "/" });
        let cases: &[(&str, Edit, &str)] = &[
            ("no arguments", |process| process["args"] = json!([]), "process.args"),
            ("a zero byte", |process| process["args"] = json!(["/bin/true", "\0"]), "process.args"),
            ("a relative directory", |process| process["cwd"] = json!("tmp"), "process.cwd"),
            ("no directory", |process| drop(process.as_object_mut().unwrap().remove("cwd")), "cwd"),
            ("a variable without a name", |process| process["env"] = json!(["=x"]), "process.env"),
            (
                "an unknown limit",
                |process| process["rlimits"] = json!([{ "type": "RLIMIT_BOGUS", "hard": 1, "soft": 1 }]),
                "RLIMIT_BOGUS",
            ),
            ("a megabyte in one argument", |process| process["args"] = json!(["x".repeat(1 << 20)]), "process.args"),
        ];
        for (case, edit, says) in cases {
            let mut process = good.clone();
            edit(&mut process);
            let began = Instant::now();
            let error = clear(case, began, tasks.add_exec_raw(&id, "bad", process.to_string().into_bytes()));
            assert!(error.contains(says), "{case}: {error}");
        }
        let began = Instant::now();
        clear("no document", began, tasks.add_exec_raw(&id, "bad", Vec::new()));
        let mut bytes = good.to_string().into_bytes();
        let at = bytes.windows(9).position(|part| part == b"/bin/true").unwrap();
        bytes[at] = 0xff;
        clear("a byte that is no UTF-8", Instant::now(), tasks.add_exec_raw(&id, "bad", bytes));

        tasks.add_exec_raw(&id, "good", good.to_string().into_bytes()).unwrap();
        tasks.start_exec(&id, "good").unwrap();
        assert_eq!(tasks.wait_exec(&id, "good").unwrap(), 0);
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn a_bundle_that_vanishes_hinders_nothing_once_the_task_is_there_and_is_named_before(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let id = bench.create_container(BULKHEAD, ALLOWED, "bundle", &["/bin/sleep", "600"]).unwrap();
        let rootfs = tasks.mounts(&id).unwrap();
        // containerd itself needs the directory; what is in it can go at any step.
        let vanish = || {
            for entry in fs::read_dir(bench.daemon.bundle(&id)).unwrap().flatten() {
                if entry.path().is_file() {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        };
        tasks.create(&id, rootfs).unwrap();
        vanish();
        tasks.start(&id).unwrap();
        tasks.add_exec(&id, "e", &["/bin/probe", "exit", "3"], NO_STREAMS).unwrap();
        tasks.start_exec(&id, "e").unwrap();
        assert_eq!(tasks.wait_exec(&id, "e").unwrap(), 3);
        tasks.delete_exec(&id, "e").unwrap();
        tasks.kill(&id, 9, false).unwrap();
        assert_eq!(tasks.wait(&id).unwrap(), 137);
        tasks.delete(&id).unwrap();
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();

        // Before: config.json goes between `start` and Create.
        let shim = bench.daemon.shim().unwrap();
        let script = format!(
            "#!/bin/sh\nreply=$({} \"$@\") || exit 1\ncase \" $* \" in *' start '*) rm config.json ;; esac\nprintf %s \"$reply\"\n",
            shim.display()
        );
        let runtime = bench.daemon.runtime("gone", &script).unwrap();
        let id = bench.create_container(&runtime, ALLOWED, "gone", &["/bin/true"]).unwrap();
        let began = Instant::now();
        let error = clear("no config.json", began, tasks.create(&id, tasks.mounts(&id).unwrap()));
        assert!(error.contains("config.json") && error.contains("No such file"), "{error}");
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }
}

/// Descriptors of a process.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_server_at_its_limit_of_open_files_fails_each_call_and_does_them_all_again_when_it_has_some() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("files", &["/bin/sleep", "600"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let server = parent_of(tasks.state(&id, "").unwrap().pid).unwrap();
    let limit = |files: usize| {
        let nofile = format!("--nofile={files}:");
        let mut command = Command::new("prlimit");
        command.args(["--pid", &server.to_string(), &nofile]);
        run(&mut command, Duration::from_secs(60)).unwrap().success().unwrap();
    };
    let exec = |name: &str| {
        let done = tasks
            .add_exec(&id, name, &["/bin/true"], NO_STREAMS)
            .and_then(|()| tasks.start_exec(&id, name))
            .and_then(|_| tasks.wait_exec(&id, name));
        // Whatever came of it, it is gone.
        if tasks.delete_exec(&id, name).is_err() {
            assert!(done.is_err(), "{name} ran, and cannot be deleted");
        }
        done
    };
    exec("first").unwrap();
    // Those of a call close a moment after its answer: as many as there are again and again.
    let (mut before, mut again) = (descriptors(server), 0);
    until("descriptors that stay", BOUND, || {
        let now = descriptors(server);
        again = if now == before { again + 1 } else { 0 };
        before = now;
        Ok(again == 20)
    })
    .unwrap();
    let mut failed = 0;
    for spare in 0..12 {
        limit(before + spare);
        let began = Instant::now();
        match exec(&format!("with{spare}")) {
            Ok(status) => assert_eq!(status, 0),
            failure => {
                let error = clear(&format!("{spare} descriptors"), began, failure);
                assert!(error.contains("open files"), "{spare}: {error}");
                failed += 1;
            }
        }
        assert_eq!(tasks.state(&id, "").unwrap().status, "RUNNING");
    }
    assert!(failed > 2, "only {failed} of 12 were too few");
    limit(1024);
    assert_eq!(exec("last").unwrap(), 0);
    // Those of the last call close a moment after its answer.
    let closed = || Ok(descriptors(server) <= before);
    until("the descriptors of all calls are closed", BOUND, closed).unwrap();
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn a_full_disk_fails_the_create_and_leaves_nothing_on_it() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    // Runs once, so that the image is judged and the directories are there.
    bench.run("first", &["/bin/true"]).unwrap().success().unwrap();
    let dir = bench.daemon.bulkhead_root().join("run/bulkhead/tasks");
    let inside = |program: &str, args: &[&str]| {
        let mut command = bench.daemon.inside(Path::new(program));
        run(command.args(args), Duration::from_secs(60)).unwrap().success().unwrap()
    };
    let dir = dir.to_str().unwrap();
    let mut failed = 0;
    // How much room there is decides at which step it ends.
    for inodes in 2..24 {
        let options = format!("nr_inodes={inodes},size=16k");
        inside("/bin/mount", &["-t", "tmpfs", "-o", &options, "tmpfs", dir]);
        let began = Instant::now();
        let name = format!("full{inodes}");
        let output = bench.run(&name, &["/bin/true"]).unwrap();
        assert!(began.elapsed() < BOUND);
        if !output.ok() {
            failed += 1;
            let error = &output.stderr;
            assert!(error.contains("fix: free space"), "{inodes} inodes: {error}");
            drop(bench.daemon.ctr(&["task", "delete", "-f", &bench.daemon.id(&name)]));
            drop(bench.daemon.ctr(&["container", "delete", &bench.daemon.id(&name)]));
        }
        // find(1) fails where a file goes while it looks.
        let mut left = String::new();
        until("a look at the disk", BOUND, || {
            let mut find = bench.daemon.inside(Path::new("/usr/bin/find"));
            let found = run(find.args([dir, "-mindepth", "2"]), BOUND)?;
            left.clone_from(&found.stdout);
            Ok(found.ok())
        })
        .unwrap();
        assert_eq!(left, "", "{inodes} inodes: {error}", error = output.stderr);
        // Whoever ends has it open until then.
        until("the disk to be nobody's", BOUND, || {
            let mut umount = bench.daemon.inside(Path::new("/bin/umount"));
            Ok(run(umount.arg(dir), Duration::from_secs(60))?.ok())
        })
        .unwrap();
    }
    assert!(failed > 2, "only {failed} were too few");
    bench.run("last", &["/bin/true"]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}

/// A group of the pids controller.
struct Pids(std::path::PathBuf);

impl Pids {
    fn new(name: &str) -> Self {
        let dir = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|root| Path::new(root).join(name));
        let [v1, v2] = dir;
        let dir = if v1.parent().unwrap().exists() { v1 } else { v2 };
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    /// Also in the other hierarchies: what is above a container's group is made where it is not.
    fn remove(&self) {
        let name = self.0.file_name().unwrap();
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(name));
        for dir in hierarchies.chain([self.0.clone()]).filter(|dir| dir.exists()) {
            until("an empty group", Duration::from_secs(60), || Ok(fs::remove_dir(&dir).is_ok())).unwrap();
        }
    }

    fn current(&self) -> u32 {
        fs::read_to_string(self.0.join("pids.current")).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

#[test]
fn a_full_pids_cgroup_of_the_shim_fails_the_exec_and_a_full_one_above_a_container_its_create() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("pids", &["/bin/sleep", "600"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let server = parent_of(tasks.state(&id, "").unwrap().pid).unwrap();
    let zygote = child_named(server, "bulkhead-zygote").unwrap();
    let full = Pids::new(&format!("{}-full", bench.daemon.tag()));
    for pid in [zygote, server] {
        full.write("cgroup.procs", &pid.to_string());
    }
    full.write("pids.max", &full.current().to_string());
    let began = Instant::now();
    let output = bench.exec(&id, &["/bin/true"]).unwrap();
    assert!(began.elapsed() < BOUND && !output.ok());
    let error = &output.stderr;
    assert!(error.contains("clone(2)") && error.contains("fix: raise pids.max"), "{error}");
    full.write("pids.max", "max");
    bench.exec(&id, &["/bin/true"]).unwrap().success().unwrap();
    bench.remove(&id).unwrap();

    let parent = Pids::new(&format!("{}-parent", bench.daemon.tag()));
    for room in 1..6 {
        parent.write("pids.max", &room.to_string());
        let id = bench.create_container(BULKHEAD, ALLOWED, &format!("room{room}"), &["/bin/true"]).unwrap();
        let path = format!("/{}-parent/{id}", bench.daemon.tag());
        bench.daemon.edit_spec(&id, |spec| spec["linux"]["cgroupsPath"] = json!(path)).unwrap();
        let began = Instant::now();
        let answer = tasks.create(&id, tasks.mounts(&id).unwrap());
        if room == 1 || answer.is_err() {
            clear(&format!("room for {room}"), began, answer);
        } else {
            tasks.delete(&id).unwrap();
        }
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        assert_eq!(
            fs::read_dir(&parent.0).unwrap().flatten().filter(|entry| entry.path().is_dir()).count(),
            0
        );
    }
    drop((full, parent));
    bench.assert_nothing_left();
}
