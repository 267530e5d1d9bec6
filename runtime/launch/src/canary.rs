//! A file outside of every ruleset: a confined process that can open it is not confined.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::LaunchError;

/// Makes the canary at `path`, root's and readable by all, or checks that it is there. To be called once by
/// the server; plans bind it into containers.
pub fn prepare_canary(path: &Path) -> Result<(), LaunchError> {
    let shown = || path.display().to_string();
    match OpenOptions::new().write(true).create_new(true).mode(0o444).open(path) {
        Ok(mut file) => file
            .write_all(b"canary\n")
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(0o444)))
            .map_err(LaunchError::io("write(2)", shown())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(LaunchError::io("stat(2)", shown()))?;
            if found.is_file() && found.uid() == 0 && found.mode() & 0o777 == 0o444 {
                Ok(())
            } else {
                Err(LaunchError::Plan("the canary is not a file of root's with mode 0444"))
            }
        }
        Err(error) => Err(LaunchError::io("open(2)", shown())(error)),
    }
}
