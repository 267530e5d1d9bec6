//! nf_tables with CAP_NET_ADMIN of one's own making: the most exploited subsystem of 2022 to 2024.
//!
//! Source: CVE-2022-32250, CVE-2023-32233, CVE-2024-1086.

use crate::{Stop, Technique, netlink, sys};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2024-1086",
    tries: "unshare user and net namespaces, then speak to nf_tables",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    sys::become_root_in_a_user_namespace(libc::CLONE_NEWNET)?;
    netlink::new_table()
}
