//! A `[confine.*]` section: what it says, and what it leaves to the section below.
//!
//! In the node's file a named section says what differs from `[confine.default]`, and that what differs from the
//! built-in defaults. In a tenant's file a key that is not written says nothing: the node's value stays.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{
    BindRule, Confinement, ExecPattern, HostPath, IdentityRule, InitRule, LandlockRule, Level, MemfdRule,
    Namespace, PodSecurityRule, ProfileRule, RootRule, ScopeRule, TcpRule, UserNamespaceRule, UserRule,
    VolumesRule,
};

use crate::{
    exec,
    strict::{Stricter, canonical_host_paths},
};

/// Size limit of a writable tmpfs, in bytes, where policy names none: 64 MiB.
pub(crate) const TMPFS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Inode limit of a writable tmpfs where policy names none. At about 1 KiB of kernel memory each: 16 MiB.
pub(crate) const TMPFS_INODES_MAX: u64 = 16 * 1024;

/// Most processes and threads of a container where policy names none.
pub(crate) const PIDS_MAX: u32 = 4096;

/// The confinement of a policy that says nothing.
pub(crate) fn built_in() -> Confinement {
    Confinement {
        level: Level::Hardened,
        user: UserRule::NonRoot,
        user_namespace: UserNamespaceRule::Request,
        root: RootRule::ReadOnly,
        tmpfs: ["/tmp", "/var/tmp", "/run"].into_iter().map(PathBuf::from).collect(),
        writable: BTreeSet::new(),
        tmpfs_bytes_max: TMPFS_BYTES_MAX,
        tmpfs_inodes_max: TMPFS_INODES_MAX,
        memfd: MemfdRule::Denied,
        seccomp: ProfileRule::Baseline,
        landlock: LandlockRule {
            floor_abi: 1,
            files: ProfileRule::Baseline,
            tcp_bind: BindRule { exposed: false, ports: TcpRule::Any },
            tcp_connect: TcpRule::Any,
            scope: BTreeSet::new(),
        },
        exec: Vec::new(),
        host_paths: BTreeSet::new(),
        hooks: BTreeSet::new(),
        pids_max: PIDS_MAX,
        pod_security: PodSecurityRule::Tightened,
        executable: BTreeSet::new(),
        identity: IdentityRule::FilledIn,
        init: InitRule::Program,
        volumes: VolumesRule::Tmpfs,
    }
}

/// Namespaces of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Namespaces {
    /// `["*"]`.
    All,
    /// These.
    Some(BTreeSet<Namespace>),
}

/// The keys that a section writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) level: Option<Level>,
    /// Whose containers a compatible section is for; there with [`Level::Compatible`] alone.
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) user: Option<UserRule>,
    pub(crate) user_namespace: Option<UserNamespaceRule>,
    pub(crate) root: Option<RootRule>,
    pub(crate) tmpfs: Option<BTreeSet<PathBuf>>,
    pub(crate) writable: Option<BTreeSet<PathBuf>>,
    pub(crate) tmpfs_bytes_max: Option<u64>,
    pub(crate) tmpfs_inodes_max: Option<u64>,
    pub(crate) memfd: Option<MemfdRule>,
    pub(crate) seccomp: Option<ProfileRule>,
    pub(crate) landlock: LandlockKeys,
    pub(crate) exec: Option<Vec<ExecPattern>>,
    pub(crate) host_paths: Option<BTreeSet<HostPath>>,
    pub(crate) hooks: Option<BTreeSet<PathBuf>>,
    pub(crate) pids_max: Option<u32>,
    pub(crate) pod_security: Option<PodSecurityRule>,
    pub(crate) executable: Option<BTreeSet<PathBuf>>,
    pub(crate) identity: Option<IdentityRule>,
    pub(crate) init: Option<InitRule>,
    pub(crate) volumes: Option<VolumesRule>,
}

/// The keys that its `landlock` writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LandlockKeys {
    pub(crate) floor_abi: Option<u8>,
    pub(crate) files: Option<ProfileRule>,
    pub(crate) tcp_bind: Option<BindRule>,
    pub(crate) tcp_connect: Option<TcpRule>,
    pub(crate) scope: Option<BTreeSet<ScopeRule>>,
}

impl LandlockKeys {
    fn over(self, below: &Self) -> Self {
        let Self { floor_abi, files, tcp_bind, tcp_connect, scope } = self;
        Self {
            floor_abi: floor_abi.or(below.floor_abi),
            files: files.or_else(|| below.files.clone()),
            tcp_bind: tcp_bind.or_else(|| below.tcp_bind.clone()),
            tcp_connect: tcp_connect.or_else(|| below.tcp_connect.clone()),
            scope: scope.or_else(|| below.scope.clone()),
        }
    }

    fn resolve(self, unsaid: &LandlockRule) -> LandlockRule {
        let Self { floor_abi, files, tcp_bind, tcp_connect, scope } = self;
        LandlockRule {
            floor_abi: floor_abi.unwrap_or(unsaid.floor_abi),
            files: files.unwrap_or_else(|| unsaid.files.clone()),
            tcp_bind: tcp_bind.unwrap_or_else(|| unsaid.tcp_bind.clone()),
            tcp_connect: tcp_connect.unwrap_or_else(|| unsaid.tcp_connect.clone()),
            scope: scope.unwrap_or_else(|| unsaid.scope.clone()),
        }
    }
}

