//! The container's mounts, made by our own hand: each source cloned or made as a mount of no place, each destination
//! opened, and the one attached to the other by their descriptors.
//!
//! ```text
//! worker, node's mount namespace     Mounts::clone_sources   sources of a compatible container, which may share with the node
//! first process, in the container's
//!   pid, ipc, net namespaces         Mounts::assemble        everything, in order, below the root that is not yet the root
//! root                               devices, pivot_root, masked paths
//! worker, container's namespace      Mounts::finish          what was made, asked of the kernel; what must come last
//! ```
//! Invariant: nothing is opened by a name that a tenant could have changed since it was looked at.
//! Never here: what may be mounted; that was decided by `bulkhead_plan`.

mod copy_up;
mod identity;
mod image;
mod late;
mod made;
mod options;
mod place;
mod planned;
mod roots;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use bulkhead_model::{ConfineSpec, IdExtent, IdentityRule, Ids, ImageVolume, MountRoot, MountRoots};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

pub(crate) use self::roots::{read as read_roots, write as write_roots};
use self::{
    copy_up::{Owner, Top, copy_up},
    identity::Identity,
    made::Landed,
    options::Options,
    place::Root,
    planned::planned,
    source::{Links, Tree},
};
use crate::{
    LaunchError, rootfs,
    sys::trees::Reach,
    user_namespace::{self, Inside},
};

/// What belongs to the kernel's file systems: no mount may get there that was not planned there, by whatever link.
const KERNELS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Where the view of control groups is.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What mounts are made as, where they show the ids of a user namespace.
fn become_owner(inside: Option<&Inside>) -> Result<crate::owner::Owner, LaunchError> {
    crate::owner::Owner::become_one(inside.and_then(Inside::owner))
}

/// Options of a file system with the node's ids in place of the container's: the kernel reads them as this process's.
fn on_node(options: &[String], inside: &Inside) -> Result<Vec<String>, LaunchError> {
    let option = |option: &String| match option.split_once('=') {
        Some((key @ ("uid" | "gid"), id)) => {
            let which = if key == "uid" { Ids::Users } else { Ids::Groups };
            let id = id.parse().ok().and_then(|id| inside.on_node(which, id));
            id.map(|id| format!("{key}={id}"))
                .ok_or(LaunchError::Plan("a mount is of an id that is not mapped"))
        }
        _ => Ok(option.clone()),
    };
    options.iter().map(option).collect()
}

fn is_kernels(path: &Path) -> bool {
    KERNELS.iter().any(|place| path.starts_with(place))
}

/// The mounts of one container, as its worker gets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mounts {
    /// In the order in which they are to be made.
    list: Vec<Planned>,
    /// SELinux label of what is made here.
    label: Option<String>,
    /// Whether `/` is shared: within the container, where everything is its own.
    shared_root: bool,
    /// Whether a terminal is shown on /dev/console.
    console: bool,
    /// Whom copies of the image's files belong to, if not to whom they did; and a name for that uid where the image has
    /// none.
    owner: Option<(u32, u32)>,
    identity: Option<Identity>,
    expected: Expected,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    destination: PathBuf,
    what: What,
    options: Vec<String>,
    /// What it hides is copied into it, and of the hidden directory itself this counts.
    copy_up: Option<Top>,
    /// Whose ids it shows, if not those that all show.
    ids: Option<ShownIds>,
    when: When,
}

/// Ids that one mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShownIds {
    uids: Vec<IdExtent>,
    gids: Vec<IdExtent>,
    /// And what is mounted below it.
    recursive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Bind { path: PathBuf, links: Links },
    Image { volume: ImageVolume, dir: PathBuf },
    FileSystem { kind: String, source: String },
}

/// Before the root is made, or after it: see [`late`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum When {
    First,
    Late,
    /// On a substitute of what its place is below, and again on that.
    Both,
}

/// What the mount table is to show besides the mounts of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Masked and read-only paths, and the console: mounts that come with the root.
    covered: BTreeSet<PathBuf>,
    /// Hooks that policy names run as root and may mount what they like: no second look then.
    hooks: bool,
    /// Attributes of `/`.
    root: u64,
    level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Level {
    Hardened,
    Compatible,
}

/// Where sources may lie.
pub(crate) struct Sources<'a> {
    /// Directories of the node's that policy names: links below them are not followed.
    pub(crate) roots: &'a [PathBuf],
    /// Images that are shown.
    pub(crate) images: &'a [ImageVolume],
    /// Places of tmpfs into which what the image has there is copied.
    pub(crate) copied_up: &'a BTreeSet<PathBuf>,
    /// Whether the container's uid gets a name.
    pub(crate) identity: IdentityRule,
}

