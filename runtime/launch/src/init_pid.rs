//! The pid that a container's first process had, for whoever has to tell of its end after the server died.
//!
//! Never here: a signal. The pid may be another's by now.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::LaunchError;

/// A link, which is one system call.
fn link(task_dir: &Path) -> PathBuf {
    task_dir.join("init-pid")
}

pub(crate) fn write(task_dir: &Path, pid: i32) -> Result<(), LaunchError> {
    let link = link(task_dir);
    symlink(pid.to_string(), &link).map_err(LaunchError::io("symlink(2)", link.display().to_string()))
}

/// The pid as it was written down; none where it had not come to that.
#[must_use]
pub fn read(task_dir: &Path) -> Option<u32> {
    fs::read_link(link(task_dir)).ok()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pid_is_read_as_it_was_written_and_none_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        write(dir.path(), 42).unwrap();
        assert_eq!(read(dir.path()), Some(42));
        fs::remove_file(link(dir.path())).unwrap();
        symlink("../x", link(dir.path())).unwrap();
        assert_eq!(read(dir.path()), None);
    }
}
