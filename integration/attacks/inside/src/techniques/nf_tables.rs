//! nf_tables, where the container was given CAP_NET_ADMIN.
//!
//! Source: CVE-2024-1086.

use crate::{Stop, Technique, netlink};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2024-1086", tries: "make an nf_tables table", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    netlink::new_table()
}
