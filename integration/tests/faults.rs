//! A process of the runtime is killed at a step of create, start, exec, kill and delete: the call ends in bounded time,
//! containerd cleans up, nothing is left, and what did not die goes on.
//!
//! The steps are system calls: see `bulkhead_integration::Fault`. A few telling ones here; all of them in the long tier.
//! Each row goes to target/reports/faults.json.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Events, Fault, Release, Result, StreamPaths, Tasks, Victim, child_named,
    children_named, on_each_containerd, parent_of, run, until, write_report,
};
use serde_json::{Value, json};

/// How long one call may take with a process killed under it: containerd itself waits 10 s for some of its steps.
const BOUND: Duration = Duration::from_secs(40);

/// How long cleaning up may take.
const CLEAN: Duration = Duration::from_secs(30);

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

/// During which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    Create,
    Start,
    Exec,
    Kill,
    Delete,
}

/// What came of one fault.
struct Outcome {
    happened: bool,
    /// What the call was answered.
    answer: String,
}

/// One containerd on which faults happen one after the other.
struct Range {
    bench: Bench,
    events: Events,
    tasks: Tasks,
    release: Release,
    shots: u32,
}

impl Range {
    fn open(release: Release) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let (events, tasks) = (bench.daemon.events().unwrap(), bench.daemon.tasks().unwrap());
        Self { bench, events, tasks, release, shots: 0 }
    }

    /// Lets it happen, cleans up as a client would, and counts.
    #[track_caller]
    fn shoot(&mut self, during: During, fault: &Fault) -> Outcome {
        self.shots += 1;
        let name = format!("{during:?}{}", self.shots).to_lowercase();
        let before = Instant::now();
        let (id, outcome, server_lives) = match during {
            During::Create => self.create(&name, fault),
            _ => self.later(&name, during, fault),
        };
        let took = before.elapsed();
        assert!(took < BOUND, "{during:?}, {fault}: {took:?}");
        self.clean(&id);
        let left = self.bench.daemon.leftovers_after(Duration::from_secs(15)).unwrap();
        let exits = self.events.of(&id).iter().filter(|event| *event == "exit").count();
        let step = format!("{during:?}: {fault}").to_lowercase();
        println!(
            "{:<44} {:<10} leaks {} exits {} {:>5} ms  {:.90}",
            step,
            if outcome.happened { "happened" } else { "not met" },
            left.count(),
            exits,
            took.as_millis(),
            outcome.answer
        );
        note(json!({
            "fault": format!("{:?} killed", fault.victim).to_lowercase(), "step": step, "leaks": left.count(),
            "happened": outcome.happened, "containerd": format!("{:?}", self.release), "answer": outcome.answer,
            "ms": u64::try_from(took.as_millis()).unwrap(),
        }));
        assert!(left.none(), "{step} leaves behind: {left}");
        // containerd tells the end of a task whose server is gone, also of one whose end the server had told.
        assert!(exits <= if server_lives { 1 } else { 2 }, "{step}: {:?}", self.events.of(&id));
        outcome
    }

    /// The system calls of `victim` during a call that nothing happens to, and how often one process makes each.
    fn steps(&mut self, during: During, victim: Victim) -> BTreeMap<String, u32> {
        let fault =
            Fault { victim, call: "all".to_owned(), nth: u16::MAX.into(), injected: "signal=SIGCONT" };
        self.shoot(during, &fault);
        let log = self.bench.daemon.dir().join(format!("fault-{during:?}{}", self.shots).to_lowercase());
        let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
        for line in fs::read_to_string(log).unwrap().lines() {
            let (pid, rest) = match line.split_once(' ') {
                Some((pid, rest)) if pid.parse::<u32>().is_ok() => (pid, rest.trim_start()),
                _ => ("", line),
            };
            if let Some((call, _)) = rest.split_once('(')
                && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                *counts.entry((call.to_owned(), pid.to_owned())).or_default() += 1;
            }
        }
        let mut steps = BTreeMap::new();
        for ((call, _), count) in counts {
            let most: &mut u32 = steps.entry(call).or_default();
            *most = count.max(*most);
        }
        steps
    }

    fn create(&self, name: &str, fault: &Fault) -> (String, Outcome, bool) {
        if fault.victim == Victim::Judge {
            forget_verdicts(&self.bench);
        }
        let runtime = self.bench.daemon.runtime_with_fault(name, fault).unwrap();
        let id = self.bench.create_container(&runtime, ALLOWED, name, &["/bin/sleep", "600"]).unwrap();
        let rootfs = self.tasks.mounts(&id).unwrap();
        let answer = self.tasks.create(&id, rootfs);
        let happened = seen(fault, || self.bench.daemon.fault_happened(name));
        let lives = !matches!(fault.victim, Victim::Server | Victim::Front);
        (id, Outcome { happened, answer: said(answer.map(drop)) }, lives)
    }

    fn later(&self, name: &str, during: During, fault: &Fault) -> (String, Outcome, bool) {
        let (bench, tasks) = (&self.bench, &self.tasks);
        let id = bench.create_container(BULKHEAD, ALLOWED, name, &["/bin/sleep", "600"]).unwrap();
        let init = tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
        let server = parent_of(init).unwrap();
        let zygote = child_named(server, "bulkhead-zygote").unwrap();
        if during != During::Start {
            tasks.start(&id).unwrap();
        }
        if during == During::Delete {
            tasks.kill(&id, 9, false).unwrap();
            tasks.wait(&id).unwrap();
        }
        let victim = match fault.victim {
            Victim::Server => server,
            // A container's first process was made before: it is the launch that goes on at Start.
            Victim::Launch if during == During::Start => init,
            _ => zygote,
        };
        let tracer = bench.daemon.attach(name, victim, fault).unwrap();
        let answer = match during {
            During::Create => unreachable!(),
            During::Start => tasks.start(&id),
            During::Exec => tasks
                .add_exec(&id, "e", &["/bin/true"], NO_STREAMS)
                .and_then(|()| tasks.start_exec(&id, "e"))
                .and_then(|_| tasks.wait_exec(&id, "e"))
                .and_then(|_| tasks.delete_exec(&id, "e").map(drop)),
            During::Kill => tasks.kill(&id, 9, false).and_then(|()| tasks.wait(&id).map(drop)),
            During::Delete => tasks.delete(&id).map(drop),
        };
        let happened = seen(fault, || tracer.happened());
        drop(tracer);
        let lives = fault.victim != Victim::Server;
        if lives && during == During::Exec {
            self.goes_on(&id);
        }
        (id, Outcome { happened, answer: said(answer) }, lives)
    }

    /// The container whose exec was hit runs, and takes another one.
    fn goes_on(&self, id: &str) {
        assert_eq!(self.tasks.state(id, "").unwrap().status, "RUNNING");
        let output = self.bench.exec(id, &["/bin/echo", "still"]).unwrap().success().unwrap();
        assert_eq!(output.stdout, "still\n");
    }

    /// What a client does with a task that it cannot use.
    fn clean(&self, id: &str) {
        let ctr = |args: &[&str]| self.bench.daemon.ctr(args);
        until("the end of a task that was hit", CLEAN, || {
            ctr(&["task", "delete", "-f", id])?;
            Ok(!ctr(&["task", "ls"])?.stdout.contains(id))
        })
        .unwrap();
        ctr(&["container", "delete", id]).unwrap().success().unwrap();
    }
}