impl Section {
    /// This section over the one that it differs from.
    pub(crate) fn over(&self, below: &Self) -> Self {
        let Self {
            level,
            namespaces,
            user,
            user_namespace,
            root,
            tmpfs,
            writable,
            tmpfs_bytes_max,
            tmpfs_inodes_max,
            memfd,
            seccomp,
            landlock,
            exec,
            host_paths,
            hooks,
            pids_max,
            pod_security,
            executable,
            identity,
            init,
            volumes,
        } = self.clone();
        Self {
            level: level.or(below.level),
            namespaces: namespaces.or_else(|| below.namespaces.clone()),
            user: user.or(below.user),
            user_namespace: user_namespace.or(below.user_namespace),
            root: root.or(below.root),
            tmpfs: tmpfs.or_else(|| below.tmpfs.clone()),
            writable: writable.or_else(|| below.writable.clone()),
            tmpfs_bytes_max: tmpfs_bytes_max.or(below.tmpfs_bytes_max),
            tmpfs_inodes_max: tmpfs_inodes_max.or(below.tmpfs_inodes_max),
            memfd: memfd.or(below.memfd),
            seccomp: seccomp.or_else(|| below.seccomp.clone()),
            landlock: landlock.over(&below.landlock),
            exec: exec.or_else(|| below.exec.clone()),
            host_paths: host_paths.or_else(|| below.host_paths.clone()),
            hooks: hooks.or_else(|| below.hooks.clone()),
            pids_max: pids_max.or(below.pids_max),
            pod_security: pod_security.or(below.pod_security),
            executable: executable.or_else(|| below.executable.clone()),
            identity: identity.or(below.identity),
            init: init.or(below.init),
            volumes: volumes.or(below.volumes),
        }
    }

    /// What this section comes to where `unsaid` holds for keys that it does not write.
    pub(crate) fn resolve(&self, unsaid: &Confinement) -> Confinement {
        let hardens = self.hardens();
        let Self {
            level,
            namespaces: _, // asked by `level_for`
            user,
            user_namespace,
            root,
            tmpfs,
            writable,
            tmpfs_bytes_max,
            tmpfs_inodes_max,
            memfd,
            seccomp,
            landlock,
            exec,
            host_paths,
            hooks,
            pids_max,
            pod_security,
            executable,
            identity,
            init,
            volumes,
        } = self.clone();
        let landlock = landlock.resolve(&unsaid.landlock);
        Confinement {
            level: level.unwrap_or(if hardens { Level::Hardened } else { unsaid.level }),
            user: user.unwrap_or(unsaid.user),
            user_namespace: user_namespace.unwrap_or(unsaid.user_namespace),
            root: root.unwrap_or(unsaid.root),
            tmpfs: tmpfs.unwrap_or_else(|| unsaid.tmpfs.clone()),
            writable: writable.unwrap_or_else(|| unsaid.writable.clone()),
            tmpfs_bytes_max: tmpfs_bytes_max.unwrap_or(unsaid.tmpfs_bytes_max),
            tmpfs_inodes_max: tmpfs_inodes_max.unwrap_or(unsaid.tmpfs_inodes_max),
            memfd: memfd.unwrap_or(unsaid.memfd),
            seccomp: seccomp.unwrap_or_else(|| unsaid.seccomp.clone()),
            // With itself: an ABI that its TCP rule needs is part of the floor from here on.
            landlock: landlock.stricter(&landlock),
            exec: exec::canonical(&exec.unwrap_or_else(|| unsaid.exec.clone())),
            host_paths: canonical_host_paths(&host_paths.unwrap_or_else(|| unsaid.host_paths.clone())),
            hooks: hooks.unwrap_or_else(|| unsaid.hooks.clone()),
            pids_max: pids_max.unwrap_or(unsaid.pids_max),
            pod_security: pod_security.unwrap_or(unsaid.pod_security),
            executable: executable.unwrap_or_else(|| unsaid.executable.clone()),
            identity: identity.unwrap_or(unsaid.identity),
            init: init.unwrap_or(unsaid.init),
            volumes: volumes.unwrap_or(unsaid.volumes),
        }
    }

    /// Whether it writes a key that the compatible level would not heed: then it asks for the hardened one.
    fn hardens(&self) -> bool {
        let heeded = Self {
            level: self.level,
            namespaces: self.namespaces.clone(),
            exec: self.exec.clone(),
            hooks: self.hooks.clone(),
            ..Self::default()
        };
        *self != heeded
    }

    /// The level of this section of the node's file for a tenant: compatible only where it names the tenant.
    pub(crate) fn level_for(&self, tenant: &Namespace) -> Level {
        match (self.level, &self.namespaces) {
            (Some(Level::Compatible), Some(Namespaces::All)) => Level::Compatible,
            (Some(Level::Compatible), Some(Namespaces::Some(names))) if names.contains(tenant) => {
                Level::Compatible
            }
            (Some(Level::Compatible | Level::Hardened) | None, _) => Level::Hardened,
        }
    }

    /// The node's confinement, narrowed by this section of a tenant's file: never wider than either.
    pub(crate) fn narrow(&self, node: &Confinement) -> Confinement {
        node.stricter(&self.resolve(node))
    }
}
