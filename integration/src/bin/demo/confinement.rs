//! What the same image can do under runc and under Bulkhead: measured from inside, for init and for exec.

use bulkhead_integration::{Answers, BULKHEAD, HarnessError, RUNC};

use crate::{APP, Stage, wrong};

/// What the kernel says about the process.
const FACTS: &[(&str, &str)] = &[
    ("Uid", "uid (real, effective, saved, fs)"),
    ("CapEff", "effective capabilities"),
    ("CapBnd", "bounding set"),
    ("NoNewPrivs", "no_new_privs"),
    ("Seccomp", "seccomp mode"),
];

/// What the process tries. Each is done under runc (ctr's defaults, no seccomp), or it proves nothing.
const ATTEMPTS: &[(&str, &str)] = &[
    ("create:/etc/planted", "write to the image's files"),
    ("run-dropped:/tmp/dropped", "run a program dropped in /tmp"),
    ("run-memfd", "run a program from memory"),
    ("mknod:/tmp/null", "make a device node"),
    ("userns", "make a user namespace"),
    ("chroot", "chroot"),
    ("setuid0", "become uid 0"),
    ("raw", "open a raw socket"),
    ("af_packet", "open a packet socket"),
    ("io_uring", "set up io_uring"),
    ("ptrace", "ptrace"),
    ("keyctl", "use the kernel's keyrings"),
];

pub(crate) fn show(stage: &Stage) -> Result<(), HarnessError> {
    let runc = stage.as_init(RUNC)?;
    let init = stage.as_init(BULKHEAD)?;
    let exec = stage.as_exec()?;
    let line = |name: &str, a: &str, b: &str, c: &str| println!("{name:<34} {a:<18} {b:<18} {c}");
    line("The same image, from inside", "runc", "Bulkhead", "Bulkhead, exec");
    for (fact, title) in FACTS {
        let [a, b, c] = [&runc, &init, &exec].map(|answers| answers.get(fact).to_owned());
        line(title, &short(&a), &short(&b), &short(&c));
    }
    for (attempt, title) in ATTEMPTS {
        let [a, b, c] = [&runc, &init, &exec].map(|answers| answers.get(attempt).to_owned());
        line(title, &a, &b, &c);
        if a != "done" {
            return Err(wrong("an attempt that succeeds under runc", format!("{attempt}: {a}")));
        }
        if b == "done" || c == "done" || b.is_empty() || c.is_empty() {
            return Err(wrong("an attempt that fails under Bulkhead", format!("{attempt}: {b}, exec {c}")));
        }
    }
    for (phase, answers) in [("init", &init), ("exec", &exec)] {
        let zero = |name: &str| answers.get(name).chars().all(|c| c == '0') && !answers.get(name).is_empty();
        let confined = answers.get("Uid").starts_with("65532")
            && zero("CapEff")
            && zero("CapBnd")
            && answers.get("NoNewPrivs") == "1"
            && answers.get("Seccomp") == "2";
        if !confined {
            return Err(wrong("a confined process", format!("{phase}: {answers:?}")));
        }
    }
    println!();
    Ok(())
}

/// Four equal ids are one.
fn short(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        [first, rest @ ..] if rest.iter().all(|word| word == first) => (*first).to_owned(),
        _ => text.to_owned(),
    }
}

/// Facts and attempts of one process, merged.
fn merged(facts: &str, attempts: &str) -> Result<Answers, HarnessError> {
    let (facts, attempts) = (facts.trim(), attempts.trim());
    match (facts.strip_suffix('}'), attempts.strip_prefix('{')) {
        (Some(facts), Some(attempts)) => Answers::read(&format!("{facts},{attempts}")),
        _ => Err(wrong("two lines of the probe", format!("{facts}\n{attempts}"))),
    }
}

impl Stage {
    fn as_init(&self, runtime: &str) -> Result<Answers, HarnessError> {
        let run = |name: &str, words: &[&str]| {
            let id = self.daemon.id(name);
            let mut args = vec!["run", "--rm", "--runtime", runtime, APP, &id, "/bin/probe"];
            args.extend(words);
            Ok::<_, HarnessError>(self.daemon.ctr(&args)?.success()?.stdout)
        };
        merged(&run("facts", &["facts"])?, &run("try", &attempts())?)
    }

    fn as_exec(&self) -> Result<Answers, HarnessError> {
        let id = self.daemon.id("exec");
        let ctr = |args: &[&str]| Ok::<_, HarnessError>(self.daemon.ctr(args)?.success()?.stdout);
        ctr(&["run", "-d", "--runtime", BULKHEAD, APP, &id, "/bin/probe", "pause"])?;
        let exec = |name: &str, words: &[&str]| {
            let mut args = vec!["task", "exec", "--exec-id", name, id.as_str(), "/bin/probe"];
            args.extend(words);
            ctr(&args)
        };
        let (facts, attempts) = (exec("facts", &["facts"])?, exec("try", &attempts())?);
        self.remove(&id)?;
        merged(&facts, &attempts)
    }
}

fn attempts() -> Vec<&'static str> {
    let names = ATTEMPTS.iter().map(|(name, _)| *name);
    std::iter::once("try").chain(names).collect()
}
