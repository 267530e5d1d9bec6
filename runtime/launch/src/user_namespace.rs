//! The user namespace of a container: made or joined by its worker, entered by its process when all else is done.
//!
//! ```text
//! worker     holder ─clone(CLONE_NEWUSER)─► maps written, namespace opened, holder ended
//! process    namespaces, mounts, pivot_root, masks: as the node's root ─► setns, ids, no capability ─► executor
//! ```
//! Invariant: every other namespace of the container belongs to the node's user namespace, and the kernel is asked for it:
//! whoever becomes root in here holds no capability over mounts or processes, not even the container's own. A network that
//! containerd has made for the pod in this very user namespace is the pod's.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use bulkhead_model::{Credentials, IdExtent, Ids, Mount, MountOwners, NODE_RANGES, RANGE_IDS, UserNamespace};
use caps::CapSet;
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{prctl, stat::fstat, wait::waitpid},
    unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid},
};

use crate::{
    LaunchError,
    sys::{
        self, Forked,
        trees::{self, Reach},
    },
};

/// Where the node says which ids its own users may give to namespaces.
const SUBORDINATE: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// A user namespace that is there.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    spec: UserNamespace,
    namespace: Rc<OwnedFd>,
}

impl Inside {
    /// Makes it, or joins that of the process that the spec names. In the node's mount namespace.
    pub(crate) fn open(spec: Option<&UserNamespace>) -> Result<Option<Self>, LaunchError> {
        let Some(spec) = spec else { return Ok(None) };
        let namespace = match &spec.path {
            Some(path) => open(path)?,
            None => {
                nobody_elses(spec)?;
                make(spec)?
            }
        };
        Ok(Some(Self { spec: spec.clone(), namespace: Rc::new(namespace) }))
    }

    /// That of the container whose init this pidfd is.
    pub(crate) fn of_init(spec: Option<&UserNamespace>, init: &OwnedFd) -> Result<Option<Self>, LaunchError> {
        let Some(spec) = spec else { return Ok(None) };
        let namespace = init.try_clone().map_err(LaunchError::io("dup(2)", "pidfd"))?;
        Ok(Some(Self { spec: spec.clone(), namespace: Rc::new(namespace) }))
    }

    /// What an id of the container's is on the node.
    pub(crate) fn on_node(&self, which: Ids, id: u32) -> Option<u32> {
        self.spec.on_node(which, id)
    }

