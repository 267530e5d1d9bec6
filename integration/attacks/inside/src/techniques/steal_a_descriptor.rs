//! Takes a file descriptor out of another process.
//!
//! Source: pidfd_getfd(2).

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique =
    Technique { source: "pidfd_getfd(2)", tries: "pidfd_getfd from a sibling", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let victim = sys::sleeper().map_err(Stop::at("fork"))?;
    let stolen = call("pidfd_open", libc::SYS_pidfd_open, [i64::from(victim), 0, 0, 0, 0, 0])
        .and_then(|pidfd| call("pidfd_getfd", libc::SYS_pidfd_getfd, [pidfd, 1, 0, 0, 0, 0]));
    sys::kill_group(victim);
    stolen.map(|_| format!("standard output of process {victim}"))
}
