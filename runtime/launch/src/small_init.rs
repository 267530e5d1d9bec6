//! The small init as a file of the node's, which containers see: written once, by whoever launches.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use crate::LaunchError;

/// Root's, and to be changed by nobody.
const MODE: u32 = 0o555;

/// What its file is called: another version is another file, because containers run the old one.
#[must_use]
pub fn init_name() -> String {
    let hex = bulkhead_model::Digest::of(bulkhead_init::PROGRAM).hex().to_owned();
    format!("init-{}", hex.get(..12).unwrap_or(&hex))
}

/// Makes the file at `path`, or checks that it is there. To be called by the server; plans bind it into containers.
pub fn prepare_init(path: &Path) -> Result<(), LaunchError> {
    let failed = |call: &'static str| LaunchError::io(call, path.display().to_string());
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.uid() == 0 && found.mode() & 0o7777 == MODE => {
            let text = fs::read(path).map_err(failed("read(2)"))?;
            if text == bulkhead_init::PROGRAM {
                return Ok(());
            }
            return Err(LaunchError::Plan("the small init is not the one that belongs to this version"));
        }
        Ok(_) => return Err(LaunchError::Plan("the small init is not a file of root's with mode 0555")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("stat(2)")(error)),
    }
    // Under a name of its own until it is whole: another server may need it at this moment.
    let unfinished = path.with_extension(std::process::id().to_string());
    // One of this name is of a server that was killed at it.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("unlink(2)")(error)),
        Ok(()) | Err(_) => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(bulkhead_init::PROGRAM)?;
            file.set_permissions(fs::Permissions::from_mode(MODE))
        })
        .and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|error| {
        drop(fs::remove_file(&unfinished));
        failed("write(2)")(error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn file_is_made_once_and_another_of_its_name_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(init_name());
        prepare_init(&path).unwrap();
        let made = fs::metadata(&path).unwrap();
        prepare_init(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), made.ino());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(prepare_init(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).unwrap();
        assert!(prepare_init(&path).is_err());
    }
}