/// Sources that were cloned before their turn, by their place in the list.
pub(crate) type Trees = BTreeMap<usize, Tree>;

impl Mounts {
    /// Those of a spec: the sources of a hardened container's are opened below the roots, those of a compatible one are
    /// the node's own, all but the view of control groups. Images are neither's.
    pub(crate) fn of(
        spec: &Spec,
        confine: &ConfineSpec,
        sources: &Sources<'_>,
        task_dir: &Path,
    ) -> Result<Self, LaunchError> {
        let level = match confine {
            ConfineSpec::Hardened(_) => Level::Hardened,
            ConfineSpec::Compatible(_) => Level::Compatible,
        };
        let mounts = spec.mounts().iter().flatten().enumerate();
        let planned = mounts.map(|(index, mount)| planned(index, mount, level, sources, task_dir));
        let mut list = planned.collect::<Result<Vec<_>, LaunchError>>()?;
        let linux = spec.linux().as_ref();
        let paths = [
            linux.and_then(|linux| linux.masked_paths().as_ref()),
            linux.and_then(|linux| linux.readonly_paths().as_ref()),
        ];
        let mut covered: BTreeSet<PathBuf> =
            paths.into_iter().flatten().flatten().map(PathBuf::from).collect();
        let mut shared_root = false;
        if level == Level::Compatible {
            late::sort_out(&mut list, &covered)?;
            let root = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
            shared_root = matches!(root, Some("shared" | "rshared"));
        }
        covered.insert(late::CONSOLE.into());
        let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
        let hardened = if level == Level::Hardened { rootfs::HARDENED } else { 0 };
        let (uid, gid) = (confine.credentials().uid, confine.credentials().gid);
        let on_node = confine.credentials_on_node().ok_or(LaunchError::Plan("an id that is not mapped"))?;
        Ok(Self {
            list,
            owner: confine.hardened().map(|_| (on_node.uid, on_node.gid)),
            identity: match sources.identity {
                IdentityRule::FilledIn => Some(Identity { uid, gid, dir: task_dir.to_owned() }),
                IdentityRule::AsIs => None,
            },
            label: linux.and_then(|linux| linux.mount_label().clone()),
            shared_root,
            console: spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false),
            expected: Expected {
                covered,
                hooks: spec.hooks().is_some(),
                root: hardened | if read_only { rootfs::MOUNT_ATTR_RDONLY } else { 0 },
                level,
            },
        })
    }

    /// Clones the sources that may share with the node, or follow it: in the node's own mount namespace. Those for
    /// [`Mounts::assemble`], and those for [`Mounts::finish`].
    pub(crate) fn clone_sources(&self, inside: Option<&Inside>) -> Result<(Trees, Trees), LaunchError> {
        let list = self.list.iter().enumerate();
        let ours = list.filter_map(|(index, mount)| match &mount.what {
            What::Bind { path, links: links @ Links::Node } => Some((index, path, links, mount)),
            What::Bind { .. } | What::Image { .. } | What::FileSystem { .. } => None,
        });
        let trees = ours.map(|(index, path, links, mount)| {
            let tree = source::bind(path, links, &mount.options)?;
            mount.show_ids(&tree, inside, path)?;
            Ok((index, tree))
        });
        let trees = trees.collect::<Result<Trees, LaunchError>>()?;
        Ok(trees.into_iter().partition(|(index, _)| self.list[*index].when != When::Late))
    }

    /// Makes what is to be there first, below `root`, and says where each has landed. To be called in the
    /// namespaces that its file systems are to show.
    pub(crate) fn assemble(
        &self,
        trees: &mut Trees,
        root: &Path,
        inside: Option<&Inside>,
    ) -> Result<Vec<MountRoot>, LaunchError> {
        let _owner = become_owner(inside)?;
        let root = Root::open(root)?;
        root.check_kernels(|place| self.first().any(|(_, mount)| mount.destination == place))?;
        let planned = |place: &Path| self.first().any(|(_, mount)| place.starts_with(&mount.destination));
        let named = match &self.identity {
            Some(identity) => identity.trees(&root, planned)?,
            None => Vec::new(),
        };
        let attach = |(index, mount): (usize, &Planned)| {
            let tree = match trees.remove(&index) {
                Some(tree) => tree,
                None => mount.make(self.label.as_deref(), inside)?,
            };
            let at = root.attach(&tree, &mount.destination, |hidden| match mount.copy_up {
                Some(top) => self.copy_up(hidden, &tree, top, &mount.destination),
                None => Ok(()),
            })?;
            roots::root(&tree, at)
        };
        let mut landed = self.first().map(attach).collect::<Result<Vec<_>, LaunchError>>()?;
        for (place, tree) in named {
            if root.attach_own(&tree, &place)? {
                landed.push(roots::root(&tree, place)?);
            }
        }
        Ok(landed)
    }

    /// The same by the destinations of the plan.
    pub(crate) fn roots(&self, landed: &[MountRoot]) -> MountRoots {
        let all = self.first().zip(landed);
        all.map(|((_, mount), root)| (mount.destination.clone(), root.clone())).collect()
    }

    fn copy_up(
        &self,
        hidden: BorrowedFd<'_>,
        tree: &Tree,
        top: Top,
        place: &Path,
    ) -> Result<(), LaunchError> {
        let owner = self.owner.map(|(uid, gid)| Owner { uid, gid });
        copy_up(hidden, tree.fd.as_fd(), top, owner, &place.display().to_string())
    }

    /// Asks the kernel what the container of `pid` has for mounts, and attaches what is to come last. `landed` is what
    /// [`Mounts::assemble`] said. This process may stay in the container's namespace: to be called last.
    pub(crate) fn finish(&self, pid: i32, trees: Trees, landed: Vec<MountRoot>) -> Result<(), LaunchError> {
        let all = || self.first().zip(&landed);
        let mut shown: Vec<Landed> = all().map(|((_, mount), root)| mount.landed(root.at.clone())).collect();
        // After those of the list: files with a name for the container's uid.
        let more = landed.iter().skip(self.first().count());
        shown.extend(more.map(|root| Landed { at: root.at.clone(), top: options::RELIED_ON, below: None }));
        made::check(&made::table_of(pid)?, &self.expected, &shown)?;
        let landed = all().map(|((index, _), root)| (index, root.at.clone())).collect();
        late::attach(self, pid, trees, &landed)
    }

    fn first(&self) -> impl Iterator<Item = (usize, &Planned)> {
        self.list.iter().enumerate().filter(|(_, mount)| mount.when != When::Late)
    }
}

