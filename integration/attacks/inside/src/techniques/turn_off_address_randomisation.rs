//! Switches ASLR off for what it starts next.
//!
//! Source: personality(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "personality(2)", tries: "personality(ADDR_NO_RANDOMIZE)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    call("personality", libc::SYS_personality, [0x004_0000, 0, 0, 0, 0, 0])?;
    Ok("ADDR_NO_RANDOMIZE is set".to_owned())
}
