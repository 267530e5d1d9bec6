//! Standard streams while containerd is away, and a reader that stops beside the other containers of its pod.
//!
//! What is printed comes in bursts that the test asks for by a signal to the process itself: no line is on its way through
//! containerd, which loses what it holds, at the moment of its end.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "stdio/help.rs"]
mod help;
#[path = "stdio/lines.rs"]
mod lines;

use std::{
    fs,
    io::{self, Write as _},
    process,
    thread::{self, sleep},
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, ContainerOptions, Cri, Pod, Stdio, on_each_containerd, on_each_cri, open_fifo,
    until,
};
use help::{PATIENCE, container, shell};
use lines::{
    BURST, COUNTER, Lines, assert_counted, burst, burst_into_the_void, parent_of, until_it_stands_still,
    written,
};
use nix::sys::signal::Signal;

const ENDS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGKILL];

/// `ctr task attach`, and what it shows.
fn attach(bench: &Bench, id: &str) -> (process::Child, Lines) {
    let mut command = bench.daemon.ctr_command(bench.daemon.tag(), &["task", "attach", id]);
    let mut attached =
        command.stdin(process::Stdio::piped()).stdout(process::Stdio::piped()).spawn().unwrap();
    let stdout = attached.stdout.take().unwrap();
    (attached, Lines::of(move || stdout))
}

/// The log of the container `counter` has so many lines, and they are counted.
fn assert_log_has(bench: &Bench, pod: &Pod, lines: usize) {
    let pods = bench.daemon.pods().unwrap();
    let log = || fs::read_to_string(pods.log(pod, "counter")).unwrap_or_default();
    let whole = |log: String| log.ends_with('\n') && log.lines().count() >= lines;
    until("the whole burst in the log", PATIENCE, || Ok(whole(log()))).unwrap();
    assert_counted(&pods.output_so_far(pod, "counter").unwrap(), lines);
}

