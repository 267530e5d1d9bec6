//! Standard output and error: where containerd's clients can have them lead, and that a side which stops holds up nobody
//! else. What runc's shim does too is run on both, and the answers compared.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "stdio/help.rs"]
mod help;

use std::{fs, time::Instant};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, RUNC, Release, Stdio, digest_of, on_each_containerd, open_fifo, until,
};
use help::{GOOD_LOGGER, PATIENCE, container, logged_by, logger, reader, run_exec, run_task, shell, text};

on_each_containerd! {
    fn output_to_a_file_is_appended_by_init_and_exec_as_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let run = |runtime: &str| {
            let log = bench.daemon.dir().join(runtime).join("new/dir/log");
            let address = format!("file://{}", log.display());
            let stdio = Stdio { stdout: address.clone(), stderr: address, ..Stdio::default() };
            let (tasks, id) = container(&bench, runtime, "file", &shell("echo one; sleep 1000"));
            tasks.create_with(&id, tasks.mounts(&id).unwrap(), &stdio).unwrap();
            tasks.start(&id).unwrap();
            until("the first line", PATIENCE, || Ok(fs::read_to_string(&log).unwrap_or_default() == "one\n")).unwrap();
            run_exec(&tasks, &id, "e", &shell("echo two; echo three >&2; echo four > /dev/stdout"), &stdio);
            bench.remove(&id).unwrap();
            let mut lines: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
            // Each output has a pipe of its own under runc.
            lines.sort();
            lines
        };
        let expected = ["four", "one", "three", "two"];
        // It may be gone before it has copied what an exec wrote last.
        let runcs = run(RUNC);
        assert!(runcs.contains(&"one".to_owned()) && runcs.iter().all(|line| expected.contains(&line.as_str())));
        assert_eq!(run(BULKHEAD), expected);
        bench.assert_nothing_left();
    }

    fn logger_is_told_whose_output_it_gets_and_gets_all_of_it_as_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let run = |runtime: &str, scheme: &str| {
            let (program, dir) = logger(&bench, &format!("{runtime}-{scheme}"), GOOD_LOGGER);
            let script = "echo out; echo err >&2; echo again > /dev/stdout; echo again > /proc/self/fd/2";
            let (tasks, id) = container(&bench, runtime, "logger", &shell(script));
            assert_eq!(run_task(&bench, &tasks, &id, &logged_by(scheme, &program, &dir)), 0);
            // runc's shim may be done before its logger is.
            until("the end of the logger", PATIENCE, || Ok(dir.join("done").exists())).unwrap();
            assert_eq!(fs::read_to_string(dir.join("id")).unwrap().trim(), id);
            ["who", "out", "err"].map(|name| fs::read_to_string(dir.join(name)).unwrap())
        };
        let expected = [&format!("dir|{}\n", bench.daemon.tag()), "out\nagain\n", "err\nagain\n"];
        assert_eq!(run(RUNC, "binary"), expected);
        assert_eq!(run(BULKHEAD, "binary"), expected);
        assert_eq!(run(BULKHEAD, "binary-v2"), expected);
        bench.assert_nothing_left();
    }

    fn delete_is_answered_when_the_log_is_whole(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        // Slow to begin, and dead at SIGTERM: what it has not written by Delete is lost.
        let slow = r#"printf x >&5; exec 5>&-; sleep 0.4; cat <&3 > "$2/out"; touch "$2/done""#;
        let (program, dir) = logger(&bench, "slow", slow);
        let (tasks, id) = container(&bench, BULKHEAD, "whole", &shell("seq 1 2000"));
        run_task(&bench, &tasks, &id, &logged_by("binary", &program, &dir));
        let lines = fs::read_to_string(dir.join("out")).unwrap();
        assert_eq!(lines.lines().count(), 2000);

        let log = bench.daemon.dir().join("log");
        let stdio = Stdio { stdout: format!("file://{}", log.display()), ..Stdio::default() };
        let (tasks, id) = container(&bench, BULKHEAD, "whole-file", &shell("seq 1 200000"));
        run_task(&bench, &tasks, &id, &stdio);
        assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 200_000);
        bench.assert_nothing_left();
    }

    fn logger_that_is_not_there_or_dies_fails_the_start_and_says_which(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("loggers", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let (dead, dir) = logger(&bench, "dead", "exit 3");
        let (mute, _) = logger(&bench, "mute", "exec 5>&-; cat <&3 >/dev/null");
        let missing = bench.daemon.dir().join("missing.sh");
        for (index, (scheme, program, why)) in [
            ("binary", &dead, "ended before it was ready"),
            ("binary-v2", &dead, "wrote nothing"),
            ("binary-v2", &mute, "wrote nothing"),
            ("binary", &missing, "No such file or directory"),
        ].into_iter().enumerate() {
            let exec = format!("e{index}");
            tasks.add_exec_with(&id, &exec, &["/bin/true"], &logged_by(scheme, program, &dir)).unwrap();
            let error = tasks.start_exec(&id, &exec).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&*program.to_string_lossy()), "{scheme}: {error}");
        }
        // Its yes: an old logger closes 5 and lives on.
        assert_eq!(run_exec(&tasks, &id, "mute", &["/bin/echo", "x"], &logged_by("binary", &mute, &dir)), 0);
        let error = tasks.add_exec_with(&id, "ftp", &["/bin/true"], &Stdio { stdout: "ftp:///x".to_owned(), ..Stdio::default() });
        assert!(error.unwrap_err().to_string().contains("stdio ftp:///x: streams are FIFOs"));

        // And of init: nothing is left of the container.
        let (tasks, created) = container(&bench, BULKHEAD, "init", &["/bin/true"]);
        let error = tasks.create_with(&created, tasks.mounts(&created).unwrap(), &logged_by("binary", &dead, &dir));
        assert!(error.unwrap_err().to_string().contains("ended before it was ready"));
        bench.daemon.ctr(&["container", "delete", &created]).unwrap().success().unwrap();
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn output_is_reopened_by_init_and_exec_whatever_it_leads_to(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let script = "(echo && echo >&2) || exit 3; for f in /dev/stdout /dev/stderr /proc/self/fd/1 /proc/self/fd/2; do echo $f > $f || exit 4; done; \
                      cat < /dev/stdin || exit 5";
        let both = "/dev/stderr\n/dev/stdout\n/proc/self/fd/1\n/proc/self/fd/2";
        let sorted = |text: String| {
            let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.contains("denied")).collect();
            lines.sort();
            lines.join("\n")
        };
        let (program, dir) = logger(&bench, "reopened", GOOD_LOGGER);
        let log = bench.daemon.dir().join("log");
        for (kind, init) in [("null", true), ("null", false), ("fifo", true), ("fifo", false), ("file", true),
                             ("file", false), ("logger", true), ("logger", false), ("terminal", true), ("terminal", false)] {
            let name = format!("{kind}-{init}");
            let (mut stdio, mut readers) = (Stdio::default(), Vec::new());
            match kind {
                // Its writes succeed too.
                "null" => {}
                "fifo" => {
                    for end in [&mut stdio.stdout, &mut stdio.stderr] {
                        *end = bench.daemon.fifo(&format!("{name}-{}", readers.len())).unwrap();
                        readers.push(reader(end));
                    }
                }
                "file" => {
                    stdio.stdout = format!("file://{}", log.display());
                    stdio.stderr.clone_from(&stdio.stdout);
                }
                "logger" => stdio = logged_by("binary", &program, &dir),
                _ => {
                    stdio.terminal = true;
                    stdio.stdout = bench.daemon.fifo(&name).unwrap();
                    readers.push(reader(&stdio.stdout));
                }
            }
            // A terminal is never at its end.
            let script = if stdio.terminal { script.trim_end_matches("cat < /dev/stdin || exit 5") } else { script };
            let status = if init {
                let mut args = vec!["container", "create"];
                if stdio.terminal { args.push("--tty"); }
                let id = bench.daemon.id(&name);
                args.extend(["--runtime", BULKHEAD, "--", ALLOWED, &id, "/bin/sh", "-c", script]);
                bench.daemon.ctr(&args).unwrap().success().unwrap();
                run_task(&bench, &bench.daemon.tasks().unwrap(), &id, &stdio)
            } else {
                let id = bench.start_task(&name, &["/bin/probe", "pause"]).unwrap();
                let status = run_exec(&bench.daemon.tasks().unwrap(), &id, "e", &shell(script), &stdio);
                bench.remove(&id).unwrap();
                status
            };
            assert_eq!(status, 0, "{name}");
            let seen = match kind {
                "null" => continue,
                "file" => fs::read_to_string(&log).unwrap(),
                "logger" => ["out", "err"].map(|name| fs::read_to_string(dir.join(name)).unwrap()).concat(),
                _ => readers.into_iter().map(text).collect(),
            };
            assert_eq!(sorted(seen), both, "{name}");
            if kind == "file" { fs::remove_file(&log).unwrap(); }
        }
        bench.assert_nothing_left();
    }

    fn side_that_stops_holds_up_its_own_stream_and_nobody_else(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("stopped", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        // Nobody reads these, or what reads them sleeps.
        let (program, dir) = logger(&bench, "asleep", "printf x >&5; exec 5>&-; exec sleep 1000");
        let fifo = bench.daemon.fifo("unread").unwrap();
        let unread = open_fifo(&fifo).unwrap();
        let terminal = bench.daemon.fifo("unread-terminal").unwrap();
        let unread_terminal = open_fifo(&terminal).unwrap();
        let floods = [
            ("fifo", Stdio { stdout: fifo, ..Stdio::default() }),
            ("terminal", Stdio { stdout: terminal, terminal: true, ..Stdio::default() }),
            ("logger", logged_by("binary", &program, &dir)),
        ];
        for (exec, stdio) in &floods {
            tasks.add_exec_with(&id, exec, &shell("yes"), stdio).unwrap();
            tasks.start_exec(&id, exec).unwrap();
        }
        let begun = Instant::now();
        for (exec, _) in &floods {
            assert_eq!(tasks.state(&id, exec).unwrap().status, "RUNNING");
            assert!(bench.exec(&id, &["/bin/echo", "x"]).unwrap().ok());
        }
        for (exec, _) in &floods {
            tasks.kill_exec(&id, exec, 9).unwrap();
            assert_eq!(tasks.wait_exec(&id, exec).unwrap(), 137);
        }
        assert!(begun.elapsed() < PATIENCE, "held up");
        drop((unread, unread_terminal));
        for (exec, _) in &floods {
            assert_eq!(tasks.delete_exec(&id, exec).unwrap(), 137);
        }
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}

#[test]
fn logger_that_never_says_that_it_is_ready_fails_the_start_after_ten_seconds() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("mute", &["/bin/probe", "pause"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let (program, dir) = logger(&bench, "mute", "exec sleep 1000");
    tasks.add_exec_with(&id, "e", &["/bin/true"], &logged_by("binary", &program, &dir)).unwrap();
    let error = tasks.start_exec(&id, "e").unwrap_err().to_string();
    assert!(error.contains("is not ready after 10000 ms"), "{error}");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn hundred_megabytes_arrive_whole_and_standard_error_apart() {
    const MIB: usize = 100;
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let script = format!("echo begin >&2; yes 0123456789abcdef | head -c {}; echo end >&2", MIB << 20);
    let expected: Vec<u8> = b"0123456789abcdef\n".iter().copied().cycle().take(MIB << 20).collect();
    let expected = digest_of(&expected);
    let (stdout, stderr) = (bench.daemon.fifo("out").unwrap(), bench.daemon.fifo("err").unwrap());
    let (out, err) = (reader(&stdout), reader(&stderr));
    let (tasks, id) = container(&bench, BULKHEAD, "fifo", &shell(&script));
    let status = run_task(&bench, &tasks, &id, &Stdio { stdout, stderr, ..Stdio::default() });
    assert_eq!((status, text(err).as_str()), (0, "begin\nend\n"));
    assert_eq!(digest_of(&out.join().unwrap()), expected);

    let (program, dir) = logger(&bench, "logger", GOOD_LOGGER);
    let (tasks, id) = container(&bench, BULKHEAD, "logger", &shell(&script));
    assert_eq!(run_task(&bench, &tasks, &id, &logged_by("binary", &program, &dir)), 0);
    assert_eq!(digest_of(&fs::read(dir.join("out")).unwrap()), expected);
    assert_eq!(fs::read_to_string(dir.join("err")).unwrap(), "begin\nend\n");

    let log = bench.daemon.dir().join("log");
    let (tasks, id) = container(&bench, BULKHEAD, "file", &shell(&script));
    let stdio = Stdio { stdout: format!("file://{}", log.display()), ..Stdio::default() };
    assert_eq!(run_task(&bench, &tasks, &id, &stdio), 0);
    assert_eq!(digest_of(&fs::read(log).unwrap()), expected);
    bench.assert_nothing_left();
}
