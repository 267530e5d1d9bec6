//! Addresses and secrets of other tenants.
//!
//! Source: syslog(2), ATT&CK T1082.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "syslog(2)", tries: "syslog(SYSLOG_ACTION_READ_ALL)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let mut bytes = [0u8; 256];
    call("syslog", libc::SYS_syslog, [3, bytes.as_mut_ptr() as i64, 256, 0, 0, 0])?;
    Ok("the kernel's log was read".to_owned())
}
