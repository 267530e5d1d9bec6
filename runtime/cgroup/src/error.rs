//! What can go wrong with a control group.

use std::{io, path::PathBuf};

/// A control group could not be set up, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The text is no path of a control group.
    #[error(
        "cgroup path {0:?} is not an absolute path of plain names; fix: name one below the hierarchies' roots, such as \
         /team/web (kubelet: cgroupRoot, ctr: --cgroup)"
    )]
    Path(String),
    /// Not quite the `slice:prefix:name` form of the systemd driver.
    #[error(
        "cgroup path {path:?} is none of systemd's: {why}; fix: give slice:prefix:name, or an absolute path"
    )]
    SystemdPath {
        /// What was given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The host does not run systemd.
    #[error(
        "linux.cgroupsPath asks systemd for a control group, and this host does not run systemd (no \
         /run/systemd/system); fix: cgroupDriver: cgroupfs in the kubelet's configuration, SystemdCgroup = false in \
         containerd's, or an absolute path"
    )]
    NoSystemd,
    /// systemd said no.
    #[error("systemd: {call} of {unit}: {error}")]
    Systemd {
        /// What it was asked.
        call: &'static str,
        /// About which unit.
        unit: String,
        /// Its answer.
        error: String,
    },
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup")]
    NotMounted,
    /// The controller that a limit needs is not there.
    #[error("{field} needs the cgroup controller {controller}, which this host does not have")]
    NoController {
        /// The limit, as the OCI spec names it.
        field: String,
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
    /// A value that the kernel refuses.
    #[error("{field} = {value:?}: the kernel refuses it in {path}; fix: {fix}", path = path.display())]
    Refused {
        /// The limit, as the OCI spec names it.
        field: String,
        /// What was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// What to do about it.
        fix: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
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
    #[error("control group {path} {what} (waited {waited_ms} ms)", path = path.display())]
    Busy {
        /// The group.
        path: PathBuf,
        /// What did not happen.
        what: &'static str,
        /// How long that was waited for, in milliseconds.
        waited_ms: u64,
    },
}

impl CgroupError {
    /// Whether the group itself is not there (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
