//! What policy gives a program so that it lives as it is used to: a small init, volumes that its image declares, and of
//! the person who execs into it no more than was allowed.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, ContainerOptions, Cri, Entry, Image, Layer, RUNC, Refused, Release, UID,
    bulkhead_dir, namespaces, on_each_cri, run, until,
};
use k8s_cri::v1::NamespaceMode;

const INIT: &str = "init = true\nexec = [\"*\"]";

/// State and pid of each process that a container sees, `ps` itself left out.
const PROCESSES: &[&str] = &["/bin/sh", "-c", "ps -o pid,stat,comm | grep -v -e ps -e grep -e COMMAND"];

/// Processes of a container that have ended and that nobody has waited for.
fn zombies(bench: &Bench, id: &str) -> usize {
    let seen = bench.exec(id, PROCESSES).unwrap().stdout;
    seen.lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|state| state.starts_with('Z')))
        .count()
}

fn status_of(bench: &Bench, id: &str) -> String {
    let tasks = bench.daemon.ctr(&["task", "ls"]).unwrap().success().unwrap().stdout;
    let line = tasks.lines().find(|line| line.starts_with(id)).unwrap_or_default().to_owned();
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

#[test]
fn small_init_ends_a_program_that_has_no_handler_and_waits_for_orphans_and_without_it_neither_happens() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let orphan = ["/bin/sh", "-c", "(sleep 0.05 &)"];
    for (name, keys) in [("without", "exec = [\"*\"]"), ("with", INIT)] {
        bench.allow(keys).unwrap();
        let id = bench.start_task(name, &["/bin/sleep", "600"]).unwrap();
        bench.exec(&id, &orphan).unwrap().success().unwrap();
        let seen = bench.exec(&id, PROCESSES).unwrap().stdout;
        assert_eq!(seen.contains("bulkhead-init"), name == "with", "{seen}");
        if name == "with" {
            until("the orphan is waited for", Duration::from_secs(60), || Ok(zombies(&bench, &id) == 0))
                .unwrap();
            let tasks = bench.daemon.tasks().unwrap();
            bench.daemon.ctr(&["task", "kill", "-s", "SIGTERM", &id]).unwrap().success().unwrap();
            assert_eq!(tasks.wait(&id).unwrap(), 128 + 15);
        } else {
            until("the orphan is left", Duration::from_secs(60), || Ok(zombies(&bench, &id) == 1)).unwrap();
            bench.daemon.ctr(&["task", "kill", "-s", "SIGTERM", &id]).unwrap().success().unwrap();
            // The kernel has dropped the signal by the time that kill(2) came back.
            assert_eq!(status_of(&bench, &id), "RUNNING");
        }
        bench.remove(&id).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn small_init_ends_as_its_program_does_and_a_program_that_is_not_there_is_an_error_of_start() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    // What kills another process process 1 does not hear.
    for (command, codes) in [
        ("exit 7", [7, 7]),
        ("kill -9 $$; exit 4", [4, 137]),
        ("trap 'exit 3' USR1; kill -USR1 $$; exit 4", [3, 3]),
    ] {
        for (keys, code) in ["", "init = true"].into_iter().zip(codes) {
            bench.allow(keys).unwrap();
            let output = bench.run("ends", &["/bin/sh", "-c", command]).unwrap();
            assert_eq!(output.code(), code, "{keys}: {command}: {output:?}");
        }
    }
    let said: Vec<String> = ["", "init = true"]
        .map(|keys| {
            bench.allow(keys).unwrap();
            let output = bench.run("missing", &["no-such-program"]).unwrap();
            assert!(!output.ok(), "{output:?}");
            let said = output.stderr.lines().find(|line| line.contains("exec: ")).unwrap_or_default();
            said.split_once("exec: ").unwrap_or_default().1.to_owned()
        })
        .into();
    assert!(said[0] == said[1] && said[0].contains("no-such-program"), "{said:?}");
    // A signal for the init is one for the program.
    bench.allow(INIT).unwrap();
    let script = "trap 'echo hup; exit 5' HUP; echo ready; while :; do sleep 0.05; done";
    let id = bench.start_task("hup", &["/bin/sh", "-c", script]).unwrap();
    let trapped = || {
        let caught = "grep -q 'SigCgt:.*[13579bdf]$' /proc/2/status";
        Ok(bench.exec(&id, &["/bin/sh", "-c", caught]).unwrap().ok())
    };
    until("the program has its handler", Duration::from_secs(60), trapped).unwrap();
    bench.daemon.ctr(&["task", "kill", "-s", "SIGHUP", &id]).unwrap().success().unwrap();
    assert_eq!(bench.daemon.tasks().unwrap().wait(&id).unwrap(), 5);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn small_init_and_its_program_are_confined_as_any_and_nobody_changes_its_file() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let confined =
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    let facts = || bench.probe(BULKHEAD, &["facts"]).unwrap();
    let plain = facts();
    bench.allow(INIT).unwrap();
    let under = facts();
    for fact in confined {
        assert_eq!(under.get(fact), plain.get(fact), "{fact}");
    }
    let id = bench.start_task("init", &["/bin/sleep", "600"]).unwrap();
    let fields = |pid: u32| {
        let status =
            bench.exec(&id, &["/bin/cat", &format!("/proc/{pid}/status")]).unwrap().success().unwrap().stdout;
        let kept =
            status.lines().filter(|line| confined.contains(&line.split(':').next().unwrap_or_default()));
        kept.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fields(1), fields(2));
    assert_eq!(fields(1).len(), confined.len());
    let file = "/dev/.bulkhead-init";
    let tried =
        bench.probe_exec(&id, &["try", &format!("write:{file}"), &format!("read:{file}"), "memfd"]).unwrap();
    assert_eq!(tried.get(&format!("read:{file}")), "done");
    assert!(["EACCES", "EROFS"].contains(&tried.get(&format!("write:{file}"))), "{tried:?}");
    assert_ne!(tried.get("memfd"), "done");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn small_init_gives_its_program_the_terminal() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(INIT).unwrap();
    let id = bench.daemon.id("tty");
    // Fields of proc_pid_stat(5): the process group, and the one in front of its terminal.
    let script = "read -r _ _ _ _ group _ _ front _ < /proc/self/stat; test $group = $front && tty && ps -o comm | head -2";
    let args = ["run", "--rm", "-t", "--runtime", BULKHEAD, ALLOWED, &id, "/bin/sh", "-c", script];
    let output = bench.daemon.ctr_on_terminal(&args).unwrap();
    assert!(output.ok() && output.stdout.contains("/dev/pts/0"), "{output:?}");
    assert!(output.stdout.contains("bulkhead-init"), "{output:?}");
    bench.assert_nothing_left();
}

#[test]
fn small_init_runs_under_a_generated_profile_and_in_a_user_namespace() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let name = "registry.test/team-a/debian:1";
    let digests = bench.daemon.import(&Image::userland(name).unwrap()).unwrap();
    for keys in ["seccomp = \"generated\"", "user_namespace = \"root-only\""] {
        // Without `exec`: nobody could tell what a star means.
        bench.allow_digests(&[&digests.manifest], &format!("init = true\n{keys}")).unwrap();
        let id = bench.daemon.id("sleeps");
        let args = ["run", "-d", "--runtime", BULKHEAD, name, &id, "/bin/sleep", "600"];
        until("its profile is ready", Duration::from_secs(180), || {
            let output = bench.daemon.ctr(&args).unwrap();
            if output.ok() {
                return Ok(true);
            }
            assert!(output.stderr.contains("is being worked out"), "{keys}: {output:?}");
            bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
            Ok(false)
        })
        .unwrap();
        bench.daemon.ctr(&["task", "kill", "-s", "SIGTERM", &id]).unwrap().success().unwrap();
        assert_eq!(bench.daemon.tasks().unwrap().wait(&id).unwrap(), 128 + 15, "{keys}");
        bench.remove(&id).unwrap();
    }
    bench.assert_nothing_left();
}

