//! Bind mounts that libcontainer must not make, at the compatible level: the worker attaches them in the container's
//! mount namespace, when libcontainer is done and the container's process waits for Start.
//!
//! - A bind on `/dev`: libcontainer would make its devices and links in the node's own directory.
//! - A source with control groups below it (`/`, `/sys`, …): libcontainer would find them in its mount table and use them.
//! - One that shares with the node what is mounted below it: libcontainer knows no propagation, and only a mount that
//!   was cloned in the node's own namespace is a peer of the node's.
//!
//! What a later mount of the request put below such a place is put there again, in the request's order, and what is
//! masked or read-only below it is so again.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns},
    sys::stat::{Mode, mkdirat},
};
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    LaunchError,
    binds::{self, Kind, Tree},
    sys,
};

const DEV: &str = "/dev";

/// What the worker does after libcontainer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Late {
    /// In the request's order.
    pub(crate) mounts: Vec<LateMount>,
    /// Whether `/` is shared: within the container, where everything is its own.
    pub(crate) shared_root: bool,
}

/// One bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LateMount {
    /// Which of the plan's mounts.
    pub(crate) index: usize,
    destination: PathBuf,
    /// Whether another mount holds the place of it.
    nested: bool,
    /// Later mounts below it that libcontainer has made.
    below: Vec<PathBuf>,
    masked: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
}

impl Late {
    /// Those of a compatible container's spec.
    pub(crate) fn of(spec: &Spec) -> Self {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let linux = spec.linux().as_ref();
        let below = |paths: Option<&Vec<String>>, at: &Path| -> Vec<PathBuf> {
            let paths = paths.into_iter().flatten().map(PathBuf::from);
            paths.filter(|path| path.starts_with(at)).collect()
        };
        let late = mounts.iter().enumerate().filter(|(_, mount)| is_late(mount)).map(|(index, mount)| {
            let at = mount.destination();
            let later = mounts.iter().skip(index + 1).filter(|later| !is_late(later));
            let later = later.map(Mount::destination).filter(|later| later.starts_with(at) && *later != at);
            let console = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
                && at == Path::new(DEV);
            LateMount {
                index,
                destination: at.clone(),
                nested: mounts
                    .iter()
                    .any(|other| at != other.destination() && at.starts_with(other.destination())),
                below: later.cloned().chain(console.then(|| PathBuf::from("/dev/console"))).collect(),
                masked: below(linux.and_then(|linux| linux.masked_paths().as_ref()), at),
                read_only: below(linux.and_then(|linux| linux.readonly_paths().as_ref()), at),
            }
        });
        let root = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        Self { mounts: late.collect(), shared_root: matches!(root, Some("shared" | "rshared")) }
    }

    /// Whether the mount of that index is one of these.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.mounts.iter().any(|late| late.index == index)
    }

    /// Makes their places in the root file system, which may be read-only later.
    pub(crate) fn prepare(&self, root: &Path, trees: &[Tree]) -> Result<(), LaunchError> {
        for late in self.mounts.iter().filter(|late| !late.nested) {
            let kind = trees.iter().find(|tree| tree.index == late.index).map(|tree| tree.kind);
            let at = &late.destination;
            let failed =
                |call| LaunchError::io::<Errno>(call, format!("place of the mount on {}", at.display()));
            let root = directory(root).map_err(failed("openat2(2)"))?;
            if matches!(open(&root, at), Err(Errno::ENOENT)) {
                make(&root, at, kind.unwrap_or(Kind::Directory)).map_err(failed("mkdir(2)"))?;
            }
        }
        Ok(())
    }

    /// Attaches `trees` in the mount namespace of `pid`. This process stays there: to be called last.
    pub(crate) fn attach(&self, pid: i32, mut trees: Vec<Tree>) -> Result<(), LaunchError> {
        if self.mounts.is_empty() && !self.shared_root {
            return Ok(());
        }
        let path = format!("/proc/{pid}/ns/mnt");
        let namespace = File::open(&path).map_err(LaunchError::io("open(2)", path.clone()))?;
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS).map_err(LaunchError::io("setns(2)", path))?;
        for late in &self.mounts {
            let found = trees.iter().position(|tree| tree.index == late.index);
            let tree =
                found.map(|at| trees.swap_remove(at)).ok_or(LaunchError::Plan("a late mount is missing"))?;
            late.attach(&tree)?;
        }
        if self.shared_root {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED, None::<&str>)
                .map_err(LaunchError::io("mount(2)", "/ as shared"))?;
        }
        Ok(())
    }
}

