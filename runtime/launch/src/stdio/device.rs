//! Which device a stream is.

use std::os::fd::AsFd;

use nix::sys::stat::fstat;

/// Whether it is the character device of this number, and no block device of it.
pub(super) fn is_device(file: impl AsFd, number: u64) -> nix::Result<bool> {
    let what = fstat(file)?;
    Ok(what.st_mode & libc::S_IFMT == libc::S_IFCHR && what.st_rdev == number)
}
