//! A container that attacks what serves it: the node, its neighbours and its own server go on.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, Cri, Release, Stdio, open_fifo, until};

/// Longer than anything here may take on a loaded machine; a hang is what it is to catch.
const SOON: Duration = Duration::from_secs(120);

/// A daemon with a neighbour that has to survive.
fn neighbourhood(lines: &str) -> (Bench, String) {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow(&format!("exec = [\"*\"]\n{lines}")).unwrap();
    let neighbour = bench.start_task("neighbour", &["/bin/probe", "pause"]).unwrap();
    (bench, neighbour)
}

/// The neighbour takes an exec, and another container runs, both soon.
#[track_caller]
fn assert_life_goes_on(bench: &Bench, neighbour: &str, name: &str) {
    let began = Instant::now();
    let output = bench.exec(neighbour, &["/bin/echo", "alive"]).unwrap().success().unwrap();
    assert_eq!(output.stdout, "alive\n");
    bench.run(name, &["/bin/true"]).unwrap().success().unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn end(bench: &Bench, ids: &[&str]) {
    for id in ids {
        bench.remove(id).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn a_fork_bomb_ends_at_its_limit_and_can_be_killed() {
    let (bench, neighbour) = neighbourhood("pids_max = 100");
    // The shell that forks ends with the fork that fails; what it started stays.
    let line = "(while :; do sleep 600 & done); exec sleep 600";
    let bomb = bench.start_task("bomb", &["/bin/sh", "-c", line]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    until("the bomb at its limit", SOON, || Ok(tasks.pids(&bomb)? > 50)).unwrap();
    assert_life_goes_on(&bench, &neighbour, "beside");
    assert!(tasks.pids(&bomb).unwrap() <= 100);
    end(&bench, &[&bomb, &neighbour]);
}

#[test]
fn a_container_that_eats_memory_is_killed_alone() {
    let (bench, neighbour) = neighbourhood("");
    let eat = "x=aaaaaaaa; while :; do x=$x$x; done";
    let output = bench.run_with("eats", &["--memory-limit", "33554432"], &["/bin/sh", "-c", eat]).unwrap();
    assert_eq!(output.code(), 137, "{output:?}");
    assert_life_goes_on(&bench, &neighbour, "beside");
    end(&bench, &[&neighbour]);
}

/// Files until no more can be made, in two places, and then bytes; how many were made.
const FILL: &str = "for dir in /tmp /srv; do i=0; while touch $dir/$i; do i=$((i+1)); done 2>/dev/null; echo $i; done; \
     rm /tmp/1 /srv/1; cat /dev/zero >/tmp/big 2>/dev/null; cat /dev/zero >/srv/big 2>/dev/null; touch /root/x";

#[test]
fn a_container_that_uses_up_inodes_and_space_uses_up_its_own() {
    let (bench, neighbour) =
        neighbourhood("writable = [\"/srv\"]\ntmpfs_inodes_max = 500\ntmpfs_bytes_max = 4194304");
    let node = || nix::sys::statvfs::statvfs(bench.daemon.dir()).unwrap();
    let before = node();
    let (ended, output) = thread::scope(|scope| {
        let filler = scope.spawn(|| bench.run("fills", &["/bin/sh", "-c", FILL]).unwrap());
        assert_life_goes_on(&bench, &neighbour, "beside");
        let output = filler.join().unwrap();
        (output.code(), output)
    });
    assert_ne!(ended, 0, "the root is read-only: {output:?}");
    let made: Vec<u32> = output.stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert!(made.len() == 2 && made.iter().all(|count| (100..=500).contains(count)), "{output:?}");
    let after = node();
    // What else is on this machine writes too: a hundred files of a container's would not be seen, its thousands would.
    assert!(before.files_free().saturating_sub(after.files_free()) < 20_000, "{before:?} {after:?}");
    assert_life_goes_on(&bench, &neighbour, "after");
    end(&bench, &[&neighbour]);
}

#[test]
fn a_container_whose_log_nobody_reads_waits_for_it_alone_and_can_be_killed() {
    let (bench, neighbour) = neighbourhood("");
    let tasks = bench.daemon.tasks().unwrap();
    let id = bench.create_container(BULKHEAD, ALLOWED, "floods", &["/bin/sh", "-c", "yes"]).unwrap();
    let (stdout, stderr) = (bench.daemon.fifo("log-out").unwrap(), bench.daemon.fifo("log-err").unwrap());
    // Open and never read: a log that has no more room.
    let held = [open_fifo(&stdout).unwrap(), open_fifo(&stderr).unwrap()];
    let stdio = Stdio { stdout, stderr, ..Stdio::default() };
    tasks.create_with(&id, tasks.mounts(&id).unwrap(), &stdio).unwrap();
    tasks.start(&id).unwrap();
    assert_life_goes_on(&bench, &neighbour, "beside");
    let output = bench.exec(&id, &["/bin/echo", "alive"]).unwrap().success().unwrap();
    assert_eq!(output.stdout, "alive\n");
    assert_eq!(tasks.state(&id, "").unwrap().status, "RUNNING");
    bench.remove(&id).unwrap();
    drop(held);
    assert_life_goes_on(&bench, &neighbour, "after");
    end(&bench, &[&neighbour]);
}

#[test]
fn a_container_that_kills_and_stops_all_it_can_see_reaches_itself_alone() {
    let (bench, neighbour) = neighbourhood("");
    for (name, signal) in [("kills", "KILL"), ("stops", "STOP")] {
        let line = format!("sleep 600 & trap '' TERM; kill -{signal} -1; exec sleep 600");
        let id = bench.start_task(name, &["/bin/sh", "-c", &line]).unwrap();
        assert_life_goes_on(&bench, &neighbour, &format!("beside-{name}"));
        assert_eq!(bench.daemon.tasks().unwrap().state(&id, "").unwrap().status, "RUNNING");
        bench.remove(&id).unwrap();
    }
    end(&bench, &[&neighbour]);
}

#[test]
fn a_container_that_ends_while_execs_come_in_answers_each_of_them() {
    let (bench, neighbour) = neighbourhood("");
    for round in 0..6 {
        let id = bench.start_task(&format!("ends-{round}"), &["/bin/sleep", "0.3"]).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let began = Instant::now();
                    // One that comes too late is told so: an error, not a hang.
                    while bench.exec(&id, &["/bin/true"]).unwrap().ok() && began.elapsed() < SOON {}
                    assert!(began.elapsed() < SOON);
                });
            }
        });
        bench.remove(&id).unwrap();
    }
    assert_life_goes_on(&bench, &neighbour, "after");
    end(&bench, &[&neighbour]);
}