    /// Who on the node makes what is made for the container: its root. None where that is the node's.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        match self.spec.owners {
            MountOwners::Mapped | MountOwners::AsAsked => {
                self.spec.on_node(Ids::Users, 0).zip(self.spec.on_node(Ids::Groups, 0))
            }
            MountOwners::AsTheyAre => None,
        }
    }

    /// Whether every mount of files is to show the container's ids.
    pub(crate) fn maps_all(&self) -> bool {
        self.spec.owners == MountOwners::Mapped
    }

    /// Whether the namespaces that are new are to be its own, and not the node's.
    pub(crate) fn has_namespaces(&self) -> bool {
        self.spec.owners == MountOwners::AsAsked
    }

    /// Has a detached mount show the container's ids, where all mounts are to.
    pub(crate) fn map(&self, tree: BorrowedFd<'_>, reach: Reach, shown: &str) -> Result<(), LaunchError> {
        if self.maps_all() { map(tree, reach, self.namespace.as_fd(), shown) } else { Ok(()) }
    }

    /// The same where the request says so of one.
    pub(crate) fn map_one(&self, tree: BorrowedFd<'_>, reach: Reach, shown: &str) -> Result<(), LaunchError> {
        map(tree, reach, self.namespace.as_fd(), shown)
    }

    /// Whether these are its ids.
    pub(crate) fn has_ids(&self, uids: &[IdExtent], gids: &[IdExtent]) -> bool {
        self.spec.uids == uids && self.spec.gids == gids
    }

    /// As if every mount of files were to show its ids.
    pub(crate) fn mapping_all(&self) -> Self {
        let spec = UserNamespace { owners: MountOwners::Mapped, ..self.spec.clone() };
        Self { spec, namespace: Rc::clone(&self.namespace) }
    }

    /// Whether `option`, containerd's word on a snapshot (`uidmap=0:65536:65536`, extents with commas between them), says
    /// the ids of this namespace.
    pub(crate) fn is_option(&self, option: &str) -> bool {
        let (which, text) = match option.split_once('=') {
            Some(("uidmap", text)) => (Ids::Users, text),
            Some(("gidmap", text)) => (Ids::Groups, text),
            _ => return false,
        };
        let extents = text.split(',').map(|extent| {
            let numbers: Result<Vec<u32>, _> = extent.split(':').map(str::parse).collect();
            match numbers.as_deref() {
                Ok(&[inside, outside, count]) => Some(IdExtent { inside, outside, count }),
                _ => None,
            }
        });
        extents.collect::<Option<Vec<_>>>().is_some_and(|extents| extents == self.spec.ids(which))
    }

    /// Brings this process into it, with these ids and without any capability, but where the namespace is one of the
    /// compatible level: then with all that it has there, for `bulkhead_confine` to cut down. What libcontainer does to
    /// others.
    pub(crate) fn enter(&self, credentials: &Credentials) -> Result<(), String> {
        let failed =
            |call: &'static str| move |errno: Errno| format!("{call} in the user namespace: {errno}");
        let no_more = |error: caps::errors::CapsError| format!("capabilities of the user namespace: {error}");
        let groups: Vec<Gid> = credentials.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid));
        setns(&*self.namespace, CloneFlags::CLONE_NEWUSER).map_err(failed("setns(2)"))?;
        setgroups(&groups).map_err(failed("setgroups(2)"))?;
        setresgid(gid, gid, gid).map_err(failed("setresgid(2)"))?;
        if self.has_namespaces() {
            prctl::set_keepcaps(true).map_err(failed("prctl(2)"))?;
            setresuid(uid, uid, uid).map_err(failed("setresuid(2)"))?;
            prctl::set_keepcaps(false).map_err(failed("prctl(2)"))?;
            let all = caps::read(None, CapSet::Permitted).map_err(no_more)?;
            return caps::set(None, CapSet::Effective, &all).map_err(no_more);
        }
        for capability in caps::read(None, CapSet::Bounding).map_err(no_more)? {
            caps::drop(None, CapSet::Bounding, capability).map_err(no_more)?;
        }
        setresuid(uid, uid, uid).map_err(failed("setresuid(2)"))?;
        for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
            caps::clear(None, set).map_err(no_more)?;
        }
        Ok(())
    }

    /// Brings this process into it as its root, where it has one.
    pub(crate) fn become_root(&self) -> Result<(), String> {
        let failed =
            |call: &'static str| move |errno: Errno| format!("{call} in the user namespace: {errno}");
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setns(&*self.namespace, CloneFlags::CLONE_NEWUSER).map_err(failed("setns(2)"))?;
        match self.owner() {
            Some(_) => {
                setresgid(gid, gid, gid).map_err(failed("setresgid(2)"))?;
                setresuid(uid, uid, uid).map_err(failed("setresuid(2)"))
            }
            None => Ok(()),
        }
    }

    /// Demands of the kernel, but for a container of the compatible level, that the namespaces of `pid` belong to the node's user namespace, in which this process is.
    pub(crate) fn owns_nothing(&self, pid: i32) -> Result<(), LaunchError> {
        if self.has_namespaces() {
            return Ok(());
        }
        let own =
            identity(&File::open("/proc/self/ns/user").map_err(LaunchError::io("open(2)", "ns/user"))?)?;
        for name in ["mnt", "pid", "ipc", "net", "uts", "cgroup"] {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = File::open(&path).map_err(LaunchError::io("open(2)", path.clone()))?;
            let owner = sys::owner_of_namespace(file.as_fd()).map_err(LaunchError::io("ioctl(2)", path))?;
            // containerd makes a pod's network in the user namespace that it has made for the pod.
            let of_pod = name == "net" && identity(&owner)? == identity(&self.namespace)?;
            if identity(&owner)? != own && !of_pod {
                return Err(LaunchError::Failed(format!(
                    "the {name} namespace belongs to a user namespace that is not the node's: its root would rule it"
                )));
            }
        }
        Ok(())
    }

    /// The mount that containerd makes of a snapshot, of layers that show the container's ids. They are mounted once
    /// more at `dir`, in a mount namespace of the worker's.
    ///
    /// What a snapshotter has made for these ids (`uidmap=`) has them in its own directory already.
    pub(crate) fn layers(&self, mount: &Mount, dir: &Path) -> Result<Mount, LaunchError> {
        crate::shifted_layers::of(self, mount, dir)
    }
}

/// Has a detached mount show the ids of a user namespace.
fn map(
    tree: BorrowedFd<'_>,
    reach: Reach,
    namespace: BorrowedFd<'_>,
    shown: &str,
) -> Result<(), LaunchError> {
    trees::id_map(tree, reach, namespace).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::EPERM | libc::ENOSYS) => LaunchError::Failed(format!(
            "{shown} cannot be mounted with shifted owners ({error}): its file system, or one that is mounted below \
             it, has no id-mapped mounts on this kernel; leave the mount out, or have policy say \
             user_namespace = \"root-only\""
        )),
        _ => LaunchError::io("mount_setattr(2)", format!("MOUNT_ATTR_IDMAP of {shown}"))(error),
    })
}