/// What strace writes may come a moment after the death that it tells of.
fn seen(fault: &Fault, happened: impl Fn() -> bool) -> bool {
    if fault.injected != "signal=SIGCONT" {
        // Its absence is what is reported.
        drop(until("the fault", Duration::from_secs(2), || Ok(happened())));
    }
    happened()
}

/// Has the next create judge its image again.
fn forget_verdicts(bench: &Bench) {
    match fs::remove_dir_all(bench.daemon.bulkhead_root().join("var/lib/bulkhead/verdicts")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

fn said(answer: Result<()>) -> String {
    answer.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

/// Adds a row to the report.
fn note(row: Value) {
    static ROWS: Mutex<Vec<Value>> = Mutex::new(Vec::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    write_report("faults", &rows).unwrap();
}

/// Each must happen; and the call must not have been done but where the kernel says the same of a success.
#[track_caller]
fn shoot_all(release: Release, victim: Victim, steps: &[(During, &str, u32)]) {
    let mut range = Range::open(release);
    for (during, call, nth) in steps {
        let fault = Fault::kill(victim, call, *nth);
        let outcome = range.shoot(*during, &fault);
        assert!(outcome.happened, "{during:?}, {fault}: {}", outcome.answer);
        // An execve(2) that was entered closes the reply socket, whether it is left or not.
        let may_be_done = matches!(during, During::Kill | During::Delete) || *call == "execve";
        assert!(may_be_done || outcome.answer != "ok", "{during:?}, {fault}");
    }
}

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
        (Create, "mount", 2),
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
        assert!(seen(&fault, || tracer.happened()) && error.contains(says), "{call}: {error}");
        assert_ne!(tasks.wait(&id).unwrap(), 0);
        bench.remove(&id).unwrap();

        // An exec as well, and its container goes on.
        let id = bench.start_task(&format!("{call}-exec"), &["/bin/sleep", "600"]).unwrap();
        let server = parent_of(tasks.state(&id, "").unwrap().pid).unwrap();
        let zygote = child_named(server, "bulkhead-zygote").unwrap();
        let tracer = bench.daemon.attach(&format!("{call}-exec"), zygote, &fault).unwrap();
        tasks.add_exec(&id, "e", &["/bin/true"], NO_STREAMS).unwrap();
        let error = tasks.start_exec(&id, "e").unwrap_err().to_string();
        assert!(seen(&fault, || tracer.happened()) && error.contains(says), "{call}: {error}");
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
        assert!(answer.is_err() && seen(&fault, || bench.daemon.fault_happened(call)), "{call}: {answer:?}");
        let left = bench.daemon.leftovers_after(Duration::from_secs(2)).unwrap();
        assert!(left.count() == left.sockets.len() && left.count() <= 1, "{call}: {left}");
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
        run(Command::new("/bin/kill").arg("-KILL").args(pids), Duration::from_secs(5))
            .unwrap()
            .success()
            .unwrap();
    };
    let first = zygotes();
    assert_eq!(first.len(), 2, "one works, one is spare");
    for round in 0..4 {
        // Whichever it is, the working one or the spare.
        let victim = zygotes()[round % 2];
        kill(&[victim]);
        until("another zygote", Duration::from_secs(10), || Ok(complete() && !zygotes().contains(&victim)))
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

fn signal(pid: u32, signal: &str) {
    let pid = pid.to_string();
    run(Command::new("/bin/kill").args([signal, &pid]), Duration::from_secs(5)).unwrap().success().unwrap();
}

/// The server stands still at a step; containerd is killed; the server goes on, and containerd is started again.
fn kill_containerd(bench: &mut Bench, during: During, call: &str) {
    let name = format!("{during:?}").to_lowercase();
    let step = format!("{name}: containerd while the server is at {call} 1");
    let fault = Fault::stop(Victim::Server, call, 1);
    let tasks = bench.daemon.tasks().unwrap();
    let runtime = match during {
        During::Create => bench.daemon.runtime_with_fault(&name, &fault).unwrap(),
        _ => BULKHEAD.to_owned(),
    };
    let id = bench.create_container(&runtime, ALLOWED, &name, &["/bin/sleep", "600"]).unwrap();
    let rootfs = tasks.mounts(&id).unwrap();
    let mut tracer = None;
    if during != During::Create {
        let server = parent_of(tasks.create(&id, rootfs.clone()).unwrap()).unwrap();
        if during != During::Start {
            tasks.start(&id).unwrap();
        }
        if during == During::Exec {
            tasks.add_exec(&id, "e", &["/bin/true"], NO_STREAMS).unwrap();
        }
        if during == During::Delete {
            tasks.kill(&id, 9, false).unwrap();
            tasks.wait(&id).unwrap();
        }
        tracer = Some((bench.daemon.attach(&name, server, &fault).unwrap(), server));
    }
    let began = Instant::now();
    let call = thread::spawn({
        let id = id.clone();
        move || match during {
            During::Create => tasks.create(&id, rootfs).map(drop),
            During::Start => tasks.start(&id),
            During::Exec => tasks.start_exec(&id, "e").map(drop),
            During::Kill => tasks.kill(&id, 9, false),
            During::Delete => tasks.delete(&id).map(drop),
        }
    });
    until("the server to stand still", Duration::from_secs(20), || {
        Ok(tracer
            .as_ref()
            .map_or_else(|| bench.daemon.fault_happened(&name), |(tracer, _)| tracer.happened()))
    })
    .unwrap();
    let server =
        tracer.as_ref().map_or_else(|| bench.daemon.fault_pid(&name).unwrap(), |(_, server)| *server);
    bench.daemon.restart_after(|| signal(server, "-CONT")).unwrap();
    // The call ended with its connection.
    assert!(call.join().unwrap().is_err(), "{step}");
    assert!(began.elapsed() < BOUND, "{step}: {:?}", began.elapsed());
    drop(tracer);
    let tasks = bench.daemon.tasks().unwrap();
    let state = tasks.state(&id, "").map(|seen| seen.status);
    match during {
        // Taken back, or there and never started; or under way, and found a moment later.
        During::Create | During::Start | During::Delete => {}
        During::Exec => assert_eq!(state.as_deref().unwrap_or("none"), "RUNNING", "{step}"),
        // containerd 1.7 and later remove a task without processes when they start, as runc's.
        During::Kill => match tasks.wait(&id) {
            Ok(status) => assert_eq!(status, 137, "{step}"),
            Err(error) => assert!(error.to_string().contains("not found"), "{step}: {error}"),
        },
    }
    until("the end of a task whose containerd was killed", CLEAN, || {
        bench.daemon.ctr(&["task", "delete", "-f", &id])?;
        Ok(!bench.daemon.ctr(&["task", "ls"])?.stdout.contains(&id))
    })
    .unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    let left = bench.daemon.leftovers_after(Duration::from_secs(20)).unwrap();
    let state = state.unwrap_or_else(|error| error.to_string());
    println!("{step:<60} leaks {} then {state:.60}", left.count());
    note(json!({
        "fault": "containerd killed", "step": step, "leaks": left.count(), "happened": true, "answer": state,
        "containerd": format!("{:?}", bench.daemon.version()),
    }));
    assert!(left.none(), "{step} leaves behind: {left}");
}

on_each_containerd! {
    fn a_containerd_that_is_killed_in_a_call_finds_its_tasks_again_and_can_remove_them(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        for (during, call) in [
            (During::Create, "memfd_create"),
            (During::Start, "sendmsg"),
            (During::Exec, "memfd_create"),
            (During::Kill, "pidfd_send_signal"),
            (During::Delete, "rmdir"),
        ] {
            kill_containerd(&mut bench, during, call);
        }
        bench.assert_nothing_left();
    }
}

/// Every system call but those that change nothing, each as often as one process makes it, up to a dozen: hundreds of
/// steps.
fn sweep(during: During) {
    const CHANGES_NOTHING: [&str; 16] = [
        "brk",
        "close",
        "fcntl",
        "fstat",
        "getdents64",
        "getpid",
        "getsockopt",
        "lseek",
        "mmap",
        "mprotect",
        "munmap",
        "newfstatat",
        "prlimit64",
        "read",
        "rt_sigprocmask",
        "statx",
    ];
    let mut range = Range::open(Release::V2_1);
    for victim in [Victim::Server, Victim::Zygote, Victim::Launch] {
        // Neither a kill nor a delete launches anything.
        if victim != Victim::Server && matches!(during, During::Kill | During::Delete) {
            continue;
        }
        let steps = range.steps(during, victim);
        println!("{during:?}, {victim:?}: {} kinds of calls", steps.len());
        for (call, count) in steps.iter().filter(|(call, _)| !CHANGES_NOTHING.contains(&call.as_str())) {
            // The first wait of a server is before containerd is connected to it: see above.
            let first = if victim == Victim::Server && call == "epoll_wait" { 2 } else { 1 };
            for nth in first..=(*count).min(12) {
                if during == During::Create && victim == Victim::Server {
                    forget_verdicts(&range.bench);
                }
                if !range.shoot(during, &Fault::kill(victim, call, nth)).happened {
                    break;
                }
            }
        }
    }
}

#[test]
#[ignore = "long"]
fn nothing_is_left_wherever_a_process_is_killed_in_create() {
    sweep(During::Create);
}

#[test]
#[ignore = "long"]
fn nothing_is_left_wherever_a_process_is_killed_in_start() {
    sweep(During::Start);
}

#[test]
#[ignore = "long"]
fn nothing_is_left_wherever_a_process_is_killed_in_exec() {
    sweep(During::Exec);
}

#[test]
#[ignore = "long"]
fn nothing_is_left_wherever_a_process_is_killed_in_kill() {
    sweep(During::Kill);
}

#[test]
#[ignore = "long"]
fn nothing_is_left_wherever_a_process_is_killed_in_delete() {
    sweep(During::Delete);
}
