//! The life of a task through `ctr`, under Bulkhead, on each containerd.

#![allow(clippy::unwrap_used, missing_docs)]

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, Cri, RUNC, on_each_containerd, until};
use std::time::Duration;

on_each_containerd! {
    fn a_run_prints_what_its_process_wrote_and_ends_with_its_code(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let output = bench.run("hello", &["/bin/sh", "-c", "echo out; echo err >&2"]).unwrap().success().unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        let output = bench.run("seven", &["/bin/probe", "exit", "7"]).unwrap();
        assert_eq!(output.code(), 7, "{output:?}");
        bench.assert_nothing_left();
    }

    fn a_task_runs_commands_is_paused_measured_killed_and_deleted(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("long", &["/bin/probe", "pause"]).unwrap();
        let ctr = |args: &[&str]| bench.daemon.ctr(args).unwrap().success().unwrap().stdout;

        let output = bench.exec(&id, &["/bin/sh", "-c", "echo in; exit 5"]).unwrap();
        assert_eq!((output.stdout.as_str(), output.code()), ("in\n", 5), "{output:?}");

        assert!(ctr(&["task", "ls"]).contains("RUNNING"));
        ctr(&["task", "pause", &id]);
        assert!(ctr(&["task", "ls"]).contains("PAUSED"));
        ctr(&["task", "resume", &id]);
        assert!(ctr(&["task", "ls"]).contains("RUNNING"));

        let metrics = ctr(&["task", "metrics", &id]);
        assert!(metrics.contains("memory") && metrics.contains("pids"), "{metrics}");
        // A heading and one process.
        assert_eq!(ctr(&["task", "ps", &id]).lines().count(), 2);

        ctr(&["task", "kill", "-s", "SIGTERM", &id]);
        until("the end of the task", Duration::from_secs(60), || {
            Ok(bench.daemon.ctr(&["task", "ls"])?.stdout.contains("STOPPED"))
        }).unwrap();
        ctr(&["task", "delete", &id]);
        ctr(&["container", "delete", &id]);
        bench.assert_nothing_left();
    }

    fn a_killed_task_ends_with_128_and_the_signal(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("kill", &["/bin/sleep", "600"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        tasks.kill(&id, 9, true).unwrap();
        assert_eq!(tasks.wait(&id).unwrap(), 137);
        assert_eq!(tasks.delete(&id).unwrap(), 137);
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }

    fn a_terminal_is_a_terminal_for_run_and_exec_and_else_there_is_none(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let script = "tty && stty size && echo typed";
        let id = bench.daemon.id("tty");
        let args = ["run", "--rm", "-t", "--runtime", BULKHEAD, ALLOWED, &id, "/bin/sh", "-c", script];
        let output = bench.daemon.ctr_on_terminal(&args).unwrap().success().unwrap();
        assert!(output.stdout.contains("/dev/pts/0") && output.stdout.contains("typed"), "{output:?}");

        let id = bench.start_task("bg", &["/bin/probe", "pause"]).unwrap();
        let args = ["task", "exec", "-t", "--exec-id", "t", &id, "/bin/sh", "-c", script];
        let output = bench.daemon.ctr_on_terminal(&args).unwrap().success().unwrap();
        assert!(output.stdout.contains("/dev/pts/0") && output.stdout.contains("typed"), "{output:?}");
        assert!(!bench.exec(&id, &["/bin/tty"]).unwrap().ok());
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn the_loopback_interface_is_up_as_it_is_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        for runtime in [RUNC, BULKHEAD] {
            let said = bench.says_under(runtime, "lo", &["/bin/ip", "link"]).unwrap();
            assert!(said.contains("lo: <LOOPBACK,UP"), "{runtime}: {said}");
        }
        bench.assert_nothing_left();
    }

    fn standard_input_is_read_to_its_end(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.daemon.id("stdin");
        let args = ["run", "--rm", "--runtime", BULKHEAD, ALLOWED, &id, "/bin/cat"];
        let output = bench.ctr_with_input(&id, &args, "one\ntwo\n").unwrap().success().unwrap();
        assert_eq!(output.stdout, "one\ntwo\n");
        bench.assert_nothing_left();
    }

    fn a_program_that_is_not_there_is_an_error_that_names_it_and_leaves_nothing(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let output = bench.run("none", &["/bin/no-such-program"]).unwrap();
        assert!(!output.ok() && output.stderr.contains("no-such-program"), "{output:?}");
        let output = bench.run("plain", &["/etc/passwd"]).unwrap();
        assert!(!output.ok() && output.stderr.contains("/etc/passwd"), "{output:?}");
        bench.assert_nothing_left();
    }
}
