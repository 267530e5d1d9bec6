//! What strace(1) wrote, as counts: process by process, call by call.

use std::collections::BTreeMap;

/// Counts of one process, by name of the call.
pub(crate) type Calls = BTreeMap<String, u32>;

/// Calls whose number says how the machine was loaded, or how the allocator was, and not what the code does; and fcntl(2),
/// by which a standard library that was built to check itself asks of each descriptor that is closed.
const NOISE: &[&str] = &[
    "brk",
    "epoll_wait",
    "exit_group",
    "fcntl",
    "futex",
    "getpid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigreturn",
    "sched_yield",
    "wait4",
];

/// Calls by which the server talks to containerd: how many pieces a message comes in is not its choice.
const PIECES: &[&str] = &["read", "recvfrom", "recvmsg", "sendto", "write", "writev"];

/// The first call of Rust's runtime: are the standard streams open?
const RUNTIME_BEGINS: &str = " poll([{fd=0";

/// One process of a log.
#[derive(Debug, Default)]
struct Process {
    /// What it calls itself last.
    name: Option<String>,
    calls: Calls,
    /// It runs a program that is not ours: nothing more is counted.
    done: bool,
}

/// Counts by process, under the names that the processes give themselves; a second process of a name has ` 2` after it.
///
/// `shim` is the program in the process that is called `first`. The count begins with what Rust's runtime does first: what
/// the loader does before depends on how the program was linked.
pub(crate) fn counts(log: &str, shim: &str, first: &str) -> BTreeMap<String, Calls> {
    let mut order: Vec<&str> = Vec::new();
    let mut processes: BTreeMap<&str, Process> = BTreeMap::new();
    let started = log.lines().skip_while(|line| !line.contains(&format!("execve(\"{shim}\"")));
    for line in started.skip_while(|line| !line.contains(RUNTIME_BEGINS)) {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        if !processes.contains_key(pid) {
            order.push(pid);
        }
        processes.entry(pid).or_default().count(rest.trim_start());
    }
    let mut named = BTreeMap::new();
    for (index, pid) in order.into_iter().enumerate() {
        let Some(process) = processes.remove(pid) else { continue };
        let name = match (index, process.name) {
            (0, _) => first.to_owned(),
            (_, Some(name)) => name,
            (1, None) => "server".to_owned(),
            (_, None) => "unknown".to_owned(),
        };
        let second = if named.contains_key(&name) { format!("{name} 2") } else { name };
        named.insert(second, process.calls);
    }
    for (name, calls) in &mut named {
        if name == "server" {
            calls.retain(|call, _| !PIECES.contains(&call.as_str()));
        }
    }
    named
}

impl Process {
    /// One line: `openat(…) = 3`, `read(5,  <unfinished ...>`, `<... read resumed>…) = 0`, `+++ exited …`.
    fn count(&mut self, line: &str) {
        // A call that did not get anywhere is made again.
        let in_vain = ["= -1 EAGAIN", "= -1 EINTR", "= ? ERESTART"].iter().any(|end| line.contains(end));
        let resumed = line.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"));
        let call = match resumed {
            Some((call, _)) => call,
            None if line.ends_with("<unfinished ...>") && !line.starts_with("exit") => {
                self.learn(line);
                return;
            }
            None => line.split_once('(').map_or("", |(call, _)| call),
        };
        let is_name =
            call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if self.done || call.is_empty() || !is_name {
            return;
        }
        self.learn(line);
        if call == "execve" && line.ends_with("= 0") {
            self.done = true;
        }
        if !in_vain && !NOISE.contains(&call) {
            *self.calls.entry(call.to_owned()).or_default() += 1;
        }
    }

    fn learn(&mut self, line: &str) {
        let name = line.split_once("PR_SET_NAME, \"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((name, _)) = name {
            self.name = Some(name.to_owned());
        }
    }
}

#[test]
fn calls_are_counted_by_process_and_those_that_got_nowhere_are_not() {
    let log = "1 execve(\"/bin/sh\", 0) = 0\n1 openat(3) = 4\n1 execve(\"/x/shim\", 0) = 0\n1 openat(1) = 3\n\
        1 poll([{fd=0, events=0}]) = 0\n1 openat(1) = 3\n1 fcntl(3, F_GETFD) = 0\n\
        1 clone(0 <unfinished ...>\n2 read(3) = -1 EAGAIN (Resource temporarily unavailable)\n2 prctl(PR_SET_NAME, \"worker\") = 0\n\
        1 <... clone resumed>) = 2\n2 openat(1) = -1 ENOENT (No such file)\n2 execve(\"/bin/true\", 0) = 0\n2 openat(9) = 1\n\
        1 +++ exited with 0 +++\n";
    let counts = counts(log, "/x/shim", "start");
    let of =
        |process: &str| counts[process].iter().map(|(call, n)| format!("{call}={n}")).collect::<Vec<_>>();
    assert_eq!(of("start"), ["clone=1", "openat=1", "poll=1"]);
    assert_eq!(of("worker"), ["execve=1", "openat=1", "prctl=1"]);
    assert_eq!(counts.len(), 2);
}