/// Has a detached mount show ids by maps of its own, of a namespace that nothing else is in.
pub(crate) fn map_by(
    tree: BorrowedFd<'_>,
    reach: Reach,
    (uids, gids): (&[IdExtent], &[IdExtent]),
    shown: &str,
) -> Result<(), LaunchError> {
    let maps =
        UserNamespace { uids: uids.to_vec(), gids: gids.to_vec(), owners: MountOwners::AsAsked, path: None };
    map(tree, reach, make(&maps)?.as_fd(), shown)
}

fn open(path: &Path) -> Result<OwnedFd, LaunchError> {
    File::open(path).map(OwnedFd::from).map_err(LaunchError::io("open(2)", path.display().to_string()))
}

fn make(spec: &UserNamespace) -> Result<OwnedFd, LaunchError> {
    let (mut waits, goes) = std::io::pipe().map_err(LaunchError::io("pipe2(2)", "user namespace"))?;
    let pid = match sys::clone_into_user_namespace() {
        Ok(Forked::Parent(pid)) => pid,
        Ok(Forked::Child) => {
            drop(goes);
            // The end of the worker, or of its need for this: the same.
            sys::exit_now(i32::from(waits.read(&mut [0]).is_err()))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            return Err(LaunchError::Failed(
                "the node has as many user namespaces as it may: raise the sysctl user.max_user_namespaces"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(LaunchError::io("clone(2)", "user namespace")(error)),
    };
    let opened = [("uid_map", Ids::Users), ("gid_map", Ids::Groups)]
        .into_iter()
        .try_for_each(|(name, which)| {
            let path = format!("/proc/{pid}/{name}");
            fs::write(&path, spec.map(which)).map_err(LaunchError::io("write(2)", path))
        })
        .and_then(|()| open(Path::new(&format!("/proc/{pid}/ns/user"))));
    drop(goes);
    waitpid(Pid::from_raw(pid.cast_signed()), None)
        .map_err(LaunchError::io("waitpid(2)", "user namespace"))?;
    opened
}

/// Refuses a range of ours that the node's own files give to somebody else. The kubelet's stands there by right.
fn nobody_elses(spec: &UserNamespace) -> Result<(), LaunchError> {
    if spec.owners == MountOwners::AsAsked {
        return Ok(());
    }
    let ours: Vec<u16> = spec.ranges().filter(|range| NODE_RANGES.contains(range)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    for path in SUBORDINATE {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.map_err(LaunchError::io("read(2)", path))?,
        };
        if let Some(line) = ours.iter().find_map(|range| taken_by(&text, *range)) {
            return Err(LaunchError::Failed(format!(
                "{path} gives ids to somebody that Bulkhead gives to pods ({line}): have it give others than \
                 {} to {}",
                u32::from(NODE_RANGES.start) * RANGE_IDS,
                u32::from(NODE_RANGES.end) * RANGE_IDS - 1
            )));
        }
    }
    Ok(())
}

/// The line that gives ids of a range to somebody.
///
/// Source: subuid(5): name, first id, count.
fn taken_by(text: &str, range: u16) -> Option<&str> {
    let (first, after) =
        (u64::from(range) * u64::from(RANGE_IDS), (u64::from(range) + 1) * u64::from(RANGE_IDS));
    text.lines().find(|line| {
        let mut numbers = line.split(':').skip(1).map(|number| number.trim().parse::<u64>());
        match (numbers.next(), numbers.next()) {
            (Some(Ok(start)), Some(Ok(count))) => start < after && start.saturating_add(count) > first,
            _ => false,
        }
    })
}

fn identity(file: &impl std::os::fd::AsFd) -> Result<(u64, u64), LaunchError> {
    let found = fstat(file.as_fd()).map_err(LaunchError::io("fstat(2)", "namespace"))?;
    Ok((found.st_dev, found.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_gives_an_id_of_the_range_to_somebody_is_found_and_others_are_not() {
        let first = 0x7000 * RANGE_IDS;
        for taken in
            [format!("a:{first}:1"), format!("a:{}:1", first + 65535), "a:100000:4000000000".to_owned()]
        {
            assert_eq!(taken_by(&format!("b:100000:65536\n{taken}\n"), 0x7000), Some(taken.as_str()));
        }
        for free in
            [format!("a:{}:65536", first + 65536), format!("a:{}:65536", first - 65536), "x".to_owned()]
        {
            assert_eq!(taken_by(&free, 0x7000), None, "{free}");
        }
    }
}
