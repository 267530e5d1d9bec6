//! The terminal of a container's first process, made in the container by its root before it confines itself. That of an exec is
//! libcontainer's, which finds it the same way.
//!
//! Invariant: what answers as a master, and what is shown as /dev/console, is a terminal of the container's own devpts.
//!
//! Source: runc, libcontainer/console_linux.go (CVE-2025-52565).

use std::{
    io::IoSlice,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        stat::Mode,
        statfs::{FsType, fstatfs},
    },
};

use super::{console::PTMX, device::is_device};
use crate::{
    LaunchError,
    sys::{self, terminal, trees},
};

/// Where the container's terminals are.
const MASTERS: &str = "/dev/pts/ptmx";

/// What a program opens that wants the container's own.
const CONSOLE: &str = "/dev/console";

/// Source: `DEVPTS_SUPER_MAGIC`, include/uapi/linux/magic.h.
const DEVPTS: FsType = FsType(0x1cd1);

/// Makes it in the root that this process is in, shows it as /dev/console, and sends its master to the worker. The three ends
/// that the process gets.
pub(crate) fn make(worker: OwnedFd) -> Result<[OwnedFd; 3], LaunchError> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let master = openat2(AT_FDCWD, MASTERS, how).map_err(LaunchError::io("openat2(2)", MASTERS))?;
    let is_master = is_device(&master, PTMX).map_err(LaunchError::io("fstat(2)", MASTERS))?;
    let system = fstatfs(&master).map_err(LaunchError::io("fstatfs(2)", MASTERS))?;
    if !is_master || system.filesystem_type() != DEVPTS {
        return Err(LaunchError::Failed(format!("{MASTERS} is not where terminals are made")));
    }
    terminal::unlock(master.as_fd()).map_err(LaunchError::io("ioctl(2) TIOCSPTLCK", MASTERS))?;
    let slave =
        terminal::slave_of(master.as_fd()).map_err(LaunchError::io("ioctl(2) TIOCGPTPEER", MASTERS))?;
    show(&slave)?;
    let fds = [master.as_raw_fd()];
    sendmsg::<()>(
        worker.as_raw_fd(),
        &[IoSlice::new(MASTERS.as_bytes())],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(LaunchError::io("sendmsg(2)", "terminal"))?;
    let copy = || slave.try_clone().map_err(LaunchError::io("dup(2)", "terminal"));
    Ok([copy()?, copy()?, slave])
}

/// Over a file of that name, made where there is none; a link is not followed.
fn show(slave: &OwnedFd) -> Result<(), LaunchError> {
    let plain = ResolveFlag::RESOLVE_NO_SYMLINKS;
    let make = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o666))
        .resolve(plain);
    match openat2(AT_FDCWD, CONSOLE, make) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(LaunchError::io("openat2(2)", CONSOLE)(errno)),
    }
    let open = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(plain);
    let place = openat2(AT_FDCWD, CONSOLE, open).map_err(LaunchError::io("openat2(2)", CONSOLE))?;
    let tree =
        sys::open_tree_of(slave.as_fd(), false).map_err(LaunchError::io("open_tree(2)", "terminal"))?;
    trees::attach(tree.as_fd(), place.as_fd()).map_err(LaunchError::io("move_mount(2)", CONSOLE))
}