/// Whether libcontainer must not make it.
fn is_late(mount: &Mount) -> bool {
    if !binds::is_bind(mount) {
        return false;
    }
    let options = mount.options().as_deref().unwrap_or_default();
    let shared = options.iter().any(|option| option == "shared" || option == "rshared");
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let groups = Path::new("/sys/fs/cgroup");
    shared
        || mount.destination() == Path::new(DEV)
        || groups.starts_with(source)
        || source.starts_with(groups)
}

/// The mounts that libcontainer is to make in place of all: a late `/dev` becomes a tmpfs that it may fill.
pub(crate) fn for_libcontainer(mounts: &[Mount], late: &Late) -> Vec<Mount> {
    let kept = mounts.iter().enumerate().filter_map(|(index, mount)| {
        let mut mount = mount.clone();
        if late.has(index) {
            if mount.destination() != Path::new(DEV) {
                return None;
            }
            let options = ["nosuid", "strictatime", "mode=755", "size=65536k"].map(str::to_owned).to_vec();
            mount
                .set_typ(Some("tmpfs".to_owned()))
                .set_source(Some("tmpfs".into()))
                .set_options(Some(options));
        }
        Some(mount)
    });
    kept.collect()
}

impl LateMount {
    fn attach(&self, tree: &Tree) -> Result<(), LaunchError> {
        let again =
            self.below.iter().map(|at| Ok((at, clone(at)?))).collect::<Result<Vec<_>, LaunchError>>()?;
        for (at, _) in again.iter().rev() {
            umount2(*at, MntFlags::MNT_DETACH)
                .map_err(LaunchError::io("umount2(2)", at.display().to_string()))?;
        }
        if self.destination == Path::new(DEV) {
            umount2(DEV, MntFlags::MNT_DETACH).map_err(LaunchError::io("umount2(2)", DEV))?;
        }
        place(tree.fd.as_fd(), &self.destination, tree.kind)?;
        for (at, (kind, fd)) in again {
            place(fd.as_fd(), at, kind)?;
        }
        for path in &self.read_only {
            read_only(path)?;
        }
        for path in &self.masked {
            mask(path)?;
        }
        Ok(())
    }
}

/// A copy of what libcontainer has mounted at `at`.
fn clone(at: &Path) -> Result<(Kind, OwnedFd), LaunchError> {
    let root = directory(Path::new("/")).map_err(LaunchError::io("openat2(2)", "/"))?;
    let found = open(&root, at).map_err(LaunchError::io("openat2(2)", at.display().to_string()))?;
    let kind = Kind::of(&found).map_err(LaunchError::io("fstat(2)", at.display().to_string()))?;
    let tree = sys::open_tree_of(found.as_fd(), true)
        .map_err(LaunchError::io("open_tree(2)", at.display().to_string()))?;
    Ok((kind, tree))
}

/// Attaches a mount at a path of the container, which is made where it is not there.
fn place(tree: BorrowedFd<'_>, at: &Path, kind: Kind) -> Result<(), LaunchError> {
    let failed = |call| LaunchError::io::<Errno>(call, format!("mount on {}", at.display()));
    let root = directory(Path::new("/")).map_err(failed("openat2(2)"))?;
    let target = match open(&root, at) {
        Err(Errno::ENOENT) => {
            make(&root, at, kind).map_err(failed("mkdir(2)"))?;
            open(&root, at).map_err(failed("openat2(2)"))?
        }
        found => found.map_err(failed("openat2(2)"))?,
    };
    sys::trees::attach(tree, target.as_fd())
        .map_err(LaunchError::io("move_mount(2)", format!("mount on {}", at.display())))
}

