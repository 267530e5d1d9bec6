//! What a named `[confine.*]` of policy comes to, after node and tenant were ANDed.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ProfileRule, ScopeRule, TcpRule, UserNamespaceRule};

/// How a container is confined. Each field's order of strictness is stated and tested in `policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Whether the keys below hold, or the request's own words.
    pub level: Level,
    /// Which uid may run.
    pub user: UserRule,
    /// Which user namespace its pod gets.
    pub user_namespace: UserNamespaceRule,
    /// Whether the image's files may change.
    pub root: RootRule,
    /// Small tmpfs mounts, nosuid, nodev, noexec.
    pub tmpfs: BTreeSet<PathBuf>,
    /// More tmpfs mounts of the same kind, named by the operator.
    pub writable: BTreeSet<PathBuf>,
    /// Size limit of each of these mounts, in bytes.
    pub tmpfs_bytes_max: u64,
    /// Inode limit of each of these mounts.
    pub tmpfs_inodes_max: u64,
    /// Whether memfd_create(2) is there.
    pub memfd: MemfdRule,
    /// Which seccomp profile holds.
    pub seccomp: ProfileRule,
    /// Landlock beyond the mounts.
    pub landlock: LandlockRule,
    /// What may be exec'd; nothing when empty.
    pub exec: Vec<ExecPattern>,
    /// Host directories that may be mounted.
    pub host_paths: BTreeSet<HostPath>,
    /// Absolute paths of OCI hooks that may run, root-owned.
    pub hooks: BTreeSet<PathBuf>,
    /// Most processes and threads at once.
    pub pids_max: u32,
    /// What becomes of a pod's container that Pod Security "restricted" would not have.
    pub pod_security: PodSecurityRule,
    /// Places in the container whose mounts programs may be executed from, though they can be written to.
    pub executable: BTreeSet<PathBuf>,
    /// What a uid that the image does not know is called.
    pub identity: IdentityRule,
    /// What is the container's first process.
    pub init: InitRule,
    /// What becomes of VOLUMEs of the image.
    pub volumes: VolumesRule,
}

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Policy's: what the request asks is hardened, or refused.
    Hardened,
    /// The request's: granted as runc would. Of policy only `exec` and `hooks` hold beside the image's own gates.
    Compatible,
}

/// Which uid and gid may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRule {
    /// Root is refused.
    NonRoot,
    /// Root is replaced by this uid and gid; what is not root stays.
    Force(u32),
}

/// Whether the image's files may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootRule {
    /// Mounted read-only.
    ReadOnly,
    /// Writable where the request asks for it.
    Writable,
}

/// What becomes of a pod's container that Pod Security "restricted" would not have, where it can be made to meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSecurityRule {
    /// It runs, as if it had asked for no more than that.
    Tightened,
    /// It is refused, with the control's name.
    Restricted,
}

/// What a uid that the image does not know is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityRule {
    /// A line in /etc/passwd and /etc/group, and with it a HOME.
    FilledIn,
    /// Nothing: the files are the image's.
    AsIs,
}

/// What becomes of the VOLUMEs that an image declares, where the request mounts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumesRule {
    /// Each is a small tmpfs, of the same kind as `writable`.
    Tmpfs,
    /// They are directories of the image as any other.
    AsTheyAre,
}

/// What is a container's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitRule {
    /// Its program.
    Program,
    /// A small init, which runs the program, hands signals on and waits for orphans.
    Small,
}

/// Whether memfd_create(2) is there: it goes round noexec and Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemfdRule {
    /// ENOSYS.
    Denied,
    /// As the request's own profile says.
    Allowed,
}

/// The part of Landlock that policy sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandlockRule {
    /// Oldest Landlock ABI that a launch may rely on.
    pub floor_abi: u8,
    /// Which of the image's files may be executed and read.
    pub files: ProfileRule,
    /// TCP ports that may be bound.
    pub tcp_bind: BindRule,
    /// TCP ports that may be connected to.
    pub tcp_connect: TcpRule,
    /// What does not leave a process and its children.
    pub scope: BTreeSet<ScopeRule>,
}

/// Which TCP ports may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindRule {
    /// Whether only those that the image's config EXPOSEs.
    pub exposed: bool,
    /// And of those only these.
    pub ports: TcpRule,
}

/// argv that may be exec'd: each word literal, `*` at the end for any rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecPattern {
    /// Words that must be there.
    pub words: Vec<String>,
    /// Whether more words may follow.
    pub open_end: bool,
    /// What of a person at the other end it may have.
    pub interaction: Interaction,
}

/// What a process that is exec'd has of whoever asked for it; output it always has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interaction {
    /// Its standard input: what is typed, or piped into it.
    pub stdin: bool,
    /// A terminal.
    pub tty: bool,
}

impl Interaction {
    /// Both.
    pub const ALL: Self = Self { stdin: true, tty: true };

    /// Whether whoever may have this may have `other`.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.stdin || !other.stdin) && (self.tty || !other.tty)
    }

    /// What both have.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self { stdin: self.stdin && other.stdin, tty: self.tty && other.tty }
    }
}

impl ExecPattern {
    /// Whether it lets `argv` be exec'd so.
    #[must_use]
    pub fn allows(&self, argv: &[String], interaction: Interaction) -> bool {
        self.matches(argv) && self.interaction.covers(interaction)
    }

    /// Whether `argv` is one of those that the pattern means, with whatever interaction.
    #[must_use]
    pub fn matches(&self, argv: &[String]) -> bool {
        argv.starts_with(&self.words) && (self.open_end || argv.len() == self.words.len())
    }
}

/// A host directory that policy lets containers mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPath {
    /// Absolute path without `..`; what is below it may be mounted as well.
    pub path: PathBuf,
    /// How.
    pub access: MountAccess,
}

/// How a mount may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAccess {
    /// Read only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}
