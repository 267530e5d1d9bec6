//! `/dev/null` where a stream leads nowhere.

use std::{fs::OpenOptions, io, os::fd::AsFd};

use super::device::is_device;
use crate::sys;

/// The device that `/dev/null` is.
///
/// Source: Documentation/admin-guide/devices.txt.
const NULL: u64 = nix::sys::stat::makedev(1, 3);

/// Whether it is that device.
pub(crate) fn is_null(file: impl AsFd) -> io::Result<bool> {
    Ok(is_device(file, NULL)?)
}

/// Opens those of this process's standard streams that are `/dev/null` anew, for both directions: in the container, where what
/// is open is the node's until then.
pub(crate) fn open_null_for_both() -> io::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for (number, stream) in (0..).zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        if !is_null(stream)? {
            continue;
        }
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // The container's own: nothing else may take a stream's place.
        if !is_null(&null)? {
            return Err(io::Error::other("/dev/null is another device"));
        }
        sys::move_fd(null.into(), number)?;
    }
    Ok(())
}
