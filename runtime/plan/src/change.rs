//! What a plan changed, and why: the difference between what was asked for and what runs.

use serde::Serialize;

/// A part of config.json. One file of this crate per section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Annotations, hostname and the sections of other platforms.
    Spec,
    /// `root`.
    Root,
    /// `mounts`.
    Mounts,
    /// `process`: command, environment, directory, umask, OOM score.
    Process,
    /// `process.user`.
    User,
    /// `process.capabilities` and `process.noNewPrivileges`.
    Capabilities,
    /// `process.rlimits`.
    Rlimits,
    /// `hooks`.
    Hooks,
    /// `linux.namespaces`.
    Namespaces,
    /// `linux.devices` and the device rules of the cgroup.
    Devices,
    /// `linux.resources`.
    Resources,
    /// `linux.sysctl`.
    Sysctl,
    /// `linux.maskedPaths` and `linux.readonlyPaths`.
    Paths,
    /// `linux.seccomp`.
    Seccomp,
    /// Landlock, of which config.json says nothing.
    Landlock,
}

/// One difference between the request and the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where.
    pub section: Section,
    /// What is different: `capabilities: 14 dropped`.
    pub what: String,
    /// Why.
    pub reason: &'static str,
}

/// The changes of one plan, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<Change>);

impl Changes {
    /// Records one change.
    pub(crate) fn record(&mut self, section: Section, what: impl Into<String>, reason: &'static str) {
        self.0.push(Change { section, what: what.into(), reason });
    }

    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<Change> {
        self.0
    }
}
