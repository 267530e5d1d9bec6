//! What a client of containerd sees of a task: the same under Bulkhead as under runc's shim.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    thread,
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, ContainerOptions, Cri, Output, RUNC, Release, Result, StreamPaths, Tasks,
    namespaces, on_each_containerd, on_each_cri, run_on, until,
};
use k8s_cri::v1::{LinuxContainerResources, NamespaceMode};

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

/// What a client makes of an answer: a state that does not allow the call is "unknown" to runc's shim, and has a code
/// of its own here.
fn answer<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.status().map(tonic::Status::code) {
            Some(tonic::Code::NotFound) => "not found".to_owned(),
            Some(tonic::Code::AlreadyExists) => "already exists".to_owned(),
            Some(tonic::Code::Unknown | tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument) => {
                "no".to_owned()
            }
            _ => error.to_string(),
        },
    }
}

/// Runs a script of calls under both runtimes; what they answered must be the same, line by line.
fn same_under_both(bench: &Bench, script: impl Fn(&Bench, &str, &mut dyn FnMut(&str, String))) {
    let run = |runtime: &str| {
        let mut lines = Vec::new();
        script(bench, runtime, &mut |call, answer| lines.push(format!("{call}: {answer}")));
        lines
    };
    let (runc, bulkhead) = (run(RUNC), run(BULKHEAD));
    assert!(!runc.is_empty());
    assert_eq!(runc, bulkhead);
}

/// A container whose task is not there yet.
fn container(bench: &Bench, runtime: &str, name: &str, command: &[&str]) -> (Tasks, String) {
    let id = bench.daemon.id(&format!("{name}-{}", runtime.split('.').nth(2).unwrap()));
    let mut args = vec!["container", "create", "--runtime", runtime, ALLOWED, &id];
    args.extend(command);
    bench.daemon.ctr(&args).unwrap().success().unwrap();
    (bench.daemon.tasks().unwrap(), id)
}

fn remove_container(bench: &Bench, id: &str) {
    bench.daemon.ctr(&["container", "delete", id]).unwrap().success().unwrap();
}

