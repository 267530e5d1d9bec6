//! The runtimes and requests that every technique is tried under: one column of the table each.

use bulkhead_integration::{BULKHEAD, RUNC, UID};

/// A runtime with the request that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    /// Root, every capability, nothing masked, no seccomp: where an attack on the kernel must succeed.
    RuncPrivileged,
    /// Root with containerd's default capabilities, no seccomp: what Kubernetes gives without SeccompDefault.
    RuncNoSeccomp,
    /// The same with containerd's default seccomp profile.
    Runc,
    /// As an ordinary user with containerd's default seccomp profile.
    RuncNonRoot,
    /// A runc whose holes are public, 1.1.11, or 1.0.0-rc6 for the one hole that was mended before: root with
    /// containerd's default capabilities, no seccomp.
    RuncOld,
    /// gVisor: a kernel in user space. Root, as its users run it.
    Runsc,
    /// Bulkhead's defaults, asked for nothing beyond containerd's.
    Bulkhead,
    /// Bulkhead's compatible level, which grants what runc would to images that the node's file names for it.
    BulkheadCompatible,
}

impl Column {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Column; 8] = [
        Column::RuncPrivileged,
        Column::RuncNoSeccomp,
        Column::Runc,
        Column::RuncNonRoot,
        Column::RuncOld,
        Column::Runsc,
        Column::Bulkhead,
        Column::BulkheadCompatible,
    ];

    /// Its name in table and report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Column::RuncPrivileged => "runc privileged",
            Column::RuncNoSeccomp => "runc no-seccomp",
            Column::Runc => "runc",
            Column::RuncNonRoot => "runc non-root",
            Column::RuncOld => "old runc",
            Column::Runsc => "runsc",
            Column::Bulkhead => "bulkhead",
            Column::BulkheadCompatible => "bulkhead compatible",
        }
    }

    /// The runtime type.
    pub(crate) fn runtime(self) -> &'static str {
        match self {
            Column::RuncPrivileged
            | Column::RuncNoSeccomp
            | Column::Runc
            | Column::RuncNonRoot
            | Column::RuncOld
            | Column::Runsc => RUNC,
            Column::Bulkhead | Column::BulkheadCompatible => BULKHEAD,
        }
    }

    /// The user that the image names.
    pub(crate) fn user(self) -> u32 {
        match self {
            Column::RuncPrivileged
            | Column::RuncNoSeccomp
            | Column::Runc
            | Column::RuncOld
            | Column::Runsc
            | Column::BulkheadCompatible => 0,
            Column::RuncNonRoot | Column::Bulkhead => UID,
        }
    }

    /// Where its images come from: policy gives the compatible level to one repository alone.
    pub(crate) fn repository(self) -> &'static str {
        match self {
            Column::BulkheadCompatible => "registry.test/infra",
            _ => "registry.test/team-a",
        }
    }

    /// Whether it is one that Bulkhead answers for: its defaults.
    pub(crate) fn is_ours(self) -> bool {
        self == Column::Bulkhead
    }

    /// What `ctr run` is given beside it.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Column::RuncPrivileged => &["--privileged"],
            Column::RuncNoSeccomp => &[],
            Column::Runc => &["--seccomp"],
            Column::RuncNonRoot => &["--seccomp"],
            Column::RuncOld | Column::Runsc | Column::Bulkhead => &[],
            // The same request as runc's own.
            Column::BulkheadCompatible => &["--seccomp"],
        }
    }
}

/// Whether a technique runs in the container's first process or in one that was exec'd into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The first process.
    Init,
    /// A later one.
    Exec,
}

impl Phase {
    /// Both.
    pub(crate) const ALL: [Phase; 2] = [Phase::Init, Phase::Exec];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::Exec => "exec",
        }
    }
}
