//! The loopback interface of a container whose network namespace is new: up, as runc has it, or nothing in the
//! container reaches 127.0.0.1. Nothing that the container is granted could do it later.
//!
//! Never here: a namespace that the request names by its path. That is the network plugin's.

use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{LaunchError, sys};

/// Brings it up in the network namespace of this process.
pub(crate) fn up() -> Result<(), LaunchError> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(LaunchError::io("socket(2)", "loopback"))?;
    sys::interface_up(any.as_fd(), c"lo").map_err(LaunchError::io("ioctl(2) SIOCSIFFLAGS", "lo"))
}
