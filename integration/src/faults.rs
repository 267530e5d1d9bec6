//! Kills a process of the runtime at a chosen system call, and tells what a client sees.
//!
//! ```text
//! strace(1) -p PID -e inject=CALL:signal=KILL:when=N      the N-th CALL after it was attached is never made
//! ```
//! The programs under test have nothing in them for this. A count begins when strace is attached: before `create` that is
//! done by a shim that is wrapped, which hands its address to containerd only then; before any other call by the harness.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Containerd, HarnessError, Result, run, tools::bulkhead_dir};

/// How long strace may take to attach.
const ATTACH: Duration = Duration::from_secs(60);

/// How long children may come and go.
const LIST: Duration = Duration::from_secs(60);

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// `shim start`, and the server while it sets itself up.
    Front,
    /// The server.
    Server,
    /// The zygote.
    Zygote,
    /// What the zygote makes: a worker, libcontainer's process between, the container's first process or an exec.
    Launch,
    /// The judge.
    Judge,
}

/// One way to die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub victim: Victim,
    /// At which system call.
    pub call: String,
    /// At which of them, counted from 1, in each process by itself.
    pub nth: u32,
    /// What strace injects: `signal=SIGKILL`; `signal=SIGSTOP` to have it stand still there; `error=EPERM`.
    pub injected: &'static str,
}

impl Fault {
    /// SIGKILL at the `nth` system call of that name.
    #[must_use]
    pub fn kill(victim: Victim, call: &str, nth: u32) -> Self {
        Self { victim, call: call.to_owned(), nth, injected: "signal=SIGKILL" }
    }

    /// SIGSTOP there.
    #[must_use]
    pub fn stop(victim: Victim, call: &str, nth: u32) -> Self {
        Self { injected: "signal=SIGSTOP", ..Self::kill(victim, call, nth) }
    }

    /// EPERM from there.
    #[must_use]
    pub fn fail(victim: Victim, call: &str, nth: u32) -> Self {
        Self { injected: "error=EPERM", ..Self::kill(victim, call, nth) }
    }

    fn options(&self) -> String {
        let Self { victim, call, nth, injected } = self;
        let follow = match victim {
            Victim::Server | Victim::Zygote => "",
            Victim::Front | Victim::Launch | Victim::Judge => "-f ",
        };
        format!("{follow}-e trace={call} -e inject={call}:{injected}:when={nth}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { victim, call, nth, injected } = self;
        let injected = if *injected == "signal=SIGKILL" { String::new() } else { format!(" {injected}") };
        write!(f, "{victim:?} at {call} {nth}{injected}")
    }
}

/// strace on a process. It ends with what it watches; dropped, it lets go.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    log: PathBuf,
}

