//! Of two values of one key, the stricter. The order of every key stands here, once; the property tests below hold
//! each of them to it, and `bulkhead policy explain` says it in words.
//!
//! Invariant: [`Stricter::stricter`] is commutative, associative and idempotent, and allows nothing that either of
//! its two arguments would not.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{
    BindRule, Confinement, ExecPattern, HostPath, IdentityRule, InitRule, LandlockRule, Level, MemfdRule,
    MountAccess, PodSecurityRule, ProfileRule, RootRule, ScopeRule, TcpRule, UserNamespaceRule, UserRule,
    VolumesRule,
};

use crate::{Mode, exec};

/// Oldest Landlock ABI that has rules for TCP.
///
/// Source: landlock(7), `LANDLOCK_ACCESS_NET_CONNECT_TCP`, Linux 6.7.
pub(crate) const TCP_ABI_MIN: u8 = 4;

/// Oldest Landlock ABI that scopes signals and abstract sockets.
///
/// Source: landlock(7), `LANDLOCK_SCOPE_SIGNAL`, Linux 6.12.
pub(crate) const SCOPE_ABI_MIN: u8 = 6;

/// An order of strictness.
pub(crate) trait Stricter: Sized {
    /// The strictest value that allows all that both allow, and nothing else.
    fn stricter(&self, other: &Self) -> Self;
}

/// `enforce` < `audit`.
impl Stricter for Mode {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (Mode::Audit, Mode::Audit) => Mode::Audit,
            (Mode::Enforce, _) | (_, Mode::Enforce) => Mode::Enforce,
        }
    }
}

/// `hardened` < `compatible`.
impl Stricter for Level {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (Level::Compatible, Level::Compatible) => Level::Compatible,
            (Level::Hardened, _) | (_, Level::Hardened) => Level::Hardened,
        }
    }
}

/// `non-root` < `{ force = N }`; two different forced ids have only `non-root` in common.
impl Stricter for UserRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (UserRule::Force(one), UserRule::Force(two)) if one == two => UserRule::Force(*one),
            (UserRule::Force(_) | UserRule::NonRoot, UserRule::Force(_) | UserRule::NonRoot) => {
                UserRule::NonRoot
            }
        }
    }
}

/// `shifted` < `root-only` < `request`.
impl Stricter for UserNamespaceRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (UserNamespaceRule::Shifted, _) | (_, UserNamespaceRule::Shifted) => UserNamespaceRule::Shifted,
            (UserNamespaceRule::RootOnly, _) | (_, UserNamespaceRule::RootOnly) => {
                UserNamespaceRule::RootOnly
            }
            (UserNamespaceRule::Request, UserNamespaceRule::Request) => UserNamespaceRule::Request,
        }
    }
}

/// `read-only` < `writable`.
impl Stricter for RootRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (RootRule::Writable, RootRule::Writable) => RootRule::Writable,
            (RootRule::ReadOnly, _) | (_, RootRule::ReadOnly) => RootRule::ReadOnly,
        }
    }
}

/// `denied` < `allowed`.
impl Stricter for MemfdRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (MemfdRule::Allowed, MemfdRule::Allowed) => MemfdRule::Allowed,
            (MemfdRule::Denied, _) | (_, MemfdRule::Denied) => MemfdRule::Denied,
        }
    }
}

/// `restricted` < `tightened`.
impl Stricter for PodSecurityRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (PodSecurityRule::Tightened, PodSecurityRule::Tightened) => PodSecurityRule::Tightened,
            (PodSecurityRule::Restricted, _) | (_, PodSecurityRule::Restricted) => {
                PodSecurityRule::Restricted
            }
        }
    }
}

/// `as-is` < `filled-in`.
impl Stricter for IdentityRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (IdentityRule::FilledIn, IdentityRule::FilledIn) => IdentityRule::FilledIn,
            (IdentityRule::AsIs, _) | (_, IdentityRule::AsIs) => IdentityRule::AsIs,
        }
    }
}

/// `true` < `false`: either file may ask for it. Under a generated profile the first process may make the small init's calls as
/// well; the plan refuses it under a pinned one that lacks them.
impl Stricter for InitRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (InitRule::Program, InitRule::Program) => InitRule::Program,
            (InitRule::Small, _) | (_, InitRule::Small) => InitRule::Small,
        }
    }
}

/// `read-only` < `tmpfs`.
impl Stricter for VolumesRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (VolumesRule::Tmpfs, VolumesRule::Tmpfs) => VolumesRule::Tmpfs,
            (VolumesRule::AsTheyAre, _) | (_, VolumesRule::AsTheyAre) => VolumesRule::AsTheyAre,
        }
    }
}

/// Pinned < `generated` < `generated-when-ready` < `baseline`; of two pins what both name.
impl Stricter for ProfileRule {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (ProfileRule::Pinned(one), ProfileRule::Pinned(two)) => {
                ProfileRule::Pinned(one.intersection(two).copied().collect())
            }
            (ProfileRule::Pinned(pins), _) | (_, ProfileRule::Pinned(pins)) => {
                ProfileRule::Pinned(pins.clone())
            }
            (ProfileRule::Generated, _) | (_, ProfileRule::Generated) => ProfileRule::Generated,
            (ProfileRule::WhenReady, _) | (_, ProfileRule::WhenReady) => ProfileRule::WhenReady,
            (ProfileRule::Baseline, ProfileRule::Baseline) => ProfileRule::Baseline,
        }
    }
}

