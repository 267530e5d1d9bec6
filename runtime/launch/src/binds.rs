//! Bind mounts of a compatible container: each source cloned in the node's own mount namespace, before the worker
//! leaves it, so that a mount can follow or share with the node as the request says.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, openat2},
    mount::MsFlags,
};
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    LaunchError,
    blind::{self, c_path},
    rootfs::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY},
    sources, sys,
    sys::trees::{Change, Reach},
};

/// One bind mount of a plan, its options in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bind {
    /// Which of the plan's mounts.
    pub(crate) index: usize,
    path: PathBuf,
    options: Vec<String>,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// Anything else.
    File,
}

impl Kind {
    pub(crate) fn of(fd: &OwnedFd) -> io::Result<Self> {
        let metadata = File::from(fd.try_clone()?).metadata()?;
        Ok(if metadata.is_dir() { Self::Directory } else { Self::File })
    }

    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        Ok(if fs::metadata(path)?.is_dir() { Self::Directory } else { Self::File })
    }
}

/// A clone of a source, attached nowhere.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) index: usize,
    pub(crate) kind: Kind,
    pub(crate) fd: OwnedFd,
}

/// Whether libcontainer would bind.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind")
        || options.iter().any(|option| option == "bind" || option == "rbind")
}

/// The bind mounts of a spec, but for the view of control groups, which the worker itself makes.
pub(crate) fn of(spec: &Spec, task_dir: &Path) -> Vec<Bind> {
    let view = blind::cgroup_view(task_dir);
    let binds = spec.mounts().iter().flatten().enumerate().filter(|(_, mount)| is_bind(mount));
    let binds = binds.filter_map(|(index, mount)| {
        let path = mount.source().clone().filter(|source| *source != view)?;
        Some(Bind { index, path, options: mount.options().clone().unwrap_or_default() })
    });
    binds.collect()
}

/// Clones every source. To be called in the node's mount namespace: links are followed, as the node's they are.
pub(crate) fn clone_all(binds: &[Bind]) -> Result<Vec<Tree>, LaunchError> {
    binds.iter().map(Bind::clone_tree).collect()
}

/// Attaches a clone where libcontainer finds it, in the worker's own mount namespace.
pub(crate) fn pin(tree: &Tree, task_dir: &Path) -> Result<(), LaunchError> {
    let target = sources::pinned(task_dir, tree.index);
    let shown = || target.display().to_string();
    let dir = target.parent().ok_or(LaunchError::Plan("task directory"))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(LaunchError::io("mkdir(2)", shown()))?;
    match tree.kind {
        Kind::Directory => fs::create_dir(&target).map_err(LaunchError::io("mkdir(2)", shown()))?,
        Kind::File => File::create_new(&target).map(drop).map_err(LaunchError::io("open(2)", shown()))?,
    }
    sys::move_mount(tree.fd.as_fd(), &c_path(&target)?).map_err(LaunchError::io("move_mount(2)", shown()))
}

impl Bind {
    fn clone_tree(&self) -> Result<Tree, LaunchError> {
        let shown = || self.path.display().to_string();
        let has = |word: &str| self.options.iter().any(|option| option == word);
        let found = openat2(AT_FDCWD, &self.path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC))
            .map_err(LaunchError::io("openat2(2)", shown()))?;
        let kind = Kind::of(&found).map_err(LaunchError::io("fstat(2)", shown()))?;
        let fd = sys::open_tree_of(found.as_fd(), has("rbind"))
            .map_err(LaunchError::io("open_tree(2)", shown()))?;
        change(&fd, &self.options).map_err(LaunchError::io("mount_setattr(2)", shown()))?;
        Ok(Tree { index: self.index, kind, fd })
    }
}

/// Gives a clone what the options of its mount say.
pub(crate) fn change(tree: &OwnedFd, options: &[String]) -> io::Result<()> {
    changes(options).iter().try_for_each(|(reach, change)| sys::trees::change(tree.as_fd(), *reach, change))
}

