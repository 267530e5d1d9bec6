//! modify_ldt: a corner of x86 that nobody needs, with bugs of its own.
//!
//! Source: CVE-2015-5157, modify_ldt(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2015-5157", tries: "modify_ldt writes an entry", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // struct user_desc: entry, base, limit, flags (32-bit data segment, not present).
    let entry: [u32; 4] = [0, 0, 0, 0x2B];
    call("modify_ldt", libc::SYS_modify_ldt, [1, entry.as_ptr() as i64, 16, 0, 0, 0])?;
    Ok("an entry in the LDT".to_owned())
}
