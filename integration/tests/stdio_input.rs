//! Standard input, terminals and containerd 2's streams. What runc's shim does too is run on both, and the answers compared.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "stdio/help.rs"]
mod help;
#[path = "stdio/stream.rs"]
mod stream;

use std::{fs, io::Write as _, thread};

use bulkhead_integration::{BULKHEAD, Bench, Cri, RUNC, Stdio, Tasks, on_each_containerd, open_fifo};
use help::{GOOD_LOGGER, container, line, logged_by, logger, reader, run_exec, shell, text};

on_each_containerd! {
    fn input_ends_with_its_writer_and_close_io_and_with_neither_alone(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        for runtime in [RUNC, BULKHEAD] {
            for init in [true, false] {
                let name = format!("{runtime}-{init}");
                let stdin = bench.daemon.fifo(&format!("{name}-in")).unwrap();
                let stdout = bench.daemon.fifo(&format!("{name}-out")).unwrap();
                let mut output = open_fifo(&stdout).unwrap();
                // runc's shim wants both outputs, or none, and a reader of each.
                let stderr = bench.daemon.fifo(&format!("{name}-err")).unwrap();
                let _errors = open_fifo(&stderr).unwrap();
                let stdio = Stdio { stdin: stdin.clone(), stdout, stderr, terminal: false };
                let cat = ["/bin/cat"];
                let (tasks, id) = container(&bench, runtime, &format!("in-{init}"), if init { &cat } else { &["/bin/probe", "pause"] });
                let exec = if init { "" } else { "e" };
                let wait = |tasks: &Tasks| if init { tasks.wait(&id) } else { tasks.wait_exec(&id, exec) };
                if init {
                    tasks.create_with(&id, tasks.mounts(&id).unwrap(), &stdio).unwrap();
                    tasks.start(&id).unwrap();
                } else {
                    tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
                    tasks.start(&id).unwrap();
                    tasks.add_exec_with(&id, exec, &cat, &stdio).unwrap();
                    tasks.start_exec(&id, exec).unwrap();
                }
                let writer = || fs::OpenOptions::new().write(true).open(&stdin).unwrap();
                // One writer after the other: the input goes on.
                writer().write_all(b"one\n").unwrap();
                assert_eq!(line(&mut output), "one", "{name}");
                let mut last = writer();
                last.write_all(b"two\n").unwrap();
                assert_eq!(line(&mut output), "two", "{name}");
                // CloseIO, and once more: while the writer is there the input goes on.
                tasks.close_stdin(&id, exec).unwrap();
                // Closing it again is an error to Go, which runc's shim hands on.
                if runtime == BULKHEAD { tasks.close_stdin(&id, exec).unwrap(); }
                last.write_all(b"three\n").unwrap();
                assert_eq!(line(&mut output), "three", "{name}");
                drop(last);
                assert_eq!(wait(&tasks).unwrap(), 0, "{name}");
                bench.remove(&id).unwrap();
            }
        }
        bench.assert_nothing_left();
    }

    fn close_io_may_come_before_the_start_of_an_exec(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("early", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let (stdin, stdout) = (bench.daemon.fifo("in").unwrap(), bench.daemon.fifo("out").unwrap());
        let mut input = open_fifo(&stdin).unwrap();
        let output = reader(&stdout);
        tasks.add_exec_with(&id, "e", &["/bin/cat"], &Stdio { stdin, stdout, ..Stdio::default() }).unwrap();
        input.write_all(b"early\n").unwrap();
        tasks.close_stdin(&id, "e").unwrap();
        tasks.start_exec(&id, "e").unwrap();
        drop(input);
        assert_eq!(tasks.wait_exec(&id, "e").unwrap(), 0);
        assert_eq!(text(output), "early\n");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn terminal_has_the_size_that_it_is_given_before_and_after_its_start_as_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let run = |runtime: &str| {
            let (tasks, id) = container(&bench, runtime, "size", &["/bin/probe", "pause"]);
            tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
            tasks.start(&id).unwrap();
            let (stdin, stdout) =
                (bench.daemon.fifo(&format!("{runtime}-in")).unwrap(), bench.daemon.fifo(&format!("{runtime}-out")).unwrap());
            let (mut input, mut output) = (open_fifo(&stdin).unwrap(), open_fifo(&stdout).unwrap());
            let stdio = Stdio { stdin, stdout, terminal: true, ..Stdio::default() };
            let script = "stty -echo; echo ready; while read line; do stty size; done";
            tasks.add_exec_with(&id, "e", &shell(script), &stdio).unwrap();
            tasks.start_exec(&id, "e").unwrap();
            let mut said = vec![line(&mut output)];
            for (width, height) in [(100, 30), (80, 24)] {
                tasks.resize_to(&id, "e", width, height).unwrap();
                input.write_all(b"\n").unwrap();
                said.push(line(&mut output));
            }
            tasks.kill_exec(&id, "e", 9).unwrap();
            said.push(tasks.wait_exec(&id, "e").unwrap().to_string());
            // One without a terminal has no size, which is no error.
            tasks.resize_to(&id, "", 1, 1).unwrap();
            bench.remove(&id).unwrap();
            said
        };
        let expected = ["ready", "30 100", "24 80", "137"];
        assert_eq!(run(RUNC), expected);
        assert_eq!(run(BULKHEAD), expected);

        let id = bench.start_task("sized", &["/bin/probe", "pause"]).unwrap();
        let (tasks, stdout) = (bench.daemon.tasks().unwrap(), bench.daemon.fifo("sized").unwrap());
        let mut output = open_fifo(&stdout).unwrap();
        tasks.add_exec_with(&id, "e", &shell("until [ \"$(stty size 2>/dev/null)\" = '20 90' ]; do sleep 0.1; done; echo sized"), &Stdio { stdout, terminal: true, ..Stdio::default() }).unwrap();
        tasks.resize_to(&id, "e", 90, 20).unwrap();
        tasks.start_exec(&id, "e").unwrap();
        assert_eq!(line(&mut output), "sized");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn output_of_a_terminal_can_go_to_a_file_and_to_a_logger(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("logged", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let log = bench.daemon.dir().join("log");
        let stdio = Stdio { stdout: format!("file://{}", log.display()), terminal: true, ..Stdio::default() };
        assert_eq!(run_exec(&tasks, &id, "file", &shell("tty; seq 1 5000"), &stdio), 0);
        let found = fs::read_to_string(log).unwrap();
        assert!(found.starts_with("/dev/pts/0\r\n1\r\n") && found.ends_with("\r\n5000\r\n"), "{found}");
        let (program, dir) = logger(&bench, "terminal", GOOD_LOGGER);
        let stdio = Stdio { terminal: true, ..logged_by("binary", &program, &dir) };
        assert_eq!(run_exec(&tasks, &id, "logger", &shell("tty; seq 1 5000"), &stdio), 0);
        let found = fs::read_to_string(dir.join("out")).unwrap();
        assert!(found.starts_with("/dev/pts/0\r\n1\r\n") && found.ends_with("\r\n5000\r\n"), "{found}");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn streams_of_the_shims_own_socket_carry_input_and_output_and_outlive_their_client(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("streams", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let (socket, named) = bench.daemon.shim_socket(&id).unwrap();
        let address = |name: &str| format!("ttrpc+unix://{named}?streaming_id={name}");
        let stdio = |name: &str| Stdio {
            stdin: address(&format!("{name}-stdin")),
            stdout: address(&format!("{name}-stdout")),
            stderr: address(&format!("{name}-stderr")),
            terminal: false,
        };
        let open = |name: &str| stream::Stream::open(&socket, name);

        // The client first, as containerd's CRI does; more than a window in both directions.
        let (mut stdin, mut stdout, mut stderr) = (open("a-stdin"), open("a-stdout"), open("a-stderr"));
        tasks.add_exec_with(&id, "a", &shell("echo err > /dev/stderr; exec 3>&1; tee /proc/self/fd/3 | wc -c >&2; exit 7"), &stdio("a")).unwrap();
        tasks.start_exec(&id, "a").unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let writer = thread::spawn({
            let sent = sent.clone();
            move || {
                stdin.write(&sent);
                stdin.close();
                stdin
            }
        });
        let found = stdout.read_until(|found| found.len() >= sent.len());
        assert!(found.len() >= sent.len());
        drop(writer.join().unwrap());
        assert_eq!(tasks.state(&id, "a").unwrap().status, "RUNNING", "its input ends with CloseIO only");
        tasks.close_stdin(&id, "a").unwrap();
        assert_eq!(tasks.wait_exec(&id, "a").unwrap(), 7);
        let errors = stderr.read_until(|_| false);
        assert_eq!(String::from_utf8(errors).unwrap(), "err\n300000\n");
        tasks.delete_exec(&id, "a").unwrap();

        // The process first; a client that goes away, and the next one.
        let script = "for n in 1 2 3; do read x; echo got $x; done";
        tasks.add_exec_with(&id, "b", &shell(script), &stdio("b")).unwrap();
        tasks.start_exec(&id, "b").unwrap();
        for word in ["one", "two"] {
            let (mut stdin, mut stdout) = (open("b-stdin"), open("b-stdout"));
            stdin.write(format!("{word}\n").as_bytes());
            let found = stdout.read_until(|found| found.ends_with(b"\n"));
            assert_eq!(String::from_utf8(found).unwrap(), format!("got {word}\n"));
        }
        // What is written while nobody is there, and its end, wait for somebody.
        open("b-stdin").write(b"three\n");
        assert_eq!(tasks.wait_exec(&id, "b").unwrap(), 0);
        assert_eq!(String::from_utf8(open("b-stdout").read_until(|_| false)).unwrap(), "got three\n");
        tasks.delete_exec(&id, "b").unwrap();

        // A terminal.
        let mut stdout = open("c-stdout");
        let terminal = Stdio { terminal: true, stderr: String::new(), ..stdio("c") };
        tasks.add_exec_with(&id, "c", &shell("tty; read x; echo got $x"), &terminal).unwrap();
        tasks.start_exec(&id, "c").unwrap();
        open("c-stdin").write(b"typed\n");
        let found = String::from_utf8(stdout.read_until(|_| false)).unwrap();
        assert!(found.contains("/dev/pts/0") && found.contains("got typed"), "{found}");
        assert_eq!(tasks.wait_exec(&id, "c").unwrap(), 0);

        // No: another socket is not connected to.
        let other = Stdio { stdout: "ttrpc+unix:///run/other.sock?streaming_id=x".to_owned(), ..Stdio::default() };
        let error = tasks.add_exec_with(&id, "d", &["/bin/true"], &other).unwrap_err().to_string();
        assert!(error.contains(&format!("this shim's streams are at {named}")), "{error}");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}
