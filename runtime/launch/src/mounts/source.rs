//! What is mounted: a new file system, or a clone of something of the node's, attached nowhere yet.
//!
//! ```text
//! /srv/data/a/b   root /srv/data: the node's, links and all   a/b: tenants may write there, no link is followed
//! ```
//! A source is opened once, and what was looked at is what is mounted.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    mount::MsFlags,
};
use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::{
    LaunchError,
    sys::{
        self, FsParameter,
        trees::{self, Change, Reach},
    },
};

/// Who may have made the links on the way to a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Links {
    /// The node: all are followed. Of a compatible container.
    Node,
    /// The node as far as this directory, tenants below it.
    NodeAsFarAs(PathBuf),
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// Anything else.
    File,
}

/// A mount that is attached nowhere.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) kind: Kind,
    pub(super) fd: OwnedFd,
}

/// A clone of what is mounted at `path`, with the options of its mount.
pub(super) fn bind(path: &Path, links: &Links, options: &[String]) -> Result<Tree, LaunchError> {
    let shown = || path.display().to_string();
    let found = match links {
        Links::Node => openat2(AT_FDCWD, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC))
            .map_err(LaunchError::io("openat2(2)", shown()))?,
        Links::NodeAsFarAs(root) => open_below(root, path)?,
    };
    let recursive = options.iter().any(|option| option == "rbind");
    let what = trees::identity(found.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
    let fd = sys::open_tree_of(found.as_fd(), recursive).map_err(LaunchError::io("open_tree(2)", shown()))?;
    // A clone shares with the node's mount: what is mounted below it here would stay on the node. runc makes its whole
    // namespace a slave first.
    if !Options::read(options).shared() {
        let slave = Change { propagation: MsFlags::MS_SLAVE.bits(), ..Change::default() };
        trees::change(fd.as_fd(), Reach::Tree, &slave)
            .map_err(LaunchError::io("mount_setattr(2)", shown()))?;
    }
    change(&fd, options).map_err(LaunchError::io("mount_setattr(2)", shown()))?;
    let kind = if what.is_directory() { Kind::Directory } else { Kind::File };
    Ok(Tree { kind, fd })
}

/// Gives a clone what the options of its mount say.
pub(super) fn change(tree: &OwnedFd, options: &[String]) -> io::Result<()> {
    let changes = Options::read(options).changes();
    changes.iter().try_for_each(|(reach, change)| trees::change(tree.as_fd(), *reach, change))
}

fn open_below(root: &Path, path: &Path) -> Result<OwnedFd, LaunchError> {
    let shown = || path.display().to_string();
    let how = |resolve| OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let found = openat2(AT_FDCWD, root, how(ResolveFlag::RESOLVE_NO_MAGICLINKS))
        .map_err(LaunchError::io("openat2(2)", root.display().to_string()))?;
    let below = path.strip_prefix(root).map_err(|_| LaunchError::Plan("a source is not below its root"))?;
    if below.as_os_str().is_empty() {
        return Ok(found);
    }
    let strict = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(&found, below, how(strict)).map_err(|errno| match errno {
        Errno::ELOOP | Errno::EXDEV => LaunchError::Failed(format!(
            "the source {} of a mount leads through a symbolic link below {}: whoever can write there would choose \
             what is mounted; name the directory itself",
            shown(),
            root.display()
        )),
        errno => LaunchError::io("openat2(2)", shown())(errno),
    })
}

/// A new file system, of the namespaces of the caller where its kind is of one.
pub(super) fn file_system(
    kind: &str,
    source: &str,
    options: &Options<'_>,
    label: Option<&str>,
) -> Result<Tree, LaunchError> {
    let context = sys::fsopen(&text(kind)?).map_err(LaunchError::io("fsopen(2)", kind))?;
    let set = |parameter: &FsParameter<'_>, shown: &str| -> Result<(), LaunchError> {
        sys::fsconfig(context.as_fd(), parameter)
            .map_err(|error: io::Error| LaunchError::io("fsconfig(2)", format!("{kind} {shown}"))(error))
    };
    set(&FsParameter::Text(c"source", &text(source)?), source)?;
    // A namespace has one mqueue, which the kernel has labelled when it made it: its root is labelled like a file, as runc
    // does.
    let (root_label, label) = if kind == "mqueue" { (label, None) } else { (None, label) };
    let label = label.map(|label| format!("context={label}"));
    for parameter in options.parameters.iter().copied().chain(label.as_deref()) {
        match parameter.split_once('=') {
            Some((key, value)) => set(&FsParameter::Text(&text(key)?, &text(value)?), parameter)?,
            None => set(&FsParameter::Flag(&text(parameter)?), parameter)?,
        }
    }
    set(&FsParameter::Create, "create")?;
    let fd =
        sys::fsmount(context.as_fd(), options.attributes()).map_err(LaunchError::io("fsmount(2)", kind))?;
    if let Some(label) = root_label {
        let path = text(&format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        sys::set_attribute(&path, c"security.selinux", label.as_bytes())
            .map_err(LaunchError::io("setxattr(2)", format!("{kind} security.selinux={label}")))?;
    }
    Ok(Tree { kind: Kind::Directory, fd })
}

fn text(text: &str) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| LaunchError::Plan("a mount holds a zero byte"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn link_below_the_root_is_refused_and_one_above_it_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("real/a")).unwrap();
        symlink("real", dir.path().join("node")).unwrap();
        symlink("/", dir.path().join("real/out")).unwrap();
        symlink("a", dir.path().join("real/in")).unwrap();
        let root = dir.path().join("node");
        open_below(&root, &root.join("a")).unwrap();
        open_below(&root, &root).unwrap();
        for link in ["out", "out/etc", "in"] {
            let error = open_below(&root, &root.join(link)).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
        }
    }
}