on_each_cri! {
    fn small_init_waits_for_its_own_orphans_where_a_pod_shares_its_processes(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        bench.allow(INIT).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let mut shared = namespaces();
        shared.pid = NamespaceMode::Pod.into();
        let pod = pods.run_in("bulkhead", "team-a", "shared", shared.clone()).unwrap();
        let script = "(sh -c 'exec sleep 0.05' &); exec sleep 600";
        let mut one = ContainerOptions::restricted("one", ALLOWED, &["/bin/sh", "-c", script]);
        one.security.namespace_options = Some(shared);
        let one = pods.launch(&pod, &one).unwrap();
        let processes = || pods.exec(&one, PROCESSES).unwrap().stdout;
        until("the orphan is waited for", Duration::from_secs(60), || {
            let seen = processes();
            assert!(seen.contains("bulkhead-init") && seen.contains("probe"), "{seen}");
            Ok(seen.matches("sleep").count() == 1)
        })
        .unwrap();
        // SIGTERM ends it: the grace period is longer than the test.
        pods.stop(&one, 600).unwrap();
        assert_eq!(pods.exit_code(&one).unwrap(), Some(128 + 15));
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn a_pod_whose_ids_policy_shifts_has_its_volume_and_its_small_init(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        bench.allow_pods("user_namespace = \"shifted\"\nexec = [\"*\"]\ninit = true").unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "shifted").unwrap();
        let (here, there) = bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir/work").unwrap();
        fs::set_permissions(&here, fs::Permissions::from_mode(0o777)).unwrap();
        let mut one = ContainerOptions::restricted("one", ALLOWED, &["/bin/sleep", "600"]);
        one.mounts.push((there, "/work".to_owned(), false));
        let one = pods.launch(&pod, &one).unwrap();
        let script = "id -u; echo x > /work/f && stat -c %u /work/f; cat /proc/self/uid_map";
        let said = pods.exec(&one, &["/bin/sh", "-c", script]).unwrap().stdout;
        let words: Vec<&str> = said.split_whitespace().collect();
        let uid = UID.to_string();
        assert!(words[..3] == [&uid, &uid, "0"] && words[3] != "0" && words[4] == "65536", "{said}");
        pods.stop(&one, 600).unwrap();
        assert_eq!(pods.exit_code(&one).unwrap(), Some(128 + 15));
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn an_exec_gets_neither_input_nor_a_terminal_but_where_its_entry_says_so(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        bench.allow("exec = [\"/bin/echo typed\"]").unwrap();
        let pod = pods.run("bulkhead", "team-a", "exec").unwrap();
        let one = pods.launch(&pod, &ContainerOptions::restricted("one", ALLOWED, &["/bin/probe", "pause"])).unwrap();
        // As a probe comes, and a lifecycle hook: the same call.
        assert_eq!(pods.exec(&one, &["/bin/echo", "typed"]).unwrap().stdout, "typed\n");
        let typed = || {
            let args = ["task", "exec", "--exec-id", "typed", &one, "/bin/echo", "typed"];
            bench.daemon.ctr_in("k8s.io", &args).unwrap()
        };
        let refused = Refused::of(typed()).unwrap();
        assert_eq!(refused.rule(), "exec");
        assert!(refused.line().contains("allows it without standard input"), "{}", refused.line());
        let entry = refused.line().split("or add ").nth(1).unwrap().split(" to exec of").next().unwrap();
        bench.allow(&format!("exec = [{entry}]")).unwrap();
        assert_eq!(typed().success().unwrap().stdout, "typed\n");
        // `ctr` wants a terminal of its own for that; of two namespaces it takes the last.
        let args = ["-n", "k8s.io", "task", "exec", "--exec-id", "tty", "--tty", &one, "/bin/echo", "typed"];
        let refused = Refused::read(&bench.daemon.ctr_on_terminal(&args).unwrap().stdout).unwrap();
        assert!(refused.line().contains("stdin = true, tty = true"), "{}", refused.line());
        // Another command does not get them from this entry.
        assert!(pods.exec(&one, &["/bin/echo", "other"]).unwrap_err().to_string().contains("refused"));
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }
}

/// As ctr has it; in Kubernetes containerd mounts them itself.
#[test]
fn volume_that_the_image_declares_is_writable_with_what_the_image_has_there_and_no_other_place_is() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let name = "registry.test/team-a/volumes:1";
    let entries = [
        Entry::Dir("data", 0o750),
        Entry::Dir("data/sub", 0o2775),
        Entry::File("data/kept", 0o640, b"of the image\n"),
        Entry::Dir("plain", 0o777),
    ];
    let mut image = Image::busybox(name, &format!("{UID}:{UID}")).unwrap().with(Layer::of(&entries).unwrap());
    // The last four are nothing that a tmpfs could be on.
    image.volumes = ["/data", "/fresh/deep", "/proc/sys", "/", "data", "/a/../etc"].map(str::to_owned).into();
    let digests = bench.daemon.import(&image).unwrap();
    let run = |runtime: &str, script: &str| {
        let id = bench.daemon.id("volumes");
        bench.daemon.ctr(&["run", "--rm", "--runtime", runtime, name, &id, "/bin/sh", "-c", script]).unwrap()
    };
    let script = "cat /data/kept && echo more >> /data/kept && touch /data/sub/x /fresh/deep/x && \
        stat -c '%a %u:%g' /data /data/sub /data/kept /fresh/deep; touch /plain/x; grep -c ' / ' /proc/self/mounts";
    bench.allow_digests(&[&digests.manifest], "").unwrap();
    let output = run(BULKHEAD, script);
    let expected =
        format!("of the image\n750 {UID}:{UID}\n2775 {UID}:{UID}\n640 {UID}:{UID}\n755 {UID}:{UID}\n1\n");
    assert_eq!(output.stdout, expected, "{output:?}");
    assert!(output.stderr.contains("/plain/x: Read-only file system"), "{output:?}");
    assert!(run(RUNC, "cat /data/kept").stdout.is_empty(), "under runc it is root's and closed to its user");

    bench.allow_digests(&[&digests.manifest], "volumes = \"read-only\"").unwrap();
    assert!(run(BULKHEAD, "touch /fresh/deep/x /plain/x").stderr.contains("Read-only file system"));
    bench.allow_digests(&[&digests.manifest], "tmpfs_bytes_max = 65536\ntmpfs_inodes_max = 8").unwrap();
    let full = run(
        BULKHEAD,
        "dd if=/dev/zero of=/data/big bs=1k count=100; for i in 1 2 3 4 5 6 7 8; do touch /fresh/deep/$i; done",
    );
    assert_eq!(full.stderr.matches("No space left on device").count(), 2, "{full:?}");
    let copied = run(BULKHEAD, "cp /bin/busybox /data/busybox; /data/busybox true");
    assert!(!copied.ok(), "it is noexec: {copied:?}");
    bench.assert_nothing_left();
}

