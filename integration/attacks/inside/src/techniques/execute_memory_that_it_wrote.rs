//! Code in anonymous memory: what every JIT and every shellcode does.
//!
//! Source: ATT&CK T1620.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1620",
    tries: "mmap memory that is writable and executable",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let kind = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    call(
        "mmap",
        libc::SYS_mmap,
        [0, 4096, i64::from(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC), kind, -1, 0],
    )?;
    Ok("memory that is writable and executable".to_owned())
}