impl Planned {
    fn make(&self, label: Option<&str>, inside: Option<&Inside>) -> Result<Tree, LaunchError> {
        match &self.what {
            What::Bind { path, links } => {
                let tree = source::bind(path, links, &self.options)?;
                if let Some(inside) = inside.filter(|_| self.is_of_files()) {
                    let recursive = self.options.iter().any(|option| option == "rbind");
                    let reach = if recursive { Reach::Tree } else { Reach::Top };
                    let shown = format!("{} on {}", path.display(), self.destination.display());
                    inside.map(tree.fd.as_fd(), reach, &shown)?;
                }
                self.show_ids(&tree, inside, path)?;
                Ok(tree)
            }
            What::Image { volume, dir } => {
                let mapping = match (&self.ids, inside) {
                    (None, _) => None,
                    (Some(ids), Some(inside)) if inside.has_ids(&ids.uids, &ids.gids) => {
                        Some(inside.mapping_all())
                    }
                    (Some(_), _) => {
                        return Err(LaunchError::Plan(
                            "an image shows other ids than those of the container",
                        ));
                    }
                };
                image::image(volume, &self.options, dir, mapping.as_ref().or(inside))
            }
            What::FileSystem { kind, source } => {
                // As runc, for the same kinds.
                let label = label.filter(|_| kind != "proc" && kind != "sysfs");
                let label = label.filter(|_| Path::new("/sys/fs/selinux").exists());
                let options =
                    inside.map_or(Ok(self.options.clone()), |inside| on_node(&self.options, inside))?;
                source::file_system(kind, source, &Options::read(&options), label)
            }
        }
    }

    fn show_ids(&self, tree: &Tree, inside: Option<&Inside>, source: &Path) -> Result<(), LaunchError> {
        let Some(ShownIds { uids, gids, recursive }) = &self.ids else { return Ok(()) };
        let reach = if *recursive { Reach::Tree } else { Reach::Top };
        let shown = format!("{} on {}", source.display(), self.destination.display());
        match inside.filter(|inside| inside.has_ids(uids, gids)) {
            Some(inside) => inside.map_one(tree.fd.as_fd(), reach, &shown),
            None => user_namespace::map_by(tree.fd.as_fd(), reach, (uids, gids), &shown),
        }
    }

    /// Whether a bind mount shows files with owners: neither the kernel's control groups nor the runtime's canary and init.
    fn is_of_files(&self) -> bool {
        ![CGROUPS, bulkhead_plan::CANARY, bulkhead_plan::INIT]
            .map(Path::new)
            .contains(&self.destination.as_path())
    }

    fn landed(&self, at: PathBuf) -> Landed {
        let (top, below) = Options::read(&self.options).demanded();
        let recursive = matches!(self.what, What::Bind { .. }) && self.options.iter().any(|o| o == "rbind");
        Landed { at, top, below: recursive.then_some(below) }
    }
}

#[cfg(test)]
mod tests;
