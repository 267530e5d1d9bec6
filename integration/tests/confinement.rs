//! What a container can do: read from inside, and tried. Each attempt first succeeds under runc.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{process::Command, thread, time::Duration};

use bulkhead_integration::{
    ALLOWED, Answers, BULKHEAD, Bench, ContainerOptions, Cri, RUNC, Release, heard, on_each_containerd,
    on_each_cri, run, until,
};

/// Attempts that succeed for an unprivileged user under runc, and the answer that Bulkhead's kernel gives.
const ATTEMPTS: &[(&str, &[&str])] = &[
    // A directory of the image that anybody may write.
    ("write:/open/file", &["EROFS"]),
    ("create:/open/new", &["EROFS"]),
    ("mkdir:/open/dir", &["EROFS"]),
    // A dropped binary, from disk, from memory, and mapped. (runc's /dev/shm is noexec already.)
    ("run-dropped:/tmp/dropped", &["EACCES"]),
    ("run-dropped:/var/tmp/dropped", &["EACCES"]),
    ("map-exec:/tmp/mapped", &["EPERM", "EACCES"]),
    ("run-memfd", &["ENOSYS", "EPERM"]),
    ("memfd", &["ENOSYS", "EPERM"]),
    // Doors into the kernel that no tenant needs.
    ("userns", &["EPERM", "ENOSYS"]),
    ("io_uring", &["ENOSYS"]),
    ("userfaultfd", &["ENOSYS", "EPERM"]),
    ("keyctl", &["ENOSYS", "EPERM"]),
    ("ptrace", &["EPERM", "ENOSYS"]),
    ("personality", &["EPERM", "ENOSYS"]),
    ("af_vsock", &["EPERM", "EAFNOSUPPORT", "ENOSYS"]),
    ("mptcp", &["EPERM", "EPROTONOSUPPORT", "EAFNOSUPPORT"]),
];

/// What an ordinary program does, and must go on doing.
const ORDINARY: &[&str] = &[
    "write:/tmp/file",
    "write:/dev/shm/file",
    "fork",
    "tcp",
    "netlink",
    "signal-init",
    "list:/",
    "read:/etc/passwd",
];

const CANARY: &str = "read:/dev/.bulkhead-canary";

fn try_all() -> Vec<&'static str> {
    let mut words = vec!["try"];
    words.extend(ATTEMPTS.iter().map(|(name, _)| *name));
    words.extend(ORDINARY);
    words.push(CANARY);
    words
}

fn assert_stopped(answers: &Answers, phase: &str) {
    for (name, expected) in ATTEMPTS {
        assert!(expected.contains(&answers.get(name)), "{phase}: {name} gave {:?}", answers.get(name));
    }
    for name in ORDINARY {
        assert_eq!(answers.get(name), "done", "{phase}: {name}");
    }
    // The file that the runtime made outside of the ruleset, mode 0444: Landlock holds.
    assert_eq!(answers.get(CANARY), "EACCES", "{phase}: {CANARY}");
}

