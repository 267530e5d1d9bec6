//! A session keyring of a name of one's own.
//!
//! Source: keyctl(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2016-0728",
    tries: "keyctl(KEYCTL_JOIN_SESSION_KEYRING)",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    call("keyctl", libc::SYS_keyctl, [1, 0, 0, 0, 0, 0])?;
    Ok("a new session keyring".to_owned())
}
