//! fanotify: watches, and on a whole file system.
//!
//! Source: fanotify(7).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "fanotify(7)", tries: "fanotify_init", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // FAN_REPORT_FID: allowed to everybody since 5.13.
    call("fanotify_init", libc::SYS_fanotify_init, [0x200, 0, 0, 0, 0, 0])?;
    Ok("a fanotify group".to_owned())
}