/// What the options of a bind mount come to, in their order.
///
/// Source: mount(8); the recursive ones: OCI runtime-spec, config.md, "Linux mount options".
fn changes(options: &[String]) -> Vec<(Reach, Change)> {
    // Source: include/uapi/linux/mount.h.
    const ATIME: u64 = 0x70;
    const NOATIME: u64 = 0x10;
    const STRICTATIME: u64 = 0x20;
    const NODIRATIME: u64 = 0x80;
    const NOSYMFOLLOW: u64 = 0x20_0000;
    let (mut top, mut tree) = (Change::default(), Change::default());
    let mut propagation = None;
    for option in options {
        let (word, change) = match option.strip_prefix('r') {
            Some("o" | "w" | "elatime") | None => (option.as_str(), &mut top),
            Some(word) => (word, &mut tree),
        };
        let (set, clear) = match word {
            "ro" => (MOUNT_ATTR_RDONLY, 0),
            "rw" => (0, MOUNT_ATTR_RDONLY),
            "nosuid" => (MOUNT_ATTR_NOSUID, 0),
            "suid" => (0, MOUNT_ATTR_NOSUID),
            "nodev" => (MOUNT_ATTR_NODEV, 0),
            "dev" => (0, MOUNT_ATTR_NODEV),
            "noexec" => (MOUNT_ATTR_NOEXEC, 0),
            "exec" => (0, MOUNT_ATTR_NOEXEC),
            "nosymfollow" => (NOSYMFOLLOW, 0),
            "symfollow" => (0, NOSYMFOLLOW),
            "noatime" => (NOATIME, ATIME),
            "strictatime" => (STRICTATIME, ATIME),
            "relatime" => (0, ATIME),
            "nodiratime" => (NODIRATIME, 0),
            "diratime" => (0, NODIRATIME),
            "private" => {
                propagation = Some(MsFlags::MS_PRIVATE);
                continue;
            }
            "slave" => {
                propagation = Some(MsFlags::MS_SLAVE);
                continue;
            }
            "shared" => {
                propagation = Some(MsFlags::MS_SHARED);
                continue;
            }
            _ => continue,
        };
        // The last word counts.
        change.set = change.set & !clear & !(if set & ATIME != 0 { ATIME } else { 0 }) | set;
        change.clear = change.clear & !set | clear;
    }
    let recursive = |word: &str| options.iter().any(|option| option.strip_prefix('r') == Some(word));
    let mut changes = Vec::new();
    if let Some(flags) = propagation {
        let word = match flags {
            MsFlags::MS_PRIVATE => "private",
            MsFlags::MS_SLAVE => "slave",
            _ => "shared",
        };
        let reach = if recursive(word) { Reach::Tree } else { Reach::Top };
        changes.push((reach, Change { propagation: flags.bits(), ..Change::default() }));
    }
    for (reach, change) in [(Reach::Top, top), (Reach::Tree, tree)] {
        if change.set != 0 || change.clear != 0 {
            changes.push((reach, change));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &[&str]) -> Vec<(Reach, u64, u64, u64)> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        changes(&options).into_iter().map(|(reach, c)| (reach, c.set, c.clear, c.propagation)).collect()
    }

    #[test]
    fn words_hold_for_the_top_and_those_with_an_r_for_the_tree() {
        assert_eq!(run(&["rbind", "ro"]), [(Reach::Top, MOUNT_ATTR_RDONLY, 0, 0)]);
        assert_eq!(run(&["rbind", "rro"]), [(Reach::Tree, MOUNT_ATTR_RDONLY, 0, 0)]);
        assert_eq!(run(&["bind", "rw"]), [(Reach::Top, 0, MOUNT_ATTR_RDONLY, 0)]);
        let both = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        assert_eq!(run(&["rbind", "nosuid", "nodev"]), [(Reach::Top, both, 0, 0)]);
        assert_eq!(run(&["rbind", "relatime"]), [(Reach::Top, 0, 0x70, 0)]);
        assert_eq!(run(&["rbind"]), []);
    }

    #[test]
    fn propagation_is_of_the_tree_or_of_the_top() {
        let private = MsFlags::MS_PRIVATE.bits();
        assert_eq!(run(&["rbind", "rprivate"]), [(Reach::Tree, 0, 0, private)]);
        assert_eq!(run(&["bind", "private"]), [(Reach::Top, 0, 0, private)]);
        assert_eq!(run(&["rbind", "rslave"]), [(Reach::Tree, 0, 0, MsFlags::MS_SLAVE.bits())]);
        assert_eq!(run(&["rbind", "rshared"]), [(Reach::Tree, 0, 0, MsFlags::MS_SHARED.bits())]);
    }

    #[test]
    fn last_word_counts() {
        assert_eq!(run(&["rbind", "ro", "rw"]), [(Reach::Top, 0, MOUNT_ATTR_RDONLY, 0)]);
        assert_eq!(run(&["rbind", "rw", "ro"]), [(Reach::Top, MOUNT_ATTR_RDONLY, 0, 0)]);
    }
}
