//! Which control group a container's directory belongs to, for whoever cleans up after a server that died: a link, which
//! is one system call.
//!
//! Invariant: made before the group, right after the directory. Without it there is no group.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use bulkhead_cgroup::CgroupPath;

use crate::LaunchError;

fn link(task_dir: &Path) -> PathBuf {
    task_dir.join("cgroup-path")
}

pub(crate) fn write(task_dir: &Path, path: &CgroupPath) -> Result<(), LaunchError> {
    let link = link(task_dir);
    symlink(String::from(path.clone()), &link)
        .map_err(LaunchError::io("symlink(2)", link.display().to_string()))
}

/// The control group of the container whose directory this is; none when it had not come to that.
///
/// # Errors
/// The link cannot be read, or names no control group.
pub fn read(task_dir: &Path) -> Result<Option<CgroupPath>, LaunchError> {
    let link = link(task_dir);
    match fs::read_link(&link) {
        Ok(target) => match target.to_string_lossy().parse() {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err(LaunchError::Failed(format!("{} names no control group", link.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LaunchError::io("readlink(2)", link.display().to_string())(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_control_group_is_found_by_its_link_and_none_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let path: CgroupPath = "/kubepods/pod1/c1".parse().unwrap();
        write(dir.path(), &path).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(path));
        fs::remove_file(link(dir.path())).unwrap();
        symlink("../..", link(dir.path())).unwrap();
        assert!(read(dir.path()).is_err());
    }
}
