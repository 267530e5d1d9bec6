//! The same from a user namespace: how CVE-2022-0185 was reached without any privilege.
//!
//! Source: CVE-2022-0185.

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2022-0185",
    tries: "unshare user and mount namespaces, then fsopen and fsconfig",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    sys::become_root_in_a_user_namespace(libc::CLONE_NEWNS)?;
    let context = call("fsopen", libc::SYS_fsopen, [c"tmpfs".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    let (key, value) = (c"source".as_ptr() as i64, c"x".as_ptr() as i64);
    call("fsconfig", libc::SYS_fsconfig, [context, 1, key, value, 0, 0])?;
    Ok("fsconfig took an option in an own user namespace".to_owned())
}
