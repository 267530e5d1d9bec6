//! Reads the memory of another process of the same user.
//!
//! Source: process_vm_readv(2); ATT&CK T1055.

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1055", tries: "process_vm_readv of a sibling", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    static TARGET: u64 = 7;
    let victim = sys::sleeper().map_err(Stop::at("fork"))?;
    let mut read = 0u64;
    let local: [i64; 2] = [&raw mut read as i64, 8];
    let remote: [i64; 2] = [&raw const TARGET as i64, 8];
    // Read, not written: the target is a constant, in memory that nobody may write.
    let (local, remote) = (local.as_ptr() as i64, remote.as_ptr() as i64);
    let done =
        call("process_vm_readv", libc::SYS_process_vm_readv, [i64::from(victim), local, 1, remote, 1, 0]);
    sys::kill_group(victim);
    done.map(|count| format!("{count} bytes of process {victim}"))
}
