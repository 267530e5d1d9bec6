//! A user namespace of one's own, with every capability in it: the door to most kernel bugs of recent years.
//!
//! Source: user_namespaces(7); CVE-2022-0185, CVE-2022-0492, CVE-2023-32233 begin so.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "user_namespaces(7), CVE-2022-0185",
    tries: "unshare(CLONE_NEWUSER) and hold every capability inside",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    call("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0])?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(Stop::at("/proc/self/status"))?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default().trim();
    Ok(format!("new user namespace, CapEff {held}"))
}
