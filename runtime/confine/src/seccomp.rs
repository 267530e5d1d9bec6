//! Seccomp programs of the wire form, loaded in order.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use seccompiler::{BpfProgram, apply_filter, sock_filter};

use crate::{ConfineError, sys};

/// Longest program the kernel accepts, in instructions. Source: `BPF_MAXINSNS`, include/uapi/linux/bpf_common.h.
const INSTRUCTIONS_MAX: usize = 4096;

/// Unpacks programs: code in bits 0–15, jt 16–23, jf 24–31, k 32–63 of each u64. None at all is an error.
pub(crate) fn unpack(programs: &[Vec<u64>]) -> Result<Vec<BpfProgram>, ConfineError> {
    if programs.is_empty() {
        return Err(ConfineError::Program { index: 0, instructions: 0 });
    }
    let unpacked = programs.iter().enumerate().map(|(index, program)| {
        if program.is_empty() || program.len() > INSTRUCTIONS_MAX {
            return Err(ConfineError::Program { index, instructions: program.len() });
        }
        Ok(program.iter().map(instruction).collect())
    });
    unpacked.collect()
}

/// Loads the programs for this thread, the first first. The kernel takes the strictest answer of all.
pub(crate) fn load(programs: &[BpfProgram]) -> Result<(), ConfineError> {
    for (index, program) in programs.iter().enumerate() {
        apply_filter(program).map_err(|source| ConfineError::Seccomp { index, source })?;
    }
    Ok(())
}

/// The same, the first with a listener. It is handed over before the second is loaded: a second one may take away what
/// that needs. What is told meanwhile waits for whoever it was handed to.
pub(crate) fn load_told(
    programs: &[BpfProgram],
    hand_over: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<(), ConfineError> {
    let refused = |index, source| ConfineError::Call {
        call: "seccomp(2)",
        subject: format!("program {index}"),
        source,
    };
    let Some((first, rest)) = programs.split_first() else {
        return Err(ConfineError::Program { index: 0, instructions: 0 });
    };
    let listener = sys::seccomp_listen(first).map_err(|source| refused(0, source))?;
    hand_over(listener.as_fd()).map_err(ConfineError::call("sendmsg(2)", "the listener of denied calls"))?;
    // To close it would be one call more; execve(2) does it.
    std::mem::forget(listener);
    for (index, program) in (1..).zip(rest) {
        sys::seccomp_set_filter(program, 0).map_err(|source| refused(index, source))?;
    }
    Ok(())
}

#[allow(clippy::cast_possible_truncation, reason = "each cast takes the bits that the line above it names")]
fn instruction(packed: &u64) -> sock_filter {
    sock_filter {
        code: *packed as u16,
        jt: (*packed >> 16) as u8,
        jf: (*packed >> 24) as u8,
        k: (*packed >> 32) as u32,
    }
}
