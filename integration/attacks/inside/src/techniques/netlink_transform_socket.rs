//! NETLINK_XFRM: IPsec's policies.
//!
//! Source: CVE-2017-7184, CVE-2023-3772.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2017-7184", tries: "socket(NETLINK_XFRM)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("NETLINK_XFRM", libc::AF_NETLINK, libc::SOCK_RAW, 6)?;
    Ok("a NETLINK_XFRM socket".to_owned())
}
