//! A process of the runtime is killed at a step of create, start, exec, kill and delete: the call ends in bounded time,
//! containerd cleans up, nothing is left, and what did not die goes on.
//!
//! The steps are system calls: see `bulkhead_integration::Fault`. A few telling ones here; all of them in the long tier.
//! Each row goes to target/reports/faults.json.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "faults/containerd.rs"]
mod containerd;
#[path = "faults/range.rs"]
mod range;
#[path = "faults/sweep.rs"]
mod sweep;

use std::{process::Command, time::Duration};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Fault, Release, Victim, child_named, children_named, on_each_containerd,
    parent_of, run, until,
};
use serde_json::json;

use self::range::{During, NO_STREAMS, Range, TOLD, forget_verdicts, note, said, seen, shoot_all, signal};

#[test]
fn a_launch_that_is_killed_fails_the_call_and_leaves_nothing() {
    use During::{Create, Exec, Start};
    // The worker before and in its control group and with its root mounted, before and after its clone; the container's
    // process before, amid and after its mounts.
    let steps = [
        (Create, "setgroups", 1),
        (Create, "unshare", 1),
        (Create, "fsmount", 1),
        (Create, "pipe2", 1),
        (Create, "setns", 1),
        (Create, "fsopen", 3),
        (Create, "mknodat", 1),
        (Create, "pivot_root", 1),
        (Create, "sendmsg", 1),
        (Create, "sendmsg", 2),
        (Start, "landlock_restrict_self", 1),
        (Start, "execve", 1),
        (Exec, "setgroups", 1),
        (Exec, "setns", 1),
        (Exec, "setns", 2),
        (Exec, "landlock_restrict_self", 1),
        (Exec, "execve", 1),
    ];
    shoot_all(Release::V2_1, Victim::Launch, &steps);
}

/// The container's own process is there by then and holds the reply socket, so that its end tells nothing.
#[test]
fn a_worker_that_is_killed_when_its_container_is_ready_is_noticed() {
    let mut range = Range::open(Release::V2_1);
    // Back from the container's pid namespace, with a process in it; and, of an exec, when that waits to be let go.
    for (during, call, nth) in
        [(During::Create, "setns", 1), (During::Exec, "setns", 2), (During::Exec, "connect", 1)]
    {
        let fault = Fault::kill(Victim::Launch, call, nth);
        let outcome = range.shoot(during, &fault);
        assert!(outcome.happened && outcome.answer != "ok", "{during:?}, {fault}: {}", outcome.answer);
    }
}

