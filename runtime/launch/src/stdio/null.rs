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
const NULL: u64 = nix::sys::stat::makedev(1, 3);

/// Opens those of this process's standard streams that are `/dev/null` anew, for both directions: libcontainer 0.7
/// leaves a container's first process with read-only ones (`reopen_dev_null`), and its writes would fail.
pub(crate) fn open_null_for_both() -> io::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for (number, stream) in (0..).zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        if File::from(stream.try_clone_to_owned()?).metadata()?.rdev() != NULL {
            continue;
        }
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // The container's own, which libcontainer has looked at: nothing else may take a stream's place.
        if null.metadata()?.rdev() != NULL {
            return Err(io::Error::other("/dev/null is another device"));
        }
        sys::move_fd(null.into(), number)?;
    }
    Ok(())
}
