//! Which control groups this host has, and where.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};

use crate::{Cgroup, CgroupError, CgroupPath, file::failed};

/// Where systemd, and every container runtime after it, has control groups mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Which of the three layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller or set of controllers.
    V1,
    /// The same, and one of version 2 without controllers.
    Hybrid,
    /// One hierarchy.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// Its directory's name: `cpu,cpuacct`, `systemd`; empty on v2.
    pub(crate) names: String,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
}

/// The host's control groups. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) version: Version,
    pub(crate) hierarchies: Arc<[Hierarchy]>,
}

impl Host {
    /// Looks the hierarchies up: one directory and one statfs(2) for each entry, never the table of all mounts.
    pub fn detect() -> Result<Self, CgroupError> {
        Self::below(Path::new(ROOT))
    }

    /// The same for hierarchies that are mounted elsewhere, such as the one of version 2 of a hybrid host.
    pub fn below(root: &Path) -> Result<Self, CgroupError> {
        if kind(root)? == CGROUP2_SUPER_MAGIC {
            let hierarchy = Hierarchy { names: String::new(), mount: root.to_owned() };
            return Ok(Self { version: Version::V2, hierarchies: [hierarchy].into() });
        }
        let mut version = Version::V1;
        let mut hierarchies = Vec::new();
        for entry in fs::read_dir(root).map_err(failed("open(2)", root))? {
            let entry = entry.map_err(failed("getdents(2)", root))?;
            // Links name controllers that are mounted together: `cpu` -> `cpu,cpuacct`.
            let is_dir = entry.file_type().map_err(failed("stat(2)", root))?.is_dir();
            let Ok(names) = entry.file_name().into_string() else { continue };
            if !is_dir {
                continue;
            }
            let mount = entry.path();
            let found = kind(&mount)?;
            if found == CGROUP2_SUPER_MAGIC {
                version = Version::Hybrid;
            } else if found == CGROUP_SUPER_MAGIC {
                hierarchies.push(Hierarchy { names, mount });
            }
        }
        if hierarchies.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        hierarchies.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(Self { version, hierarchies: hierarchies.into() })
    }

    /// Which layout.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The group at `path`; nothing is made or looked at.
    #[must_use]
    pub fn cgroup(&self, path: &CgroupPath) -> Cgroup {
        Cgroup::new(self.clone(), path)
    }

    /// The hierarchy of a controller; v1 and hybrid.
    pub(crate) fn index(&self, controller: &str) -> Option<usize> {
        self.hierarchies.iter().position(|h| h.names.split(',').any(|name| name == controller))
    }
}

fn kind(path: &Path) -> Result<FsType, CgroupError> {
    statfs(path).map(|found| found.filesystem_type()).map_err(|errno| failed("statfs(2)", path)(errno.into()))
}
