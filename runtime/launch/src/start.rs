//! Start: libcontainer's notify socket is poked, without libcontainer and without a change of directory.

use std::{
    fs::File,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
};

use crate::LaunchError;

/// Source: `NOTIFY_FILE`, libcontainer 0.7 notify_socket.rs.
pub(crate) const NOTIFY_FILE: &str = "notify.sock";

/// Lets the process that waits in `notify_dir` go on. The socket is reached through /proc/self/fd, since its
/// own path may be longer than what an address can hold (108 bytes, `sun_path`).
pub(crate) fn release(notify_dir: &Path) -> Result<(), LaunchError> {
    let shown = notify_dir.join(NOTIFY_FILE).display().to_string();
    let dir = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH)
        .open(notify_dir)
        .map_err(LaunchError::io("open(2)", notify_dir.display().to_string()))?;
    let mut socket = UnixStream::connect(format!("/proc/self/fd/{}/{NOTIFY_FILE}", dir.as_raw_fd()))
        .map_err(LaunchError::io("connect(2)", shown.clone()))?;
    socket.write_all(b"start").map_err(LaunchError::io("write(2)", shown))
}
