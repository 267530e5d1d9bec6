//! What a process confines itself to: a plain wire struct, the same for init, exec and (later) the guest.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{FileRules, Ids, UserNamespace};

/// Everything that `confine` enforces on one process and asks the kernel back, by the level of its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfineSpec {
    /// Bulkhead's own confinement.
    Hardened(HardenedSpec),
    /// What the request asks for, as runc would apply it.
    Compatible(CompatibleSpec),
}

impl ConfineSpec {
    /// The ids of the process.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        match self {
            ConfineSpec::Hardened(spec) => &spec.credentials,
            ConfineSpec::Compatible(spec) => &spec.credentials,
        }
    }

    /// The SELinux context that execve(2) gives the process.
    #[must_use]
    pub fn selinux_label(&self) -> Option<&str> {
        match self {
            ConfineSpec::Hardened(spec) => spec.selinux_label.as_deref(),
            ConfineSpec::Compatible(spec) => spec.selinux_label.as_deref(),
        }
    }

    /// The user namespace of the process; the node's own if none.
    #[must_use]
    pub fn user_namespace(&self) -> Option<&UserNamespace> {
        match self {
            ConfineSpec::Hardened(spec) => spec.user_namespace.as_ref(),
            ConfineSpec::Compatible(spec) => spec.user_namespace.as_ref(),
        }
    }

    /// The ids of the process as the node counts them; None if one of them is not in its user namespace.
    #[must_use]
    pub fn credentials_on_node(&self) -> Option<Credentials> {
        let inside = self.credentials();
        let Some(namespace) = self.user_namespace() else { return Some(inside.clone()) };
        let groups = inside.groups.iter().map(|group| namespace.on_node(Ids::Groups, *group));
        let mut groups = groups.collect::<Option<Vec<_>>>()?;
        groups.sort_unstable();
        let (uid, gid) =
            (namespace.on_node(Ids::Users, inside.uid)?, namespace.on_node(Ids::Groups, inside.gid)?);
        Some(Credentials { uid, gid, groups })
    }

    /// How many seccomp programs are loaded.
    #[must_use]
    pub fn seccomp_programs(&self) -> usize {
        match self {
            ConfineSpec::Hardened(spec) => spec.seccomp.len(),
            ConfineSpec::Compatible(spec) => usize::from(spec.seccomp.is_some()),
        }
    }

    /// The hardened confinement, if it is one.
    #[must_use]
    pub fn hardened(&self) -> Option<&HardenedSpec> {
        match self {
            ConfineSpec::Hardened(spec) => Some(spec),
            ConfineSpec::Compatible(_) => None,
        }
    }

    /// The compatible one, if it is one.
    #[must_use]
    pub fn compatible(&self) -> Option<&CompatibleSpec> {
        match self {
            ConfineSpec::Hardened(_) => None,
            ConfineSpec::Compatible(spec) => Some(spec),
        }
    }
}

/// A process without root, capabilities or privileges to gain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardenedSpec {
    /// Ids the process must have by then.
    pub credentials: Credentials,
    /// Whether `/` must be read-only by then.
    pub root_read_only: bool,
    /// The Landlock ruleset.
    pub landlock: LandlockSpec,
    /// Seccomp programs, each a list of `sock_filter` packed as u64, loaded in this order; the kernel takes
    /// the strictest answer of all.
    pub seccomp: Vec<Vec<u64>>,
    /// Who hears of a call that these deny.
    pub denied_calls: DeniedCalls,
    /// The SELinux context that execve(2) gives it.
    pub selinux_label: Option<String>,
    /// The user namespace that it is in; the node's own if none.
    pub user_namespace: Option<UserNamespace>,
}

/// Who hears of a denied call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeniedCalls {
    /// The process alone, by errno.
    Unseen,
    /// The server as well: the first program is loaded with a listener, which the server gets.
    Told,
}

/// A process with what its request asks for. The kernel is asked back all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompatibleSpec {
    /// Ids the process must have by then.
    pub credentials: Credentials,
    /// Its capability sets.
    pub capabilities: CapabilitySets,
    /// Whether set-uid programs and file capabilities take no effect.
    pub no_new_privileges: bool,
    /// The request's own filter; unconfined where it has none.
    pub seccomp: Option<SeccompFilter>,
    /// The SELinux context that execve(2) gives it.
    pub selinux_label: Option<String>,
    /// The user namespace that it is in, and that its new namespaces belong to; the node's own if none.
    pub user_namespace: Option<UserNamespace>,
}

/// The five capability sets, bit N for capability number N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilitySets {
    /// What can ever be gained.
    pub bounding: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What execve(2) hands on where the file says so.
    pub inheritable: u64,
    /// What counts.
    pub effective: u64,
    /// What execve(2) hands on.
    pub ambient: u64,
}

/// One seccomp program with what seccomp(2) is told beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompFilter {
    /// `sock_filter` packed as u64.
    pub program: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// The ids of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Real, effective, saved and file-system uid.
    pub uid: u32,
    /// Real, effective, saved and file-system gid.
    pub gid: u32,
    /// Additional groups, sorted.
    pub groups: Vec<u32>,
}

/// A Landlock ruleset, in paths as the container sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandlockSpec {
    /// Oldest ABI to accept; newer features of the kernel are used where it has them.
    pub floor_abi: u8,
    /// What the image's files get. `/` itself gets READ_DIR alone, or `ls /` fails.
    pub image: ImageAccess,
    /// Rights below mounts and single files.
    pub paths: Vec<PathRule>,
    /// TCP ports that may be bound.
    pub tcp_bind: TcpRule,
    /// TCP ports that may be connected to.
    pub tcp_connect: TcpRule,
    /// What does not leave the process and its children.
    pub scope: BTreeSet<ScopeRule>,
    /// A file that the runtime made outside of the ruleset: to open it must give EACCES.
    pub canary: PathBuf,
}

/// Rights below the image's own root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageAccess {
    /// For each of its directories.
    Whole(PathAccess),
    /// For these of its files, and no other.
    Files(FileRules),
}

/// Rights below one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// What is allowed below it.
    pub access: PathAccess,
}

/// Where the mounts of a container are, by the destinations that its plan has.
pub type MountRoots = BTreeMap<PathBuf, MountRoot>;

/// Where one mount has landed, and what is its root: known since it was attached, and nothing that a name leads to later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountRoot {
    /// Path in the container without a link on the way.
    pub at: PathBuf,
    /// Device of the file or directory that is mounted, as stat(2) has it.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

/// Rights in words; `confine` knows which bits each ABI has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathAccess {
    /// Read files, list directories.
    Read,
    /// And execute.
    ReadExecute,
    /// Read, write, create, remove, rename, truncate; no execute.
    ReadWrite,
    /// And execute.
    ReadWriteExecute,
    /// Read, write and ioctl on device files that exist.
    Device,
}

/// TCP of one direction, from Landlock ABI 4 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpRule {
    /// Any port.
    Any,
    /// These ports; where there are none, no bind(2) or connect(2) of TCP at all.
    Ports(BTreeSet<u16>),
}

impl TcpRule {
    /// No port.
    pub const NONE: Self = Self::Ports(BTreeSet::new());

    /// What both allow.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, rule) | (rule, Self::Any) => rule.clone(),
            (Self::Ports(one), Self::Ports(two)) => Self::Ports(one.intersection(two).copied().collect()),
        }
    }
}

/// What reaches no process that is not a child of the confined one, from Landlock ABI 6 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeRule {
    /// Signals.
    Signals,
    /// Connections to abstract unix sockets.
    AbstractSockets,
}