#[test]
fn what_is_no_ttrpc_at_a_servers_socket_disturbs_neither_it_nor_its_callers() {
    let (bench, neighbour) = neighbourhood("");
    let (socket, _) = bench.daemon.tasks().map(|_| bench.daemon.shim_socket(&neighbour).unwrap()).unwrap();
    let header = |length: u32, stream: u32, kind: u8| {
        [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat()
    };
    let hostile: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        // Longer than a message may be, shorter than it says, of no kind, on an even stream, and no protobuf.
        header(u32::MAX, 1, 1),
        header(4 << 20, 1, 1),
        header(10, 1, 0x7f),
        [header(4, 2, 1), vec![1, 2, 3, 4]].concat(),
        [header(4, 1, 1), vec![0xff; 4]].concat(),
        vec![0, 0],
    ];
    // Held open, so that each is one more that the server has to bear.
    let mut held = Vec::new();
    for bytes in hostile.iter().cycle().take(hostile.len() * 8) {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // A server that hangs up at once is right too.
        drop(stream.write_all(bytes));
        held.push(stream);
    }
    assert_life_goes_on(&bench, &neighbour, "beside");
    drop(held);
    assert_life_goes_on(&bench, &neighbour, "after");
    end(&bench, &[&neighbour]);
}

#[test]
fn calls_that_race_on_one_container_end_in_one_state_and_leave_nothing() {
    let (bench, neighbour) = neighbourhood("");
    for round in 0..4 {
        let id = bench
            .create_container(BULKHEAD, ALLOWED, &format!("raced-{round}"), &["/bin/sleep", "600"])
            .unwrap();
        bench.daemon.ctr(&["task", "start", "-d", &id]).unwrap().success().unwrap();
        thread::scope(|scope| {
            for call in ["pause", "resume", "kill", "metrics", "exec", "delete"] {
                let (bench, id) = (&bench, &id);
                scope.spawn(move || {
                    let exec = format!("x{round}");
                    let arguments: Vec<&str> = match call {
                        "kill" => vec!["task", "kill", "-s", "KILL", id],
                        "exec" => vec!["task", "exec", "--exec-id", &exec, id, "/bin/true"],
                        "delete" => vec!["task", "delete", "-f", id],
                        other => vec!["task", other, id],
                    };
                    // Whoever comes too late is told so. `ctr` itself ends within its deadline, or the harness fails.
                    drop(bench.daemon.ctr(&arguments).unwrap());
                });
            }
        });
        until("the end of the task", SOON, || {
            drop(bench.daemon.ctr(&["task", "resume", &id])?);
            drop(bench.daemon.ctr(&["task", "delete", "-f", &id])?);
            Ok(!bench.daemon.ctr(&["task", "ls"])?.stdout.contains(&id))
        })
        .unwrap();
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    }
    assert_life_goes_on(&bench, &neighbour, "after");
    end(&bench, &[&neighbour]);
}
