//! Images that a container sees as volumes: their layers mounted once more, in the worker's mount namespace.
//!
//! ```text
//! layers ─overlay, nothing to write to─► TASK/images/N ─directory of it─► clone ─► attached, as every source is
//! ```
//! containerd has mounted the same layers on the host, with a directory that can be written to on top of them; what lies
//! there is not looked at.

use std::{
    fs::{DirBuilder, File},
    os::{fd::AsFd, unix::fs::DirBuilderExt as _},
    path::Path,
};

use bulkhead_model::ImageVolume;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::source::{self, Kind, Tree};
use crate::{LaunchError, rootfs, sys, sys::trees, user_namespace::Inside};

/// A clone of what is shown of an image, with the options of its mount. `dir` is for this one alone, in a mount namespace
/// of the worker's.
pub(super) fn image(
    volume: &ImageVolume,
    options: &[String],
    dir: &Path,
    inside: Option<&Inside>,
) -> Result<Tree, LaunchError> {
    let ImageVolume { source: _, layers, directory } = volume;
    let at = dir.join("layers");
    make(&at)?;
    rootfs::mount_all(std::slice::from_ref(layers), &at, rootfs::MOUNT_ATTR_RDONLY, inside, dir)?;
    let found = open(&at, directory)?;
    let shown = || at.join(directory).display().to_string();
    let what = trees::identity(found.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
    if !what.is_directory() {
        return Err(not_there(directory, Errno::ENOTDIR));
    }
    let fd = sys::open_tree_of(found.as_fd(), false).map_err(LaunchError::io("open_tree(2)", shown()))?;
    source::change(&fd, options).map_err(LaunchError::io("mount_setattr(2)", shown()))?;
    Ok(Tree { kind: Kind::Directory, fd })
}

fn make(dir: &Path) -> Result<(), LaunchError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(LaunchError::io("mkdir(2)", dir.display().to_string()))
}

/// A directory of the image, by links of its own: none leads out of it.
fn open(at: &Path, directory: &Path) -> Result<std::os::fd::OwnedFd, LaunchError> {
    let root = File::open(at).map_err(LaunchError::io("open(2)", at.display().to_string()))?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let name = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    openat2(&root, name, how).map_err(|errno| not_there(directory, errno))
}

fn not_there(directory: &Path, errno: Errno) -> LaunchError {
    let why = match errno {
        Errno::ENOENT => "the image has none of that name".to_owned(),
        Errno::ENOTDIR => "that is no directory of the image".to_owned(),
        Errno::EXDEV => "a link leads out of the image".to_owned(),
        errno => format!("openat2(2): {errno}"),
    };
    LaunchError::Failed(format!(
        "directory {} of an image volume: {why}; name one that the image has",
        directory.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn link_within_the_image_is_followed_and_one_out_of_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("real/a")).unwrap();
        symlink("real", image.join("in")).unwrap();
        symlink("../..", image.join("out")).unwrap();
        symlink("/etc", image.join("absolute")).unwrap();
        for directory in ["", "real/a", "in/a"] {
            open(&image, Path::new(directory)).unwrap();
        }
        for directory in ["out", "absolute", "none"] {
            let error = open(&image, Path::new(directory)).unwrap_err().to_string();
            assert!(error.contains(directory), "{error}");
        }
    }
}
