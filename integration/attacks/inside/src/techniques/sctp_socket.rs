//! SCTP goes round Landlock's rules for TCP ports, and has a history.
//!
//! Source: CVE-2019-8956.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2019-8956", tries: "socket(IPPROTO_SCTP)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("SCTP", libc::AF_INET, libc::SOCK_STREAM, 132)?;
    Ok("an SCTP socket".to_owned())
}
