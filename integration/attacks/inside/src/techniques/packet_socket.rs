//! Sees and forges every frame of the pod's network.
//!
//! Source: CVE-2017-7308, CVE-2020-14386.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2020-14386", tries: "socket(AF_PACKET)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("AF_PACKET", libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    Ok("a packet socket".to_owned())
}