/// A path inside of the container: no link leads out, none of the kernel's is followed.
fn open(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve))
}

fn directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat2(AT_FDCWD, path, OpenHow::new().flags(flags))
}

fn make(root: &OwnedFd, at: &Path, kind: Kind) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Err(Errno::ENOENT) };
    let parent = match open(root, parent) {
        Err(Errno::ENOENT) => {
            make(root, parent, Kind::Directory)?;
            open(root, parent)?
        }
        found => found?,
    };
    make_in(&parent, name, kind)
}

fn make_in(parent: &OwnedFd, name: &OsStr, kind: Kind) -> nix::Result<()> {
    let made = match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o644);
            openat2(parent, name, OpenHow::new().flags(flags).mode(mode)).map(drop)
        }
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

/// Source: `maskPaths`, runc libcontainer/init_linux.go.
fn mask(path: &Path) -> Result<(), LaunchError> {
    let done = match Kind::of_path(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => return Err(LaunchError::io("stat(2)", path.display().to_string())(error)),
        Ok(Kind::Directory) => mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>),
        Ok(Kind::File) => mount(Some("/dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>),
    };
    done.map_err(LaunchError::io("mount(2)", format!("mask of {}", path.display())))
}

/// Source: `readonlyPath`, runc libcontainer/init_linux.go.
fn read_only(path: &Path) -> Result<(), LaunchError> {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags;
    match mount(Some(path), path, None::<&str>, bind, None::<&str>) {
        Err(Errno::ENOENT) => return Ok(()),
        done => done.and_then(|()| mount(Some(path), path, None::<&str>, again, None::<&str>)),
    }
    .map_err(LaunchError::io("mount(2)", format!("{} read-only", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oci_spec::runtime::MountBuilder;

    use super::*;

    fn bind(source: &str, at: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        MountBuilder::default().source(source).destination(at).typ("bind").options(options).build().unwrap()
    }

    #[test]
    fn dev_control_groups_and_shared_mounts_are_late_and_no_other() {
        for mount in [
            bind("/dev", "/dev", &["rbind"]),
            bind("/", "/host", &["rbind", "rslave"]),
            bind("/sys", "/host/sys", &["rbind"]),
            bind("/sys/fs/cgroup/memory", "/m", &["rbind"]),
            bind("/var/lib/kubelet", "/var/lib/kubelet", &["rbind", "rshared"]),
        ] {
            assert!(is_late(&mount), "{mount:?}");
        }
        for mount in [
            bind("/var/lib", "/dev/x", &["rbind", "rslave"]),
            bind("/sys/kernel", "/k", &["rbind"]),
            bind("/system", "/s", &["rbind"]),
            MountBuilder::default().source("tmpfs").destination("/dev").typ("tmpfs").build().unwrap(),
        ] {
            assert!(!is_late(&mount), "{mount:?}");
        }
    }

    #[test]
    fn libcontainer_gets_a_dev_to_fill_and_none_of_the_others() {
        let mounts = [
            bind("/", "/host", &["rbind"]),
            bind("/dev", "/dev", &["rbind"]),
            bind("/a", "/host/a", &["rbind"]),
        ];
        let mut spec = Spec::default();
        spec.set_mounts(Some(mounts.to_vec()));
        let late = Late::of(&spec);
        assert_eq!(late.mounts.iter().map(|late| late.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(late.mounts[0].below, [PathBuf::from("/host/a")]);
        let left = for_libcontainer(&mounts, &late);
        assert_eq!(left.len(), 2);
        assert_eq!(
            (left[0].typ().as_deref(), left[0].destination().as_path()),
            (Some("tmpfs"), Path::new("/dev"))
        );
        assert_eq!(left[1].destination(), Path::new("/host/a"));
    }
}
