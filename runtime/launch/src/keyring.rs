//! A session keyring of the container's own, at the compatible level: without it a process that may call keyctl(2)
//! would have that of containerd. The baseline profile of the hardened level has no keyctl(2).
//!
//! Source: `JoinSessionKeyring` and `ModKeyringPerm`, runc libcontainer/keys; `getSessionRingParams`,
//! libcontainer/init_linux.go.

use std::{ffi::CString, io, os::fd::OwnedFd};

use crate::{LaunchError, label, sys};

/// What a process of the owner's may do that does not possess the keyring: search it.
///
/// Source: `KEY_USR_SEARCH`, include/linux/key.h.
const USER_MAY_SEARCH: u32 = 0x0008_0000;

/// Makes or joins the keyring of a container, for this process and those that it makes.
pub(crate) fn join(container: &str, proc: &OwnedFd, selinux_label: Option<&str>) -> Result<(), LaunchError> {
    let name = format!("_ses.{container}");
    let failed = |call| LaunchError::io::<io::Error>(call, name.clone());
    if let Some(label) = selinux_label {
        label::of_keyrings(proc, label).map_err(LaunchError::Failed)?;
    }
    let text = CString::new(name.as_str()).map_err(|_| LaunchError::Plan("an id holds a zero byte"))?;
    let keyring = match sys::keys::join_session(&text) {
        // A kernel without keys.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
        keyring => keyring.map_err(failed("keyctl(2) KEYCTL_JOIN_SESSION_KEYRING"))?,
    };
    let permissions = sys::keys::permissions(keyring).map_err(failed("keyctl(2) KEYCTL_DESCRIBE"))?;
    sys::keys::set_permissions(keyring, permissions | USER_MAY_SEARCH)
        .map_err(failed("keyctl(2) KEYCTL_SETPERM"))
}
