//! NETLINK_NETFILTER: the door to nf_tables.
//!
//! Source: CVE-2024-1086.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2024-1086", tries: "socket(NETLINK_NETFILTER)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("NETLINK_NETFILTER", libc::AF_NETLINK, libc::SOCK_RAW, 12)?;
    Ok("a NETLINK_NETFILTER socket".to_owned())
}
