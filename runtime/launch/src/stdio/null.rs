//! `/dev/null` where a stream leads nowhere.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use crate::sys;

/// The device that `/dev/null` is.
///
/// Source: Documentation/admin-guide/devices.txt.
pub(crate) const NULL: u64 = nix::sys::stat::makedev(1, 3);

/// Opens those of this process's standard streams that are `/dev/null` anew, for both directions: in the container, where what
/// is open is the node's until then.
pub(crate) fn open_null_for_both() -> io::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for (number, stream) in (0..).zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        if File::from(stream.try_clone_to_owned()?).metadata()?.rdev() != NULL {
            continue;
        }
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // The container's own: nothing else may take a stream's place.
        if null.metadata()?.rdev() != NULL {
            return Err(io::Error::other("/dev/null is another device"));
        }
        sys::move_fd(null.into(), number)?;
    }
    Ok(())
}