on_each_containerd! {
    fn calls_on_a_task_in_each_state_are_answered_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "life", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            let rootfs = tasks.mounts(id).unwrap();
            let state = || answer(tasks.state(id, "").map(|seen| (seen.status, seen.exit_status)));
            say("state of none", state());
            say("create", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("create again", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("state", state());
            say("pids", answer(tasks.pids(id)));
            say("metrics", answer(tasks.metrics(id)));
            say("pause before start", answer(tasks.pause(id)));
            say("resume before start", answer(tasks.resume(id)));
            let waiter = thread::spawn({
                let (tasks, id) = (bench.daemon.tasks().unwrap(), id.to_owned());
                move || tasks.wait(&id)
            });
            thread::sleep(Duration::from_millis(50));
            say("start", answer(tasks.start(id)));
            say("start again", answer(tasks.start(id)));
            say("state", state());
            say("delete while it runs", answer(tasks.delete(id)));
            say("resume what is not paused", answer(tasks.resume(id)));
            say("resize without a terminal", answer(tasks.resize(id, "")));
            say("close input that is not there", answer(tasks.close_stdin(id, "")));
            say("signal 0", answer(tasks.kill(id, 0, false)));
            say("signal 999", answer(tasks.kill(id, 999, false)));
            say("a signal to all", answer(tasks.kill(id, 28, true)));
            say("pause", answer(tasks.pause(id)));
            say("pause again", answer(tasks.pause(id)));
            say("state", state());
            say("exec while paused", answer(tasks.add_exec(id, "frozen", &["/bin/true"], NO_STREAMS)));
            say("pids while paused", answer(tasks.pids(id)));
            say("metrics while paused", answer(tasks.metrics(id)));
            say("delete while paused", answer(tasks.delete(id)));
            say("resume", answer(tasks.resume(id)));
            let update = |json: serde_json::Value| answer(tasks.update(id, &json));
            say("update memory", update(serde_json::json!({ "memory": { "limit": 67_108_864 } })));
            say("update cpu", update(serde_json::json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 } })));
            say("update pids", update(serde_json::json!({ "pids": { "limit": 50 } })));
            say("lift memory", update(serde_json::json!({ "memory": { "limit": -1 } })));
            say("update nothing", update(serde_json::json!({})));
            say("update nonsense", update(serde_json::json!({ "memory": { "limit": "x" } })));
            say("kill", answer(tasks.kill(id, 15, false)));
            say("wait since before start", answer(waiter.join().unwrap()));
            say("wait", answer(tasks.wait(id)));
            say("state", state());
            say("kill what has ended", answer(tasks.kill(id, 9, false)));
            say("start what has ended", answer(tasks.start(id)));
            say("pause what has ended", answer(tasks.pause(id)));
            say("exec in what has ended", answer(tasks.add_exec(id, "late", &["/bin/true"], NO_STREAMS)));
            say("pids of what has ended", answer(tasks.pids(id)));
            say("create over what has ended", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("delete", answer(tasks.delete(id)));
            say("delete again", answer(tasks.delete(id)));
            say("kill what is deleted", answer(tasks.kill(id, 9, false)));
            say("wait for what is deleted", answer(tasks.wait(id)));
            say("create anew", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("kill before start", answer(tasks.kill(id, 9, false)));
            say("wait", answer(tasks.wait(id)));
            say("start what was killed", answer(tasks.start(id)));
            say("delete", answer(tasks.delete(id)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    fn calls_on_an_exec_in_each_state_are_answered_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "exec", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            tasks.start(id).unwrap();
            let add = |exec: &str, command: &[&str]| answer(tasks.add_exec(id, exec, command, NO_STREAMS));
            let state = |exec: &str| answer(tasks.state(id, exec).map(|seen| (seen.status, seen.exit_status)));
            for (call, answer) in [
                ("start of none", answer(tasks.start_exec(id, "none").map(drop))),
                ("wait for none", answer(tasks.wait_exec(id, "none"))),
                ("kill of none", answer(tasks.kill_exec(id, "none", 9))),
                ("delete of none", answer(tasks.delete_exec(id, "none"))),
                ("resize of none", answer(tasks.resize(id, "none"))),
                ("close input of none", answer(tasks.close_stdin(id, "none"))),
            ] {
                say(call, answer);
            }
            say("add", add("e", &["/bin/probe", "exit", "4"]));
            say("add again", add("e", &["/bin/true"]));
            say("state", state("e"));
            say("kill before start", answer(tasks.kill_exec(id, "e", 9)));
            say("start", answer(tasks.start_exec(id, "e").map(drop)));
            say("wait", answer(tasks.wait_exec(id, "e")));
            say("state", state("e"));
            say("kill what has ended", answer(tasks.kill_exec(id, "e", 9)));
            say("wait again", answer(tasks.wait_exec(id, "e")));
            say("delete", answer(tasks.delete_exec(id, "e")));
            say("delete again", answer(tasks.delete_exec(id, "e")));
            say("the same id once more", add("e", &["/bin/sleep", "600"]));
            say("start", answer(tasks.start_exec(id, "e").map(drop)));
            say("delete while it runs", answer(tasks.delete_exec(id, "e")));
            say("pids", answer(tasks.pids(id)));
            say("kill", answer(tasks.kill_exec(id, "e", 15)));
            say("wait", answer(tasks.wait_exec(id, "e")));
            say("delete", answer(tasks.delete_exec(id, "e")));
            say("add and never start", add("idle", &["/bin/true"]));
            say("delete", answer(tasks.delete_exec(id, "idle")));
            say("id that is a path", add("a/b", &["/bin/true"]));
            say("add to the end", add("long", &["/bin/sleep", "600"]));
            say("start", answer(tasks.start_exec(id, "long").map(drop)));
            say("end of init", answer(tasks.kill(id, 9, false)));
            say("wait for init", answer(tasks.wait(id)));
            say("wait for the exec that it took along", answer(tasks.wait_exec(id, "long")));
            say("delete", answer(tasks.delete_exec(id, "long")));
            bench.remove(id).unwrap();
        });
        bench.assert_nothing_left();
    }

    // Not beside runc's: its shim of containerd 1.7 and 2.1 ends with the container after a start that failed.
    fn exec_that_cannot_start_is_stopped_and_its_container_goes_on(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("none", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        for (exec, program, why) in [("e1", "/bin/no", "no such file"), ("e2", "/etc/passwd", "permission denied")] {
            tasks.add_exec(&id, exec, &[program], NO_STREAMS).unwrap();
            let error = tasks.start_exec(&id, exec).unwrap_err().to_string();
            assert!(error.contains(program) && error.contains(why), "{error}");
            let seen = tasks.state(&id, exec).unwrap();
            assert_eq!((seen.status.as_str(), seen.exit_status), ("STOPPED", 255));
            assert_eq!(tasks.wait_exec(&id, exec).unwrap(), 255);
            assert_eq!(answer(tasks.start_exec(&id, exec)), "no");
            tasks.delete_exec(&id, exec).unwrap();
        }
        let output = bench.daemon.ctr(&["task", "exec", "--cwd", "/no", "--exec-id", "e3", &id, "/bin/true"]).unwrap();
        assert!(!output.ok() && output.stderr.contains("chdir to cwd (\"/no\")"), "{output:?}");
        assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
        tasks.kill(&id, 15, false).unwrap();
        assert_eq!(tasks.wait(&id).unwrap(), 0);
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn events_of_a_life_have_the_same_order_and_content(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let log = bench.daemon.dir().join("events");
            let mut events = bench.daemon.ctr_command(bench.daemon.tag(), &["events"]);
            let mut events = events.stdout(File::create(&log).unwrap()).spawn().unwrap();
            thread::sleep(Duration::from_millis(300));
            let id = bench.daemon.id(&format!("events-{}", runtime.split('.').nth(2).unwrap()));
            let args = ["run", "-d", "--memory-limit", "16777216", "--runtime", runtime, ALLOWED, &id, "/bin/probe", "pause"];
            bench.daemon.ctr(&args).unwrap().success().unwrap();
            let tasks = bench.daemon.tasks().unwrap();
            assert_eq!(bench.exec(&id, &["/bin/probe", "exit", "4"]).unwrap().code(), 4);
            let grow = "x=0123456789abcdef; while :; do x=$x$x; done";
            assert_eq!(bench.exec(&id, &["/bin/sh", "-c", grow]).unwrap().code(), 137);
            tasks.add_exec(&id, "long", &["/bin/sleep", "600"], NO_STREAMS).unwrap();
            tasks.start_exec(&id, "long").unwrap();
            tasks.pause(&id).unwrap();
            tasks.resume(&id).unwrap();
            tasks.kill(&id, 9, false).unwrap();
            tasks.wait(&id).unwrap();
            tasks.delete(&id).unwrap();
            remove_container(bench, &id);
            let text = || std::fs::read_to_string(&log).unwrap();
            until("the last event", Duration::from_secs(10), || Ok(["/tasks/delete", "/containers/delete"].iter().all(|topic| text().contains(topic)))).unwrap();
            events.kill().unwrap();
            events.wait().unwrap();
            for line in text().lines() {
                let Some((_, rest)) = line.split_once("/tasks/") else { continue };
                let (topic, json) = rest.split_once(' ').unwrap();
                let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
                let exec = json["exec_id"].as_str().or(json["id"].as_str()).unwrap_or("");
                let which = if exec == id || exec.is_empty() { "init" } else if exec == "long" { exec } else { "exec" };
                assert_eq!(json["container_id"], id.as_str());
                say(topic, format!("{which} {}", json["exit_status"]));
            }
        });
        bench.assert_nothing_left();
    }

    fn exec_outlives_a_restart_of_containerd_and_its_output_goes_on(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("restart", &["/bin/probe", "pause"]).unwrap();
        // Where containerd's Go client makes FIFOs when nobody names a directory.
        let dir = std::path::Path::new("/tmp").join(bench.daemon.id("fifos"));
        std::fs::create_dir(&dir).unwrap();
        let fifo = dir.join("stdout").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read_to_string(fifo)
        });
        let tasks = bench.daemon.tasks().unwrap();
        let script = "for n in 1 2 3 4 5 6 7 8 9; do echo $n; sleep 0.2; done; exit 6";
        let streams = StreamPaths { stdin: "", stdout: &fifo };
        tasks.add_exec(&id, "count", &["/bin/sh", "-c", script], streams).unwrap();
        tasks.start_exec(&id, "count").unwrap();
        bench.daemon.restart().unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        assert_eq!(tasks.wait_exec(&id, "count").unwrap(), 6);
        assert_eq!(reader.join().unwrap().unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(tasks.delete_exec(&id, "count").unwrap(), 6);
        assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

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
    let output = run_on(&mut command, Stdio::from(read), Duration::from_secs(20)).unwrap();
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
        (&["--user", "1000:1001"], &["id"]),
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
        assert_eq!(of(RUNC, "r"), of(BULKHEAD, "b"), "{options:?}");
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

/// Pid of the server of a task, and those of its children.
fn server_of(bench: &Bench, id: &str) -> (u32, Vec<(u32, String)>) {
    let init = bench.daemon.tasks().unwrap().state(id, "").unwrap().pid;
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    let server = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap()).map(|pid| (pid, name(pid)));
    (server, children.collect())
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
    kill_9(server_of(&bench, &id).0);
    until("containerd's word that the task is gone", Duration::from_secs(10), || {
        Ok(tasks.state(&id, "").is_err())
    })
    .unwrap();
    remove_container(&bench, &id);
    bench.assert_nothing_left();
}

#[test]
fn without_its_zygote_a_server_starts_nothing_more_and_ends_what_runs() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("zygote", &["/bin/probe", "pause"]).unwrap();
    let (_, children) = server_of(&bench, &id);
    kill_9(children.iter().find(|(_, name)| name == "bulkhead-zygote").unwrap().0);
    let output = bench.exec(&id, &["/bin/true"]).unwrap();
    assert!(!output.ok() && output.stderr.contains("zygote"), "{output:?}");
    assert_eq!(bench.daemon.tasks().unwrap().state(&id, "").unwrap().status, "RUNNING");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

on_each_cri! {
    fn containers_of_a_pod_behave_as_under_runc(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let run = |handler: &str| {
            let mut said = Vec::new();
            let pod = pods.run(handler, "team-a", &format!("host-{}", &handler[..1])).unwrap();
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
        let (runc, bulkhead) = (run("runc"), run("bulkhead"));
        assert_eq!(runc, bulkhead);
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
