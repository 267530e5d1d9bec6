//! What was mounted where, kept for the Landlock rules of the processes that come later: in the container's directory, which is
//! root's alone.
//!
//! Invariant: taken of the descriptor of the mount itself when it was attached, never looked up by a name.

use std::{
    fs,
    io::Write as _,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bulkhead_model::{MountRoot, MountRoots};

use super::source::Tree;
use crate::{LaunchError, sys::trees};

fn file(task_dir: &Path) -> PathBuf {
    task_dir.join("mounts.json")
}

/// The root of a mount that has landed.
pub(super) fn root(tree: &Tree, at: PathBuf) -> Result<MountRoot, LaunchError> {
    let shown = || at.display().to_string();
    let what = trees::identity(tree.fd.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
    Ok(MountRoot { at, device: what.device, inode: what.inode })
}

pub(crate) fn write(task_dir: &Path, roots: &MountRoots) -> Result<(), LaunchError> {
    let path = file(task_dir);
    let text = serde_json::to_vec(roots).map_err(LaunchError::Encode)?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&text))
        .map_err(LaunchError::io("write(2)", path.display().to_string()))
}

/// Those of the container whose directory this is. Without them no process joins it.
pub(crate) fn read(task_dir: &Path) -> Result<MountRoots, LaunchError> {
    let path = file(task_dir);
    let text = fs::read(&path).map_err(LaunchError::io("read(2)", path.display().to_string()))?;
    serde_json::from_slice(&text).map_err(LaunchError::Encode)
}
