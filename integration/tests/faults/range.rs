//! One containerd on which faults happen one after the other: what each came to, and that nothing is left.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Events, Fault, Release, Result, StreamPaths, Tasks, Victim, child_named,
    parent_of, run, until, write_report,
};
use serde_json::{Value, json};

/// How long one call may take with a process killed under it: containerd itself waits 10 s for some of its steps.
pub(super) const BOUND: Duration = Duration::from_secs(100);

/// How long strace may take to tell of a fault that has to happen.
pub(super) const TOLD: Duration = Duration::from_secs(60);

/// How long cleaning up may take.
pub(super) const CLEAN: Duration = Duration::from_secs(60);

pub(super) const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

/// During which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    Create,
    Start,
    Exec,
    Kill,
    Delete,
}

/// What came of one fault.
pub(super) struct Outcome {
    pub(super) happened: bool,
    /// What the call was answered.
    pub(super) answer: String,
}

/// One containerd on which faults happen one after the other.
pub(super) struct Range {
    pub(super) bench: Bench,
    events: Events,
    tasks: Tasks,
    release: Release,
    shots: u32,
    /// How long strace may take to tell what happened.
    pub(super) patience: Duration,
}

impl Range {
    pub(super) fn open(release: Release) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let (events, tasks) = (bench.daemon.events().unwrap(), bench.daemon.tasks().unwrap());
        Self { bench, events, tasks, release, shots: 0, patience: TOLD }
    }

    /// Lets it happen, cleans up as a client would, and counts.
    #[track_caller]
    pub(super) fn shoot(&mut self, during: During, fault: &Fault) -> Outcome {
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
        let left = self.bench.daemon.leftovers_after(Duration::from_secs(60)).unwrap();
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
    pub(super) fn steps(&mut self, during: During, victim: Victim) -> BTreeMap<String, u32> {
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
        let happened = seen(fault, self.patience, || self.bench.daemon.fault_happened(name));
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
        let happened = seen(fault, self.patience, || tracer.happened());
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
pub(super) fn seen(fault: &Fault, within: Duration, happened: impl Fn() -> bool) -> bool {
    if fault.injected != "signal=SIGCONT" {
        // Its absence is what is reported.
        drop(until("the fault", within, || Ok(happened())));
    }
    happened()
}

/// Has the next create judge its image again.
pub(super) fn forget_verdicts(bench: &Bench) {
    match fs::remove_dir_all(bench.daemon.bulkhead_root().join("var/lib/bulkhead/verdicts")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

pub(super) fn said(answer: Result<()>) -> String {
    answer.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

/// Adds a row to the report.
pub(super) fn note(row: Value) {
    static ROWS: Mutex<Vec<Value>> = Mutex::new(Vec::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    write_report("faults", &rows).unwrap();
}

/// Each must happen; and the call must not have been done but where the kernel says the same of a success.
#[track_caller]
pub(super) fn shoot_all(release: Release, victim: Victim, steps: &[(During, &str, u32)]) {
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

pub(super) fn signal(pid: u32, signal: &str) {
    let pid = pid.to_string();
    run(Command::new("/bin/kill").args([signal, &pid]), Duration::from_secs(60)).unwrap().success().unwrap();
}