fn assert_confined(facts: &Answers, phase: &str) {
    for (name, value) in [
        ("Uid", "65532 65532 65532 65532"),
        ("Gid", "65532 65532 65532 65532"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        // Not 0: that still starts a program that core_pattern pipes to; core(5).
        ("Max core file size", "1 1"),
        ("fds", ""),
    ] {
        assert_eq!(facts.get(name), value, "{phase}: {name}");
    }
    let groups = facts.get("Groups");
    assert!(["", "65532"].contains(&groups), "{phase}: groups {groups}");
    let has = |mount: &str, options: &[&str]| {
        let found: Vec<&str> = facts.get(&format!("mount {mount}")).split([' ', ',']).collect();
        for option in options {
            assert!(found.contains(option), "{phase}: {mount} is not {option}: {found:?}");
        }
    };
    has("/", &["ro", "nosuid", "nodev"]);
    for mount in ["/tmp", "/var/tmp", "/run", "/dev/shm"] {
        has(mount, &["rw", "nosuid", "nodev", "noexec", "tmpfs"]);
    }
    // Every mount that can be written is one of those, or a kernel file system without files to run.
    for (point, options) in facts.all("mount ") {
        let words: Vec<&str> = options.split([' ', ',']).collect();
        let kernel = ["proc", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"]
            .iter()
            .any(|kind| words.contains(kind));
        if words[0] == "rw" && !kernel {
            assert!(words.contains(&"nosuid"), "{phase}: {point} {options}");
            assert!(words.contains(&"noexec"), "{phase}: {point} {options}");
        }
    }
    let devices =
        ".bulkhead-canary core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    for device in facts.get("dev").split(' ') {
        assert!(devices.split(' ').any(|known| known == device), "{phase}: /dev/{device}");
    }
}

on_each_containerd! {
    fn init_and_exec_have_no_id_capability_or_writable_code_that_their_image_does_not_need(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let under_runc = bench.probe(RUNC, &["facts"]).unwrap();
        assert_eq!(under_runc.get("Seccomp"), "0");
        assert_ne!(under_runc.get("CapBnd"), "0000000000000000");
        assert!(under_runc.get("mount /").starts_with("rw"));

        assert_confined(&bench.probe(BULKHEAD, &["facts"]).unwrap(), "init");
        let id = bench.start_task("exec", &["/bin/probe", "pause"]).unwrap();
        assert_confined(&bench.probe_exec(&id, &["facts"]).unwrap(), "exec");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn what_succeeds_under_runc_is_stopped_for_init_and_for_exec(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let words = try_all();
        let answers = bench.probe(RUNC, &words).unwrap();
        for (name, _) in ATTEMPTS {
            assert_eq!(answers.get(name), "done", "{name} must succeed where nothing forbids it");
        }
        assert_stopped(&bench.probe(BULKHEAD, &words).unwrap(), "init");
        let id = bench.start_task("exec", &["/bin/probe", "pause"]).unwrap();
        assert_stopped(&bench.probe_exec(&id, &words).unwrap(), "exec");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    /// Mode 0777 and mounted read-write by root, but not in the plan: Landlock alone stands before it.
    fn a_writable_mount_outside_the_ruleset_is_closed_for_init_and_for_exec(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let command = ["/bin/probe", "wait-file", "/mnt/go", "/bin/probe", "try", "write:/mnt/file", "write:/tmp/file"];
        let outcomes = |runtime: &str, name: &str| {
            let id = bench.daemon.id(name);
            let init = heard(runtime, || thread::scope(|scope| {
                let run = scope.spawn(|| bench.run_under(runtime, name, &[], &command));
                until("the start of the task", Duration::from_secs(60), || {
                    Ok(bench.daemon.ctr(&["task", "ls"])?.stdout.contains("RUNNING"))
                })
                .unwrap();
                mount_inside(&bench, &id, "/mnt");
                Ok(run.join().unwrap()?.success()?.stdout)
            }));
            let init = Answers::read(&init.unwrap()).unwrap();

            let id = bench.start_task_under(runtime, &format!("{name}-exec"), &["/bin/probe", "pause"]).unwrap();
            mount_inside(&bench, &id, "/mnt");
            let exec = bench.probe_exec_under(runtime, &id, &command[4..]).unwrap();
            bench.remove(&id).unwrap();
            [init, exec]
        };
        for answers in outcomes(RUNC, "runc") {
            assert_eq!((answers.get("write:/mnt/file"), answers.get("write:/tmp/file")), ("done", "done"));
        }
        for answers in outcomes(BULKHEAD, "bulkhead") {
            assert_eq!((answers.get("write:/mnt/file"), answers.get("write:/tmp/file")), ("EACCES", "done"));
        }
        bench.assert_nothing_left();
    }
}

/// Mounts an open tmpfs into a running container, as a mistaken or broken runtime might.
fn mount_inside(bench: &Bench, id: &str, at: &str) {
    let pids = bench.daemon.ctr(&["task", "ls"]).unwrap().success().unwrap().stdout;
    let line = pids.lines().find(|line| line.starts_with(id)).unwrap();
    let pid = line.split_whitespace().nth(1).unwrap();
    let script = format!("mount -t tmpfs -o mode=0777 open {at} && touch {at}/go");
    let namespace = format!("--mount=/proc/{pid}/ns/mnt");
    run(Command::new("nsenter").args([&namespace, "/bin/sh", "-c", &script]), Duration::from_secs(60))
        .unwrap()
        .success()
        .unwrap();
}

on_each_cri! {
    fn a_restricted_pod_gets_the_same_confinement(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "facts").unwrap();
        let mut command = vec!["/bin/probe"];
        let facts = ContainerOptions::restricted("facts", ALLOWED, &["/bin/probe", "facts"]);
        let facts = pods.launch(&pod, &facts).unwrap();
        assert_eq!(pods.wait(&facts).unwrap(), 0);
        let facts = Answers::read(&pods.output(&pod, "facts").unwrap()).unwrap();
        for (name, value) in [("CapBnd", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
            assert_eq!(facts.get(name), value);
        }
        let words = try_all();
        command.extend(&words);
        let tries = pods.launch(&pod, &ContainerOptions::restricted("tries", ALLOWED, &command)).unwrap();
        assert_eq!(pods.wait(&tries).unwrap(), 0);
        assert_stopped(&Answers::read(&pods.output(&pod, "tries").unwrap()).unwrap(), "init");
        let sleeper = ContainerOptions::restricted("sleeper", ALLOWED, &["/bin/probe", "pause"]);
        let sleeper = pods.launch(&pod, &sleeper).unwrap();
        let executed = pods.exec(&sleeper, &command).unwrap();
        assert_stopped(&Answers::read(&executed.stdout).unwrap(), "exec");
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }
}

#[test]
fn memfd_and_a_writable_root_come_back_where_policy_says_so() {
    let bench = Bench::start(Release::V1_7, Cri::Off).unwrap();
    let words = ["try", "memfd", "write:/open/file", "userns"];
    let denied = bench.probe(BULKHEAD, &words).unwrap();
    assert!(denied.get("memfd") != "done" && denied.get("write:/open/file") == "EROFS");
    bench.allow("memfd = \"allowed\"\nroot = \"writable\"").unwrap();
    let allowed = bench.probe(BULKHEAD, &words).unwrap();
    assert_eq!((allowed.get("memfd"), allowed.get("write:/open/file")), ("done", "done"));
    assert_ne!(allowed.get("userns"), "done");
    bench.assert_nothing_left();
}

#[test]
fn the_shims_own_executable_cannot_be_opened_for_writing_from_a_container() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let before = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/containerd-shim-bulkhead-v2"),
    );
    // The classic: an image whose program is the runtime's own /proc/self/exe, run by init and by exec.
    let id = bench.start_task("self", &["/bin/probe", "pause"]).unwrap();
    for command in [["/proc/self/exe", "try", "self-exe"], ["/bin/probe", "try", "parent-exe"]] {
        let output = bench.exec(&id, &command).unwrap();
        assert!(!output.stdout.contains("done"), "{output:?}");
    }
    let output = bench.run("init", &["/proc/self/exe", "try", "self-exe"]).unwrap();
    assert!(!output.stdout.contains("done"), "{output:?}");
    bench.remove(&id).unwrap();
    let after = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/containerd-shim-bulkhead-v2"),
    );
    assert_eq!(before.unwrap(), after.unwrap());
    bench.assert_nothing_left();
}
