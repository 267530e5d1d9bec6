//! Speaks to the kernel's audit.
//!
//! Source: audit(7), netlink(7).

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "netlink(7)", tries: "socket(NETLINK_AUDIT)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("NETLINK_AUDIT", libc::AF_NETLINK, libc::SOCK_RAW, 9)?;
    Ok("a NETLINK_AUDIT socket".to_owned())
}
