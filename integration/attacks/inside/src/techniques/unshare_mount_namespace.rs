//! A mount namespace of one's own, where mounts can be rearranged.
//!
//! Source: mount_namespaces(7).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "mount_namespaces(7)", tries: "unshare(CLONE_NEWNS)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    call("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWNS), 0, 0, 0, 0, 0])?;
    Ok("new mount namespace".to_owned())
}
