//! perf_event_open: large, fast, and with a long history.
//!
//! Source: CVE-2023-5717, perf_event_open(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2023-5717", tries: "perf_event_open on itself", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // struct perf_event_attr: type (software), size, config (task clock).
    let mut attributes = [0u64; 16];
    attributes[0] = 1 | (128 << 32);
    attributes[1] = 1;
    // exclude_kernel, so that perf_event_paranoid 2 allows it.
    attributes[5] = 1 << 5;
    call("perf_event_open", libc::SYS_perf_event_open, [attributes.as_ptr() as i64, 0, -1, -1, 0, 0])?;
    Ok("a performance event".to_owned())
}
