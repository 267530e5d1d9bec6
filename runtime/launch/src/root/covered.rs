//! Paths of the container that are read-only, and those that are masked: a file by `/dev/null`, a directory by one that is
//! empty.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, openat2},
    sys::stat::fstat,
};

use crate::{
    LaunchError,
    rootfs::MOUNT_ATTR_RDONLY,
    stdio::is_null,
    sys::{
        self, FsParameter,
        trees::{self, Change, Reach},
    },
};

/// Makes them read-only, as far as they are there; what else holds for them is their mount's, as under runc.
pub(super) fn read_only(paths: &[String]) -> Result<(), LaunchError> {
    let change = Change { set: MOUNT_ATTR_RDONLY, ..Change::default() };
    for path in paths {
        let Some(found) = open(path)? else { continue };
        let tree = clone(found.as_fd(), Reach::Tree, path)?;
        trees::change(tree.as_fd(), Reach::Top, &change)
            .map_err(LaunchError::io("mount_setattr(2)", path.as_str()))?;
        cover(&found, &tree, path)?;
    }
    Ok(())
}

/// Masks them, as far as they are there. `label` is SELinux'.
pub(super) fn masked(paths: &[String], label: Option<&str>) -> Result<(), LaunchError> {
    let (mut null, mut empty) = (None, None);
    for path in paths {
        let Some(found) = open(path)? else { continue };
        let what = fstat(&found).map_err(LaunchError::io("fstat(2)", path.as_str()))?;
        if what.st_mode & libc::S_IFMT != libc::S_IFDIR {
            let null: &OwnedFd = match &mut null {
                Some(null) => null,
                none => none.insert(open_null()?),
            };
            cover(&found, &clone(null.as_fd(), Reach::Top, path)?, path)?;
            continue;
        }
        match &empty {
            // One that is mounted can be cloned, which one of no place cannot before Linux 6.15.
            Some(empty) => cover(&found, &clone(AsFd::as_fd(empty), Reach::Top, path)?, path)?,
            None => {
                let tree = make_empty(label)?;
                cover(&found, &tree, path)?;
                empty = Some(tree);
            }
        }
    }
    Ok(())
}

/// Nothing where nothing is.
fn open(path: &str) -> Result<Option<OwnedFd>, LaunchError> {
    match openat2(AT_FDCWD, Path::new(path), OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(LaunchError::io("openat2(2)", path)(errno)),
    }
}

/// The container's own, proven to be that device: it may be the image's, where nothing is mounted on /dev.
fn open_null() -> Result<OwnedFd, LaunchError> {
    const PATH: &str = "/dev/null";
    let null = open(PATH)?.ok_or_else(|| LaunchError::Failed(format!("{PATH} is not there")))?;
    if !is_null(&null).map_err(LaunchError::io("fstat(2)", PATH))? {
        return Err(LaunchError::Failed(format!("{PATH} is another device: nothing can be masked with it")));
    }
    Ok(null)
}

/// A directory that is empty and stays so.
fn make_empty(label: Option<&str>) -> Result<OwnedFd, LaunchError> {
    let subject = "tmpfs of masked paths";
    let context = sys::fsopen(c"tmpfs").map_err(LaunchError::io("fsopen(2)", subject))?;
    let set = |parameter: &FsParameter<'_>| {
        sys::fsconfig(context.as_fd(), parameter).map_err(LaunchError::io("fsconfig(2)", subject))
    };
    set(&FsParameter::Text(c"source", c"tmpfs"))?;
    set(&FsParameter::Flag(c"ro"))?;
    if let Some(label) = label {
        let label =
            std::ffi::CString::new(label).map_err(|_| LaunchError::Plan("a label holds a zero byte"))?;
        set(&FsParameter::Text(c"context", &label))?;
    }
    set(&FsParameter::Create)?;
    sys::fsmount(context.as_fd(), MOUNT_ATTR_RDONLY).map_err(LaunchError::io("fsmount(2)", subject))
}

fn clone(found: BorrowedFd<'_>, reach: Reach, path: &str) -> Result<OwnedFd, LaunchError> {
    sys::open_tree_of(found, reach == Reach::Tree).map_err(LaunchError::io("open_tree(2)", path))
}

fn cover(found: &OwnedFd, tree: &OwnedFd, path: &str) -> Result<(), LaunchError> {
    trees::attach(tree.as_fd(), found.as_fd()).map_err(LaunchError::io("move_mount(2)", path))
}
