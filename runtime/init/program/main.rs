//! Process 1 of a container: runs one program, hands signals on to it, waits for whatever becomes its child, and ends as
//! that program ends.
//!
//! ```text
//! bulkhead-init PATH ARGV0 ARG… ─clone─► own process group, the terminal's foreground if there is one ─► execve PATH
//!     │ all signals blocked, taken one by one
//!     ├─ SIGCHLD: wait for all; the program's own end ─► exit with its status, or 128 and the signal's number
//!     └─ any other ─► kill(program)
//! ```
//! Not process 1 where containers of a pod share their processes: then it takes the orphans of its own program alone.
//!
//! Never here: a library, memory of the heap, a file, anything that the program does not have as well.

#![no_std]
#![no_main]
// There is no library whose functions a loop could become a call of.
#![no_builtins]

mod sys;

use sys::{Errno, Signals};

/// Exit status where the program cannot be run: it is not there, or it is no program. As a shell, tini and docker-init.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Exit status where this program is at fault.
const BROKEN: i32 = 125;

/// What the shell adds to a signal's number.
const BY_SIGNAL: i32 = 128;

/// Runs the program. `argv` is that of this one.
fn run(argv: sys::Strings, envp: sys::Strings) -> i32 {
    let argv = argv.after_first();
    let Some(path) = argv.first() else {
        sys::say(&[b"bulkhead-init: no program was named\n"]);
        return BROKEN;
    };
    if sys::own_pid() != 1 {
        // Where it fails, somebody else waits for the orphans.
        sys::take_orphans();
    }
    // Ignored, children would go without a status.
    sys::default_action(sys::SIGCHLD);
    let before = sys::block_all();
    match sys::fork() {
        Err(Errno(errno)) => {
            sys::say(&[b"bulkhead-init: clone(2): errno ", sys::decimal(errno).text(), b"\n"]);
            BROKEN
        }
        Ok(None) => {
            sys::own_group_in_front();
            sys::restore(&before);
            let Errno(errno) = sys::execve(path, argv.after_first(), envp);
            let text = sys::decimal(errno);
            sys::say(&[b"bulkhead-init: exec ", path.bytes(), b": errno ", text.text(), b"\n"]);
            if errno == sys::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE }
        }
        Ok(Some(child)) => attend(child),
    }
}

/// Until the program ends.
fn attend(child: i32) -> i32 {
    let all = Signals::all();
    loop {
        match sys::next_signal(&all) {
            Some(sys::SIGCHLD) => {
                if let Some(status) = wait_for_all(child) {
                    return status;
                }
            }
            // The terminal's word to whoever is not in front; or interrupted.
            Some(sys::SIGTTIN | sys::SIGTTOU) | None => {}
            Some(signal) => sys::kill(child, signal),
        }
    }
}

/// Waits for every child that has ended. What the program came to, if it is one of them.
fn wait_for_all(child: i32) -> Option<i32> {
    let mut came_to = None;
    while let Some((pid, status)) = sys::ended_child() {
        if pid == child {
            came_to = Some(match status & 0x7f {
                0 => status >> 8 & 0xff,
                signal => BY_SIGNAL + signal,
            });
        }
    }
    came_to
}