on_each_containerd! {
    fn no_line_is_lost_or_doubled_while_containerd_restarts(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        let fifos = ["init", "exec", "terminal"].map(|name| bench.daemon.fifo(name).unwrap());
        let mut readers = fifos.clone().map(|path| Lines::of(move || fs::File::open(path).unwrap()));
        let [init, exec, terminal] = fifos;
        let stdio = |stdout: String, terminal| Stdio { stdout, terminal, ..Stdio::default() };
        let (tasks, id) = container(&bench, BULKHEAD, "counter", &shell(COUNTER));
        let mut pids = vec![tasks.create_with(&id, tasks.mounts(&id).unwrap(), &stdio(init, false)).unwrap()];
        tasks.start(&id).unwrap();
        for (name, stdio) in [("exec", stdio(exec, false)), ("terminal", stdio(terminal, true))] {
            tasks.add_exec_with(&id, name, &shell(COUNTER), &stdio).unwrap();
            pids.push(tasks.start_exec(&id, name).unwrap());
        }
        let mut printed = BURST;
        readers.iter_mut().for_each(|reader| reader.expect(1..=BURST));
        for end in ENDS {
            // A reader that stays reads on meanwhile, as a client does who is not containerd.
            bench.daemon.restart_by(end, || {
                for (pid, reader) in pids.iter().zip(&mut readers) {
                    burst(*pid);
                    reader.expect(printed + 1..=printed + BURST);
                }
                Ok(())
            }).unwrap();
            printed += BURST;
            let tasks = bench.daemon.tasks().unwrap();
            for ((name, pid), reader) in ["", "exec", "terminal"].into_iter().zip(&pids).zip(&mut readers) {
                let seen = tasks.state(&id, name).unwrap();
                assert_eq!((seen.status.as_str(), seen.pid), ("RUNNING", *pid), "{end} {name}");
                burst(*pid);
                reader.expect(printed + 1..=printed + BURST);
            }
            printed += BURST;
        }
        let tasks = bench.daemon.tasks().unwrap();
        for name in ["exec", "terminal"] {
            tasks.kill_exec(&id, name, 9).unwrap();
            assert_eq!(tasks.wait_exec(&id, name).unwrap(), 137);
            tasks.delete_exec(&id, name).unwrap();
        }
        bench.remove(&id).unwrap();
        readers.into_iter().for_each(Lines::end);
        bench.assert_nothing_left();
    }

    fn attach_after_a_restart_shows_what_is_printed_since_and_gives_it_input(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        let (stdin, stdout) = (bench.daemon.fifo("in").unwrap(), bench.daemon.fifo("out").unwrap());
        let (tasks, id) = container(&bench, BULKHEAD, "attached", &shell("while read word; do echo got $word; done"));
        let stdio = Stdio { stdin: stdin.clone(), stdout, ..Stdio::default() };
        let pid = tasks.create_with(&id, tasks.mounts(&id).unwrap(), &stdio).unwrap();
        tasks.start(&id).unwrap();
        for end in ENDS {
            let (mut before, mut shown) = attach(&bench, &id);
            before.stdin.as_mut().unwrap().write_all(b"before\n").unwrap();
            shown.next_is("got before");
            // The attached `ctr` may or may not outlive its daemon.
            before.kill().unwrap();
            before.wait().unwrap();
            shown.end();

            let answered = written(pid);
            bench.daemon.restart_by(end, || {
                open_fifo(&stdin)?.write_all(b"away\n").unwrap();
                until("an answer that nobody reads", PATIENCE, || Ok(written(pid) >= answered + "got away\n".len()))
            }).unwrap();

            let (mut after, mut shown) = attach(&bench, &id);
            shown.next_is("got away");
            after.stdin.as_mut().unwrap().write_all(b"after\n").unwrap();
            shown.next_is("got after");
            if end == ENDS[1] {
                let tasks = bench.daemon.tasks().unwrap();
                assert_eq!(tasks.state(&id, "").unwrap().pid, pid);
                // The one that is attached is told of the end.
                tasks.kill(&id, 9, false).unwrap();
                assert_eq!(after.wait().unwrap().code(), Some(137));
            } else {
                after.kill().unwrap();
                after.wait().unwrap();
            }
            shown.end();
        }
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}

on_each_cri! {
    fn log_of_a_pods_container_is_whole_over_restarts_and_the_container_lives(release) {
        let mut bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "counting").unwrap();
        let id = pods.launch(&pod, &ContainerOptions::restricted("counter", ALLOWED, &shell(COUNTER))).unwrap();
        let pid = bench.daemon.tasks_in("k8s.io").unwrap().state(&id, "").unwrap().pid;
        assert_log_has(&bench, &pod, BURST);
        let mut printed = BURST;
        for end in ENDS {
            // Nobody reads: it prints until its FIFO is full, and waits.
            bench.daemon.restart_by(end, || burst_into_the_void(pid)).unwrap();
            assert_log_has(&bench, &pod, printed + BURST);
            burst(pid);
            assert_log_has(&bench, &pod, printed + 2 * BURST);
            printed += 2 * BURST;
            let seen = bench.daemon.tasks_in("k8s.io").unwrap().state(&id, "").unwrap();
            assert_eq!((seen.status.as_str(), seen.pid), ("RUNNING", pid), "{end}");
            let executed = bench.daemon.pods().unwrap().exec(&id, &["/bin/echo", "x"]).unwrap();
            assert_eq!((executed.code, executed.stdout.as_str()), (0, "x\n"), "{end}");
        }
        bench.daemon.pods().unwrap().remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn log_that_nobody_takes_holds_up_neither_its_container_nor_the_others_of_the_pod(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let (pods, tasks) = (bench.daemon.pods().unwrap(), bench.daemon.tasks_in("k8s.io").unwrap());
        let pod = pods.run("bulkhead", "team-a", "flooded").unwrap();
        let launch = |name: &str, command: &[&str]| {
            pods.launch(&pod, &ContainerOptions::restricted(name, ALLOWED, command)).unwrap()
        };
        // containerd itself stops at a log that takes no more.
        let sink = pods.log(&pod, "flood");
        nix::unistd::mkfifo(&sink, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let sink = sink.display().to_string();
        let held = open_fifo(&sink).unwrap();
        let beside = launch("beside", &["/bin/probe", "pause"]);
        let flood = launch("flood", &shell("exec yes"));
        let pid = |id: &str| tasks.state(id, "").unwrap().pid;
        assert_eq!(parent_of(pid(&flood)), parent_of(pid(&beside)), "one server serves the whole pod");
        until_it_stands_still(pid(&flood));

        let unread = ["unread", "unread-terminal"].map(|name| {
            let stdout = bench.daemon.fifo(name).unwrap();
            let held = open_fifo(&stdout).unwrap();
            let stdio = Stdio { stdout, terminal: name == "unread-terminal", ..Stdio::default() };
            tasks.add_exec_with(&flood, name, &shell("exec yes"), &stdio).unwrap();
            tasks.start_exec(&flood, name).unwrap();
            held
        });
        let answers = |id: &str| {
            assert_eq!(tasks.state(id, "").unwrap().status, "RUNNING");
            assert_eq!(pods.exec(id, &["/bin/echo", "x"]).unwrap().stdout, "x\n");
        };
        [&flood, &beside].into_iter().for_each(|id| answers(id));
        let third = launch("third", &["/bin/probe", "pause"]);
        answers(&third);
        pods.stop(&third, 5).unwrap();

        // Delete waits a while for a terminal's reader, and nobody waits with it. A machine may be slow, not always.
        let mut passed = false;
        for attempt in 0..3 {
            let name = format!("waiting-{attempt}");
            let stdout = bench.daemon.fifo(&name).unwrap();
            let _held = open_fifo(&stdout).unwrap();
            tasks.add_exec_with(&flood, &name, &shell("exec yes"), &Stdio { stdout, terminal: true, ..Stdio::default() }).unwrap();
            let exec = tasks.start_exec(&flood, &name).unwrap();
            until_it_stands_still(exec);
            tasks.kill_exec(&flood, &name, 9).unwrap();
            assert_eq!(tasks.wait_exec(&flood, &name).unwrap(), 137);
            let (deleter, id) = (bench.daemon.tasks_in("k8s.io").unwrap(), flood.clone());
            let deleted = thread::spawn(move || deleter.delete_exec(&id, &name).unwrap());
            sleep(Duration::from_millis(500));
            answers(&flood);
            passed |= !deleted.is_finished();
            assert_eq!(deleted.join().unwrap(), 137);
            if passed { break; }
        }
        assert!(passed, "an exec waited for the delete of another");

        for name in ["unread", "unread-terminal"] {
            tasks.kill_exec(&flood, name, 9).unwrap();
            assert_eq!(tasks.wait_exec(&flood, name).unwrap(), 137);
        }
        drop(unread);
        tasks.kill(&flood, 9, false).unwrap();
        assert_eq!(tasks.wait(&flood).unwrap(), 137);
        answers(&beside);

        // containerd waits for its log before it lets go of the container, whatever the runtime.
        let mut reader = fs::File::open(&sink).unwrap();
        drop(held);
        let rest = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
        pods.remove_pod(&pod).unwrap();
        rest.join().unwrap();
        bench.assert_nothing_left();
    }
}
