//! The small init that is process 1 of a container whose policy says `init = true`: a program of some kilobytes, without
//! any library, which is part of whoever launches.
//!
//! A process without a handler for SIGTERM ignores it as process 1, and orphans of others become its children that it
//! does not wait for. This one hands signals on and waits.
//!
//! Its source is `program/`; it is compiled by `build.rs`, because nothing that is linked with the standard library is
//! as small, and it needs none of the image's libraries.

#![forbid(unsafe_code)]

/// The program: a static executable of this platform.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bulkhead-init"));

/// What it is called in a list of processes. Its arguments: the path of the program to run, then that one's own, from its
/// name on.
pub const NAME: &str = "bulkhead-init";

/// Every system call that it makes between its start and the start of the program.
///
/// The container's filter holds for it as well: these are allowed where a profile was worked out from the image's files.
pub const CALLS: &[&str] = &[
    "clone",
    "execve",
    "exit_group",
    "getpid",
    "ioctl",
    "kill",
    "prctl",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigtimedwait",
    "setpgid",
    "wait4",
    "write",
];
