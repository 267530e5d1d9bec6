//! Keyrings are not namespaced by container.
//!
//! Source: CVE-2016-0728, keyctl(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2016-0728", tries: "add_key to a session keyring", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let (kind, name, value) =
        (c"user".as_ptr() as i64, c"bulkhead-attack".as_ptr() as i64, c"x".as_ptr() as i64);
    // KEY_SPEC_PROCESS_KEYRING
    call("add_key", libc::SYS_add_key, [kind, name, value, 1, -2, 0])?;
    Ok("a key in a process keyring".to_owned())
}