/// Fewer ports, `none` the fewest; every list < `any`.
impl Stricter for TcpRule {
    fn stricter(&self, other: &Self) -> Self {
        self.common(other)
    }
}

/// `exposed` < `any`, and fewer ports.
impl Stricter for BindRule {
    fn stricter(&self, other: &Self) -> Self {
        let Self { exposed, ports } = self;
        Self { exposed: *exposed || other.exposed, ports: ports.stricter(&other.ports) }
    }
}

/// `read-only` < `read-write`.
impl Stricter for MountAccess {
    fn stricter(&self, other: &Self) -> Self {
        match (self, other) {
            (MountAccess::ReadWrite, MountAccess::ReadWrite) => MountAccess::ReadWrite,
            (MountAccess::ReadOnly, _) | (_, MountAccess::ReadOnly) => MountAccess::ReadOnly,
        }
    }
}

/// A higher `floor_abi` refuses more kernels, and more `scope` lets out less.
impl Stricter for LandlockRule {
    fn stricter(&self, other: &Self) -> Self {
        let Self { floor_abi, files, tcp_bind, tcp_connect, scope } = self;
        let tcp_bind = tcp_bind.stricter(&other.tcp_bind);
        let tcp_connect = tcp_connect.stricter(&other.tcp_connect);
        let scope: BTreeSet<ScopeRule> = scope.union(&other.scope).copied().collect();
        let any_port = !tcp_bind.exposed && tcp_bind.ports == TcpRule::Any && tcp_connect == TcpRule::Any;
        let for_tcp = if any_port { 0 } else { TCP_ABI_MIN };
        let for_scope = if scope.is_empty() { 0 } else { SCOPE_ABI_MIN };
        Self {
            floor_abi: (*floor_abi).max(other.floor_abi).max(for_tcp).max(for_scope),
            files: files.stricter(&other.files),
            tcp_bind,
            tcp_connect,
            scope,
        }
    }
}

/// Fewer paths. A path is itself alone: what is mounted at `/a` says nothing of `/a/b`.
impl Stricter for BTreeSet<PathBuf> {
    fn stricter(&self, other: &Self) -> Self {
        self.intersection(other).cloned().collect()
    }
}

/// Fewer commands: those that both lists allow.
impl Stricter for Vec<ExecPattern> {
    fn stricter(&self, other: &Self) -> Self {
        exec::common(self, other)
    }
}

/// Fewer directories, and `read-only` where either says so: what both let be mounted, as both let it.
impl Stricter for BTreeSet<HostPath> {
    fn stricter(&self, other: &Self) -> Self {
        let both = |one: &HostPath, two: &HostPath| {
            let path = if one.path.starts_with(&two.path) {
                &one.path
            } else if two.path.starts_with(&one.path) {
                &two.path
            } else {
                return None;
            };
            Some(HostPath { path: path.clone(), access: one.access.stricter(&two.access) })
        };
        let pairs = self.iter().flat_map(|one| other.iter().filter_map(move |two| both(one, two)));
        canonical_host_paths(&pairs.collect())
    }
}

/// The directories without those that another covers.
pub(crate) fn canonical_host_paths(paths: &BTreeSet<HostPath>) -> BTreeSet<HostPath> {
    let covers = |outer: &HostPath, inner: &HostPath| {
        inner.path.starts_with(&outer.path)
            && matches!(
                (outer.access, inner.access),
                (MountAccess::ReadWrite, _) | (MountAccess::ReadOnly, MountAccess::ReadOnly)
            )
    };
    let covered = |inner: &&HostPath| paths.iter().any(|outer| outer != *inner && covers(outer, inner));
    paths.iter().filter(|path| !covered(path)).cloned().collect()
}

/// Every key by its own order; for numbers the smaller.
impl Stricter for Confinement {
    fn stricter(&self, other: &Self) -> Self {
        let Self {
            level,
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
        } = self;
        Self {
            level: level.stricter(&other.level),
            user: user.stricter(&other.user),
            user_namespace: user_namespace.stricter(&other.user_namespace),
            root: root.stricter(&other.root),
            tmpfs: tmpfs.stricter(&other.tmpfs),
            writable: writable.stricter(&other.writable),
            tmpfs_bytes_max: (*tmpfs_bytes_max).min(other.tmpfs_bytes_max),
            tmpfs_inodes_max: (*tmpfs_inodes_max).min(other.tmpfs_inodes_max),
            memfd: memfd.stricter(&other.memfd),
            seccomp: seccomp.stricter(&other.seccomp),
            landlock: landlock.stricter(&other.landlock),
            exec: exec.stricter(&other.exec),
            host_paths: host_paths.stricter(&other.host_paths),
            hooks: hooks.stricter(&other.hooks),
            pids_max: (*pids_max).min(other.pids_max),
            pod_security: pod_security.stricter(&other.pod_security),
            executable: executable.stricter(&other.executable),
            identity: identity.stricter(&other.identity),
            init: init.stricter(&other.init),
            volumes: volumes.stricter(&other.volumes),
        }
    }
}

#[cfg(test)]
mod tests;