impl Tracer {
    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the fault has happened.
    #[must_use]
    pub fn happened(&self) -> bool {
        happened(&self.log())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SIGINT has it detach; it may have ended with what it watched.
        let pid = self.child.id().to_string();
        let asked = run::run(Command::new("/bin/kill").args(["-INT", &pid]), Duration::from_secs(60));
        if asked.is_err() || !matches!(run::wait(&mut self.child, Duration::from_secs(60)), Ok(Some(_))) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Whether a log of strace shows that a fault was injected.
fn happened(log: &str) -> bool {
    log.contains("(INJECTED") || log.contains("killed by SIGKILL") || log.contains("stopped by SIGSTOP")
}

impl Containerd {
    /// A runtime type whose server is hit by `fault` from the moment on at which it can be asked.
    pub fn runtime_with_fault(&self, name: &str, fault: &Fault) -> Result<String> {
        let shim = bulkhead_dir()?.join("containerd-shim-bulkhead-v2");
        let log = self.fault_log(name);
        let options = fault.options();
        let (shim, log) = (shim.display(), log.display());
        let script = if fault.victim == Victim::Front {
            // The server stays traced: strace is its grandparent, and containerd waits for neither.
            format!(
                "#!/bin/sh\ncase \" $* \" in *' start '*) ;; *) exec {shim} \"$@\" ;; esac\n\
                 strace -o {log} {options} {shim} \"$@\" <&0 >{log}.out 2>{log}.err &\n\
                 while ! [ -s {log}.out ] && kill -0 $! 2>/dev/null; do sleep 0.02; done\n\
                 cat {log}.err >&2\ncat {log}.out\n[ -s {log}.out ]\n"
            )
        } else {
            let comm = match fault.victim {
                Victim::Zygote | Victim::Launch => "bulkhead-zygote",
                _ => "containerd-shim",
            };
            format!(
                "#!/bin/sh\ncase \" $* \" in *' start '*) ;; *) exec {shim} \"$@\" ;; esac\n\
                 reply=$({shim} \"$@\") || exit 1\nid=\nbefore=\nfor word; do\n  [ \"$before\" != -id ] || id=$word\n  \
                 before=$word\ndone\nfind_it() {{\n  for pid in $(pgrep -f -- \"^{shim}.* -id $id \"); do\n    case $(cat \
                 /proc/$pid/comm) in {comm}*) echo $pid; return ;; esac\n  done\n}}\npid=$(find_it)\nwhile [ -z \"$pid\" ]; do \
                 sleep 0.01; pid=$(find_it); done\n: >{log}.out\nsetsid strace -o {log} {options} -p $pid </dev/null >{log}.out 2>&1 &\n\
                 until grep -q attached {log}.out; do kill -0 $! || exit 1; sleep 0.01; done\nprintf %s \"$reply\"\n"
            )
        };
        self.runtime(name, &script)
    }

    /// Bulkhead's shim, for scripts that call it.
    pub fn shim(&self) -> Result<PathBuf> {
        Ok(bulkhead_dir()?.join("containerd-shim-bulkhead-v2"))
    }

    /// Whether the fault of [`Self::runtime_with_fault`] has happened.
    #[must_use]
    pub fn fault_happened(&self, name: &str) -> bool {
        happened(&fs::read_to_string(self.fault_log(name)).unwrap_or_default())
    }

    /// Whom it hit, where that is the process that strace was attached to.
    pub fn fault_pid(&self, name: &str) -> Result<u32> {
        let out = self.fault_log(name).with_extension("out");
        let text = fs::read_to_string(&out).map_err(HarnessError::at("read", &out))?;
        let pid = text.split_whitespace().find_map(|word| word.parse().ok());
        pid.ok_or(HarnessError::Format { what: "the pid that strace was attached to", found: text })
    }

    /// Has a process that runs be hit by `fault`.
    pub fn attach(&self, name: &str, pid: u32, fault: &Fault) -> Result<Tracer> {
        let log = self.fault_log(name);
        let out = log.with_extension("out");
        let file = fs::File::create(&out).map_err(HarnessError::at("create", &out))?;
        let options = fault.options();
        let child = Command::new("strace")
            .arg("-o")
            .arg(&log)
            .args(options.split(' '))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|source| HarnessError::Run { program: "strace".to_owned(), source })?;
        let tracer = Tracer { child, log };
        run::until("strace to attach", ATTACH, || {
            Ok(fs::read_to_string(&out).unwrap_or_default().contains("attached"))
        })?;
        Ok(tracer)
    }

    /// A runtime type whose every process is traced, calls of the front and of `delete` in logs of their own; and the
    /// path of the shim, whose execve(2) is where a log of ours begins.
    pub fn runtime_traced(&self, name: &str) -> Result<(String, String)> {
        let shim = bulkhead_dir()?.join("containerd-shim-bulkhead-v2").display().to_string();
        let log = self.fault_log(name).display().to_string();
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' delete '*) action=delete ;; *) action=start ;; esac\n\
             strace -f -q -s 40 -o {log}-$action -p $$ </dev/null >/dev/null 2>&1 &\n\
             while grep -q '^TracerPid:.0$' /proc/$$/status; do kill -0 $! || exit 1; sleep 0.02; done\n\
             exec {shim} \"$@\"\n"
        );
        Ok((self.runtime(name, &script)?, shim))
    }

    /// What [`Self::runtime_traced`] has logged of `start` and what came of it, or of `delete`.
    #[must_use]
    pub fn trace(&self, name: &str, action: &str) -> String {
        fs::read_to_string(format!("{}-{action}", self.fault_log(name).display())).unwrap_or_default()
    }

    fn fault_log(&self, name: &str) -> PathBuf {
        self.dir().join(format!("fault-{name}"))
    }
}

/// The server of a container: the parent of its first process.
pub fn parent_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    parent.ok_or(HarnessError::Format { what: "a process with a parent", found: stat })
}

/// The children of a server that carry `name`, oldest first.
///
/// The kernel leaves one out of the list where another ends while it is read: it is read until it says the same twice.
/// Source: proc_pid_task(5).
pub fn children_named(server: u32, name: &str) -> Result<Vec<u32>> {
    let path = format!("/proc/{server}/task/{server}/children");
    let read = || fs::read_to_string(&path).map_err(HarnessError::at("read", &path));
    let mut children = read()?;
    run::until("a list of children that stays", LIST, || {
        let before = std::mem::replace(&mut children, read()?);
        Ok(before == children)
    })?;
    let named = |pid: &u32| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"))
            .is_ok_and(|comm| comm.trim() == name)
    };
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(named).collect())
}

/// The first of them.
pub fn child_named(server: u32, name: &str) -> Result<u32> {
    let found = children_named(server, name)?.first().copied();
    found.ok_or(HarnessError::Format { what: "a child of the server", found: name.to_owned() })
}