/// The pod of a manifest as the kubelet asks for it, with its probes and hooks.
#[test]
fn policy_that_from_manifest_prints_launches_that_very_pod_and_runs_its_probes_and_nothing_else() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let digest = &bench.digests.manifest;
    let pod = format!(
        "containers: [{{ name: app, image: \"registry.test/team-a/busybox@{digest}\", \
         env: [{{ name: TMPDIR, value: /scratch }}, {{ name: WORD, value: said }}], ports: [{{ containerPort: 80 }}], \
         livenessProbe: {{ exec: {{ command: [/bin/sh, -c, \"echo $(WORD) > /scratch/x && cat /scratch/x\"] }} }}, \
         lifecycle: {{ preStop: {{ exec: {{ command: [/bin/echo, 'bye *'] }} }} }}, \
         securityContext: {{ readOnlyRootFilesystem: true }} }}]"
    );
    for kind in ["Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"] {
        let spec = match kind {
            "Pod" => format!("{{ {pod} }}"),
            "CronJob" => format!("{{ jobTemplate: {{ spec: {{ template: {{ spec: {{ {pod} }} }} }} }} }}"),
            _ => format!("{{ template: {{ spec: {{ {pod} }} }} }}"),
        };
        let file = bench.daemon.dir().join("deploy.yaml");
        fs::write(&file, format!("kind: {kind}\nmetadata: {{ name: web }}\nspec: {spec}\n")).unwrap();
        let mut print = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
        print.args(["policy", "from-manifest"]).arg(&file);
        let lines = run(&mut print, Duration::from_secs(60)).unwrap().success().unwrap().stdout;
        let pause = format!("[image]\n\"registry.test/pause\" = {{ digests = [{:?}] }}\n", bench.pause);
        bench.daemon.policy(&lines.replacen("[image]\n", &pause, 1)).unwrap();

        let pod = pods.run("bulkhead", "team-a", &kind.to_lowercase()).unwrap();
        let app = ContainerOptions::restricted("app", ALLOWED, &["/bin/probe", "pause"]);
        let app = pods.launch(&pod, &app).unwrap();
        let probe = pods.exec(&app, &["/bin/sh", "-c", "echo said > /scratch/x && cat /scratch/x"]).unwrap();
        assert_eq!((probe.code, probe.stdout.as_str()), (0, "said\n"), "{kind}: {lines}");
        assert_eq!(pods.exec(&app, &["/bin/echo", "bye *"]).unwrap().stdout, "bye *\n", "{kind}");
        let error = pods.exec(&app, &["/bin/echo", "bye"]).unwrap_err().to_string();
        assert_eq!(Refused::read(&error).unwrap().rule(), "exec", "{kind}");
        pods.remove_pod(&pod).unwrap();
    }
    bench.assert_nothing_left();
}
