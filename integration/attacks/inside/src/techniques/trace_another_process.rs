//! Traces a process of the same user, and reads its registers.
//!
//! Source: ptrace(2); MITRE ATT&CK T1055.008.

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1055.008", tries: "PTRACE_SEIZE a sibling", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let victim = sys::sleeper().map_err(Stop::at("fork"))?;
    // PTRACE_SEIZE
    let traced = call("ptrace", libc::SYS_ptrace, [0x4206, i64::from(victim), 0, 0, 0, 0]);
    sys::kill_group(victim);
    traced.map(|_| format!("process {victim} is traced"))
}
