//! Layers of an image with the owners that a user namespace gives them: what they share is mounted once more, id-mapped,
//! and the overlay is made of that.
//!
//! ```text
//! …/snapshots ─clone, MOUNT_ATTR_IDMAP─► DIR     lowerdir=DIR/2/fs:DIR/1/fs, upperdir=DIR/3/fs, workdir=DIR/3/work
//! ```
//! An overlay cannot be id-mapped itself; layers can from Linux 5.19.

use std::{
    fs::{DirBuilder, File},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use bulkhead_model::Mount;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    LaunchError,
    blind::c_path,
    rootfs::shared_directory,
    sys::{self, trees::Reach},
    user_namespace::Inside,
};

/// Options of an overlay that name directories.
const LOWER: &str = "lowerdir=";
const WRITTEN: [&str; 2] = ["upperdir=", "workdir="];

pub(crate) fn of(inside: &Inside, mount: &Mount, dir: &Path) -> Result<Mount, LaunchError> {
    let is_map = |option: &&String| option.starts_with("uidmap=") || option.starts_with("gidmap=");
    if mount.options.iter().filter(is_map).any(|option| !inside.is_option(option)) {
        return Err(LaunchError::Plan(
            "the snapshot was made for other ids than those of the user namespace",
        ));
    }
    let made_for_it = mount.options.iter().any(|option| is_map(&option));
    let mut mount = mount.clone();
    mount.options.retain(|option| !is_map(&option));
    match mount.kind.as_str() {
        "overlay" => {}
        // Id-mapped where it is cloned.
        _ if mount.options.iter().any(|option| option == "bind" || option == "rbind") => return Ok(mount),
        kind => {
            return Err(LaunchError::Failed(format!(
                "a root file system of type {kind:?} is not mounted with shifted owners: use containerd's overlayfs \
                 snapshotter, or have policy say user_namespace = \"root-only\""
            )));
        }
    }
    let mapped = |option: &str| -> Option<usize> {
        let written = WRITTEN.iter().find(|name| !made_for_it && option.starts_with(**name));
        written.copied().or(option.starts_with(LOWER).then_some(LOWER)).map(str::len)
    };
    // What the worker has made beside it shows nothing of an image.
    let ours = |path: &str| dir.parent().is_some_and(|own| Path::new(path).starts_with(own));
    let paths = |option: &str, name: usize| option[name..].split(':').map(str::to_owned).collect::<Vec<_>>();
    let options = mount.options.iter();
    let all: Vec<String> = options
        .filter_map(|option| Some(paths(option, mapped(option)?)))
        .flatten()
        .filter(|path| !ours(path))
        .collect();
    let shared = shared_directory(&all.join(":"));
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let found = File::options()
        .read(true)
        .custom_flags(flags)
        .open(&shared)
        .map_err(LaunchError::io("open(2)", shared.clone()))?;
    for path in &all {
        is_below(found.as_fd(), &shared, path)?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(LaunchError::io("mkdir(2)", dir.display().to_string()))?;
    let tree =
        sys::open_tree_of(found.as_fd(), false).map_err(LaunchError::io("open_tree(2)", shared.clone()))?;
    inside.map_one(tree.as_fd(), Reach::Top, &format!("the image ({shared})"))?;
    sys::move_mount(tree.as_fd(), &c_path(dir)?)
        .map_err(LaunchError::io("move_mount(2)", dir.display().to_string()))?;
    for option in &mut mount.options {
        if let Some(name) = mapped(option) {
            let moved = paths(option, name).into_iter().map(|path| match ours(&path) {
                true => path,
                false => format!("{}/{}", dir.display(), path[shared.len()..].trim_start_matches('/')),
            });
            let moved = moved.collect::<Vec<_>>();
            *option = format!("{}{}", &option[..name], moved.join(":"));
        }
    }
    Ok(mount)
}

/// Demands that the mount of the shared directory is that of the layer.
fn is_below(shared: BorrowedFd<'_>, name: &str, path: &str) -> Result<(), LaunchError> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve);
    let below = path[name.len()..].trim_start_matches('/');
    openat2(shared, below, how)
        .map(drop)
        .map_err(LaunchError::io("openat2(2)", format!("layer {path}: a directory of the mount of {name}")))
}
