//! MPTCP goes round Landlock's rules for TCP ports.
//!
//! Source: landlock(7), FACTS on Go 1.24.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "landlock(7)", tries: "socket(IPPROTO_MPTCP)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("MPTCP", libc::AF_INET, libc::SOCK_STREAM, 262)?;
    Ok("an MPTCP socket".to_owned())
}
