//! All steps of each call, one after the other: the long tier.

use std::time::Duration;

use bulkhead_integration::{Fault, Release, Victim};

use super::range::{During, Range, forget_verdicts};

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
    // Most steps end with one that does not happen: a fault that is told later ends its series early, and no more.
    range.patience = Duration::from_secs(2);
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