#[test]
fn a_step_of_the_confinement_that_fails_is_named_in_the_answer_and_nothing_runs() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    for (call, says) in [("landlock_restrict_self", "Landlock"), ("seccomp", "seccomp")] {
        let fault = Fault::fail(Victim::Launch, call, 1);
        let id = bench.create_container(BULKHEAD, ALLOWED, call, &["/bin/sleep", "600"]).unwrap();
        let init = tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
        let tracer = bench.daemon.attach(&format!("{call}-start"), init, &fault).unwrap();
        let error = tasks.start(&id).unwrap_err().to_string();
        assert!(seen(&fault, TOLD, || tracer.happened()) && error.contains(says), "{call}: {error}");
        assert_ne!(tasks.wait(&id).unwrap(), 0);
        bench.remove(&id).unwrap();

        // An exec as well, and its container goes on.
        let id = bench.start_task(&format!("{call}-exec"), &["/bin/sleep", "600"]).unwrap();
        let server = parent_of(tasks.state(&id, "").unwrap().pid).unwrap();
        let zygote = child_named(server, "bulkhead-zygote").unwrap();
        let tracer = bench.daemon.attach(&format!("{call}-exec"), zygote, &fault).unwrap();
        tasks.add_exec(&id, "e", &["/bin/true"], NO_STREAMS).unwrap();
        let error = tasks.start_exec(&id, "e").unwrap_err().to_string();
        assert!(seen(&fault, TOLD, || tracer.happened()) && error.contains(says), "{call}: {error}");
        drop(tracer);
        bench.exec(&id, &["/bin/true"]).unwrap().success().unwrap();
        bench.remove(&id).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn a_server_that_is_killed_at_any_step_is_cleaned_up_after() {
    use During::{Create, Delete, Exec, Kill, Start};
    let steps = [
        // It reads the request; asks containerd; has asked the zygote; has the answer.
        (Create, "recvfrom", 2),
        (Create, "connect", 1),
        (Create, "memfd_create", 1),
        (Create, "recvmsg", 1),
        (Create, "recvmsg", 2),
        (Start, "connect", 1),
        (Start, "sendmsg", 1),
        (Exec, "memfd_create", 1),
        (Exec, "sendmsg", 1),
        (Exec, "recvmsg", 2),
        (Kill, "pidfd_send_signal", 1),
        (Kill, "wait4", 1),
        (Delete, "rmdir", 1),
        (Delete, "rmdir", 4),
        (Delete, "unlinkat", 1),
    ];
    shoot_all(Release::V2_1, Victim::Server, &steps);
}

/// containerd calls no `delete` for a server to which it was not connected yet, under whatever runtime.
#[test]
fn a_server_that_is_killed_before_it_serves_leaves_at_most_a_socket_that_the_next_start_takes_over() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    for call in ["bind", "clone", "setsid", "landlock_restrict_self", "epoll_create1"] {
        let fault = Fault::kill(Victim::Front, call, 1);
        let broken = bench.daemon.runtime_with_fault(call, &fault).unwrap();
        let id = bench.create_container(&broken, ALLOWED, call, &["/bin/true"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let answer = tasks.create(&id, tasks.mounts(&id).unwrap());
        assert!(
            answer.is_err() && seen(&fault, TOLD, || bench.daemon.fault_happened(call)),
            "{call}: {answer:?}"
        );
        let mut left = bench.daemon.leftovers().unwrap();
        let gone = until("all but a socket to go", Duration::from_secs(60), || {
            left = bench.daemon.leftovers()?;
            Ok(left.count() == left.sockets.len() && left.count() <= 1)
        });
        assert!(gone.is_ok(), "{call}: {left}");
        note(json!({
            "fault": "front killed", "step": format!("create: front at {call} 1"), "leaks": left.count(),
            "happened": true, "containerd": "V2_1", "answer": said(answer.map(drop)),
        }));
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        bench.run(call, &["/bin/true"]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }
}

#[test]
fn a_judge_that_is_killed_or_whose_server_is_leaves_nothing() {
    use During::Create;
    shoot_all(
        Release::V2_1,
        Victim::Judge,
        &[(Create, "execve", 1), (Create, "setresuid", 1), (Create, "seccomp", 1)],
    );
    let mut range = Range::open(Release::V2_1);
    // Before the request; a control group without a judge; with one that waits; with one that has answered; a verdict half written.
    for (call, nth) in [("accept4", 1), ("mkdir", 4), ("writev", 8), ("waitid", 1), ("rename", 1)] {
        forget_verdicts(&range.bench);
        let fault = Fault::kill(Victim::Server, call, nth);
        let outcome = range.shoot(During::Create, &fault);
        assert!(outcome.happened && outcome.answer != "ok", "{fault}: {}", outcome.answer);
    }
}

on_each_containerd! {
    fn containers_go_on_when_their_zygote_is_killed_and_take_execs(release) {
        use During::{Create, Exec};
        shoot_all(release, Victim::Zygote, &[(Create, "clone", 1), (Exec, "clone", 1)]);
    }
}

#[test]
fn a_zygote_that_is_killed_again_and_again_is_replaced_each_time_and_when_all_are_gone_exec_says_so() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("many", &["/bin/sleep", "600"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let server = parent_of(tasks.state(&id, "").unwrap().pid).unwrap();
    // A killed one keeps its name until the server reaps it, which the spare may have taken by then.
    let zygotes = || ["bulkhead-zygote", "bulkhead-spare"].map(|name| children_named(server, name).unwrap());
    let complete = || zygotes().iter().all(|pids| pids.len() == 1);
    let zygotes = || zygotes().concat();
    let kill = |pids: &[u32]| {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        run(Command::new("/bin/kill").arg("-KILL").args(pids), Duration::from_secs(60))
            .unwrap()
            .success()
            .unwrap();
    };
    // The spare names itself when it runs for the first time.
    until("a zygote and its spare", Duration::from_secs(60), || Ok(complete())).unwrap();
    let first = zygotes();
    assert_eq!(first.len(), 2, "one works, one is spare");
    for round in 0..4 {
        // Whichever it is, the working one or the spare.
        let victim = zygotes()[round % 2];
        kill(&[victim]);
        until("another zygote", Duration::from_secs(60), || Ok(complete() && !zygotes().contains(&victim)))
            .unwrap();
        let output = bench.exec(&id, &["/bin/echo", "still"]).unwrap().success().unwrap();
        assert_eq!(output.stdout, "still\n");
    }
    assert!(zygotes().iter().all(|pid| !first.contains(pid)));
    // Both before the server runs again: that it cannot mend, and says so.
    signal(server, "-STOP");
    kill(&zygotes());
    signal(server, "-CONT");
    let output = bench.exec(&id, &["/bin/true"]).unwrap();
    assert!(
        !output.ok() && output.stderr.contains("zygote") && output.stderr.contains("fix: "),
        "{}",
        output.stderr
    );
    assert_eq!(tasks.state(&id, "").unwrap().status, "RUNNING");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}
