//! The clock is the host's.
//!
//! Source: adjtimex(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "adjtimex(2)", tries: "adjtimex", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let mut timex = [0i64; 26];
    call("adjtimex (read)", libc::SYS_adjtimex, [timex.as_mut_ptr() as i64, 0, 0, 0, 0, 0])?;
    // ADJ_FREQUENCY, to what it is.
    timex[0] = 2;
    call("adjtimex", libc::SYS_adjtimex, [timex.as_mut_ptr() as i64, 0, 0, 0, 0, 0])?;
    Ok("the clock's frequency was set".to_owned())
}
