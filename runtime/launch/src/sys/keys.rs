//! keyctl(2).

use std::{ffi::CStr, io};

use super::check;

// Source: include/uapi/linux/keyctl.h.
const JOIN_SESSION_KEYRING: libc::c_ulong = 1;
const SETPERM: libc::c_ulong = 5;
const DESCRIBE: libc::c_ulong = 6;

/// Longest description that is read: type, ids, permissions and a name of a few dozen bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Joins the session keyring of that name, or makes it; its number.
pub(crate) fn join_session(name: &CStr) -> io::Result<i32> {
    // SAFETY: the kernel reads the zero-terminated name, which lives during the call.
    let id = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    i32::try_from(id).map_err(io::Error::other)
}

/// Permissions of a key.
pub(crate) fn permissions(key: i32) -> io::Result<u32> {
    let mut text = [0_u8; DESCRIPTION_BYTES_MAX];
    // SAFETY: the kernel writes at most as many bytes as the length that it is given, to memory that is ours.
    let length =
        check(unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, key, text.as_mut_ptr(), text.len()) })?;
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    // keyring;UID;GID;PERMISSIONS;NAME
    let text = String::from_utf8_lossy(&text[..length]);
    let field = text.split(';').nth(3).ok_or_else(|| io::Error::other("description is short"))?;
    u32::from_str_radix(field, 16).map_err(io::Error::other)
}

/// Sets them.
pub(crate) fn set_permissions(key: i32, permissions: u32) -> io::Result<()> {
    // SAFETY: keyctl(2) takes integers here.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, key, permissions) }).map(drop)
}
