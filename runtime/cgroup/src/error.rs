//! What can go wrong with a control group.

use std::{io, path::PathBuf};

/// A control group could not be set up, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The text is no path of a control group.
    #[error("cgroup path {0:?} is not an absolute path of plain names")]
    Path(String),
    /// The `slice:prefix:name` form of the systemd driver.
    #[error("cgroup path {0:?} is of the systemd driver, which is not supported yet: use cgroupfs")]
    SystemdPath(String),
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup")]
    NotMounted,
    /// The controller that a limit needs is not there.
    #[error("{field} needs the cgroup controller {controller}, which this host does not have")]
    NoController {
        /// The limit, as the OCI spec names it.
        field: &'static str,
        /// The controller.
        controller: &'static str,
    },
    /// A limit that this kernel or this crate cannot keep.
    #[error("{field} is not supported: {why}")]
    Unsupported {
        /// The limit, as the OCI spec names it.
        field: String,
        /// Why.
        why: &'static str,
    },
    /// A file holds what the kernel never writes there.
    #[error("{path} holds {text:?}, which is no {wanted}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was read.
        text: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A system call failed.
    #[error("{call} {path}", path = path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// Its subject.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Processes did not stop, or did not leave, in time.
    #[error("{path}: {what} after {tries} tries", path = path.display())]
    Busy {
        /// The group.
        path: PathBuf,
        /// What did not happen.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
}

impl CgroupError {
    /// Whether the group itself is not there (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
