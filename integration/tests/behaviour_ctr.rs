//! What a user of `ctr` and the kubelet see: the same under Bulkhead as under runc's shim, in health and in trouble.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    process::Stdio,
    thread,
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, ContainerOptions, Cri, Output, RUNC, Release, StreamPaths, namespaces,
    on_each_containerd, on_each_cri, parent_of, run_on, runcs, until,
};
use k8s_cri::v1::{LinuxContainerResources, NamespaceMode};

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

on_each_containerd! {
    fn short_input_of_an_exec_ends(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("input", &["/bin/probe", "pause"]).unwrap();
        for round in 0..5 {
            let exec = format!("cat{round}");
            let output = with_input(&bench, &["task", "exec", "--exec-id", &exec, &id, "/bin/cat"], b"x\n".to_vec());
            assert_eq!((output.code(), output.stdout.as_str()), (0, "x\n"));
        }
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}

/// A `ctr` whose input is `input` and its end.
fn with_input(bench: &Bench, args: &[&str], input: Vec<u8>) -> Output {
    let (read, mut write) = std::io::pipe().unwrap();
    let writer = thread::spawn(move || write.write_all(&input));
    let mut command = bench.daemon.ctr_command(bench.daemon.tag(), args);
    let output = run_on(&mut command, Stdio::from(read), Duration::from_secs(60)).unwrap();
    writer.join().unwrap().unwrap();
    output
}

#[test]
fn options_of_ctr_run_do_what_they_do_under_runc() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let policy = bench.daemon.bulkhead_root().join("etc/bulkhead/policy.toml").display().to_string();
    let group = format!("/{}/named", bench.daemon.tag());
    let pid_file = bench.daemon.dir().join("pid").display().to_string();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--cwd", "/tmp"], &["pwd"]),
        (&["--cwd", "/not/there"], &["pwd"]),
        (&["--cwd", "/root"], &["pwd"]),
        (&["--env", "A=b", "--env", "C="], &["sh", "-c", "echo $A:$C:${C+set}"]),
        // By number: Bulkhead gives a user that the image does not know a name.
        (&["--user", "1000:1001"], &["sh", "-c", "id -u; id -g; id -G"]),
        (&["--user", "nonroot"], &["id"]),
        (&["--read-only"], &["sh", "-c", "touch /x 2>/dev/null || echo read-only"]),
        (&["--memory-limit", "33554432", "--cpus", "0.5"], &["true"]),
        (&["--cpu-quota", "50000", "--cpu-period", "100000", "--cpu-shares", "512"], &["true"]),
        (&["--label", "a=b", "--annotation", "a=b", "--pid-file", &pid_file], &["true"]),
        (&["--null-io"], &["sh", "-c", "echo nobody hears this; exit 5"]),
        (&["--no-pivot", "--cgroup", &group], &["true"]),
        (&["--runtime-config-path", &policy], &["true"]),
        (&["--runc-root", "/run/nowhere"], &["true"]),
        (&["--seccomp", "--hostname", "named", "--cap-drop", "CAP_CHOWN"], &["hostname"]),
        (&[], &["sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"]),
        (&[], &["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]),
        (&[], &["/bin/probe", "exit", "255"]),
    ];
    for (number, (options, command)) in cases.iter().enumerate() {
        let of = |runtime: &str, short: &str| {
            let output = bench.run_under(runtime, &format!("o{number}{short}"), options, command).unwrap();
            let errors: String = output.stderr.lines().filter(|line| !line.contains("level=")).collect();
            (output.code(), output.stdout, errors)
        };
        let ours = of(BULKHEAD, "b");
        assert_eq!(runcs(&ours, || of(RUNC, "r")), ours, "{options:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn streams_carry_megabytes_and_a_client_that_goes_away_blocks_nobody() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("streams", &["/bin/probe", "pause"]).unwrap();
    let output = with_input(
        &bench,
        &["task", "exec", "--exec-id", "in", &id, "/bin/sh", "-c", "cat | wc -c"],
        vec![b'x'; 5 << 20],
    );
    assert_eq!(output.stdout.trim(), (5 << 20).to_string());

    // A reader that begins late and reads little at a time.
    let script = "dd if=/dev/zero bs=65536 count=160 2>/dev/null";
    let args = ["task", "exec", "--exec-id", "out", &id, "/bin/sh", "-c", script];
    let mut slow = bench.daemon.ctr_command(bench.daemon.tag(), &args);
    let mut slow = slow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = slow.stdout.take().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok(), "a slow reader holds up another exec");
    let (mut count, mut piece) = (0, [0; 32 << 10]);
    loop {
        match pipe.read(&mut piece).unwrap() {
            0 => break,
            read => count += read,
        }
        if count % (1 << 20) == 0 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(count, 10 << 20);
    assert!(slow.wait().unwrap().success());

    let args = ["task", "exec", "--exec-id", "gone", &id, "/bin/sh", "-c", "yes"];
    let mut gone = bench.daemon.ctr_command(bench.daemon.tag(), &args);
    let mut gone = gone.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    gone.stdout.take().unwrap().read_exact(&mut [0; 4]).unwrap();
    gone.kill().unwrap();
    gone.wait().unwrap();
    assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn processes_that_end_at_once_lose_no_exit() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..12 {
                    let code = (thread * 12 + round) % 3;
                    let name = format!("at-once-{thread}-{round}");
                    let output = bench.run(&name, &["/bin/probe", "exit", &code.to_string()]).unwrap();
                    assert_eq!(output.code(), code, "{output:?}");
                }
            });
        }
    });
    bench.assert_nothing_left();
}

