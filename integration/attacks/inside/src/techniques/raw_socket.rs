//! Forges addresses: ARP and DNS of its neighbours.
//!
//! Source: CAP_NET_RAW; CVE-2019-15847.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "raw(7)", tries: "socket(SOCK_RAW)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("raw sockets", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    Ok("a raw socket".to_owned())
}
