//! What a process confines itself to: a plain wire struct, the same for init, exec and (later) the guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that `confine` enforces on one process and asks the kernel back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfineSpec {
    /// Ids the process must have by then.
    pub credentials: Credentials,
    /// Whether `/` must be read-only by then.
    pub root_read_only: bool,
    /// The Landlock ruleset.
    pub landlock: LandlockSpec,
    /// Seccomp programs, each a list of `sock_filter` packed as u64, loaded in this order; the kernel takes
    /// the strictest answer of all.
    pub seccomp: Vec<Vec<u64>>,
}

/// The ids of a process. Its capability sets are empty always.
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
    /// What each directory of the image's root gets. `/` itself gets READ_DIR alone, or `ls /` fails.
    pub image: PathAccess,
    /// Rights below mounts and single files.
    pub paths: Vec<PathRule>,
    /// Outgoing TCP.
    pub tcp_connect: TcpRule,
    /// A file that the runtime made outside of the ruleset: to open it must give EACCES.
    pub canary: PathBuf,
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

/// Outgoing TCP, from Landlock ABI 4 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpRule {
    /// No connect(2) of TCP at all.
    None,
    /// Any port.
    Any,
}