fn kill_9(pid: u32) {
    let mut kill = std::process::Command::new("/bin/kill");
    assert!(kill.args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn server_that_is_killed_leaves_nothing() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("server", &["/bin/probe", "pause"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    tasks.add_exec(&id, "long", &["/bin/sleep", "600"], NO_STREAMS).unwrap();
    tasks.start_exec(&id, "long").unwrap();
    kill_9(parent_of(tasks.state(&id, "").unwrap().pid).unwrap());
    until("containerd's word that the task is gone", Duration::from_secs(60), || {
        Ok(tasks.state(&id, "").is_err())
    })
    .unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}

on_each_cri! {
    fn containers_of_a_pod_behave_as_under_runc(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let made = Cell::new(0);
        let run = |handler: &str| {
            let mut said = Vec::new();
            made.set(made.get() + 1);
            let pod = pods.run(handler, "team-a", &format!("host-{}", made.get())).unwrap();
            let options = |name: &str, command: &[&str]| ContainerOptions::restricted(name, ALLOWED, command);

            let main =
                pods.launch(&pod, &options("main", &["/bin/sh", "-c", "while :; do sleep 0.1; done"])).unwrap();
            let slow = pods.exec_within(&main, &["/bin/sleep", "60"], 1);
            said.push(format!("probe that takes too long: {}", slow.is_err()));
            let next = pods.exec(&main, &["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]).unwrap();
            said.push(format!("probe after it: {} {} {}", next.code, next.stdout, next.stderr));
            said.push(format!(
                "no program: {:?}",
                pods.exec(&main, &["/bin/none"]).map(|done| done.code).is_err()
            ));
            let name = pods.exec(&main, &["/bin/hostname"]).unwrap().stdout;
            said.push(format!("hostname of the pod: {}", name.starts_with("host-")));
            said.push(format!(
                "memory: {}",
                pods.stats(&main).unwrap().memory.unwrap().working_set_bytes.is_some()
            ));
            let limits = LinuxContainerResources {
                cpu_shares: 512,
                cpu_quota: 50_000,
                cpu_period: 100_000,
                memory_limit_in_bytes: 64 << 20,
                ..LinuxContainerResources::default()
            };
            said.push(format!("resized: {:?}", pods.update(&main, limits).map_err(|error| error.to_string())));
            // PID 1 that has no handler ignores SIGTERM: it is killed when its grace is over.
            pods.stop(&main, 1).unwrap();
            said.push(format!("stopped after its grace: {:?}", pods.exit_code(&main).unwrap()));
            said.push(format!("exec in what has ended: {}", pods.exec(&main, &["/bin/true"]).is_err()));
            pods.remove(&main).unwrap();

            // What the kubelet does to a container that ends: the next attempt in the same pod.
            for code in ["0", "9", "9"] {
                let again =
                    pods.launch(&pod, &options("again", &["/bin/sh", "-c", "echo line; exit $0", code])).unwrap();
                said.push(format!("again: {:?}", pods.wait(&again).unwrap()));
                pods.remove(&again).unwrap();
            }
            said.push(format!("log: {}", pods.output(&pod, "again").unwrap()));
            let failed = pods.create(&pod, &options("none", &["/bin/none"])).and_then(|id| pods.start(&id));
            said.push(format!("no program: {}", failed.is_err()));
            pods.remove_pod(&pod).unwrap();
            said
        };
        let bulkhead = run("bulkhead");
        assert_eq!(runcs(&bulkhead, || run("runc")), bulkhead);
        assert!(bulkhead.contains(&"stopped after its grace: Some(137)".to_owned()), "{bulkhead:#?}");
        bench.assert_nothing_left();
    }

    fn pod_may_share_its_processes_and_not_the_hosts(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let mut shared = namespaces();
        shared.pid = NamespaceMode::Pod.into();
        let pod = pods.run_in("bulkhead", "team-a", "shared", shared.clone()).unwrap();
        let with = |name: &str, command: &[&str]| {
            let mut options = ContainerOptions::restricted(name, ALLOWED, command);
            options.security.namespace_options = Some(shared.clone());
            options
        };
        let one = pods.launch(&pod, &with("one", &["/bin/sleep", "4321"])).unwrap();
        let two = pods.launch(&pod, &with("two", &["/bin/probe", "pause"])).unwrap();
        let seen = pods.exec(&two, &["/bin/ps"]).unwrap().stdout;
        assert!(seen.contains("sleep 4321") && seen.contains("/bin/probe pause"), "{seen}");
        pods.stop(&one, 0).unwrap();
        assert_eq!(pods.exit_code(&one).unwrap(), Some(137));
        assert!(pods.exec(&two, &["/bin/true"]).is_ok());
        pods.remove_pod(&pod).unwrap();

        for set in [
            |options: &mut k8s_cri::v1::NamespaceOption| options.network = NamespaceMode::Node.into(),
            |options: &mut k8s_cri::v1::NamespaceOption| options.pid = NamespaceMode::Node.into(),
            |options: &mut k8s_cri::v1::NamespaceOption| options.ipc = NamespaceMode::Node.into(),
        ] {
            let mut host = namespaces();
            set(&mut host);
            let error = pods.run_in("bulkhead", "team-a", "host", host).unwrap_err().to_string();
            assert!(error.contains("docs/refusals.md#namespaces"), "{error}");
        }
        bench.assert_nothing_left();
    }
}
