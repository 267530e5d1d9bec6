//! What is measured, as it comes out of the machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A runtime that serves the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    /// runc, by containerd's shim for it.
    Runc,
    /// Bulkhead's defaults.
    Bulkhead,
    /// gVisor, by containerd's shim for runc.
    Runsc,
}

impl Subject {
    /// All of them.
    pub(crate) const ALL: [Subject; 3] = [Subject::Runc, Subject::Bulkhead, Subject::Runsc];

    /// Its name, which is also that of its CRI handler.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Runc => "runc",
            Subject::Bulkhead => "bulkhead",
            Subject::Runsc => "runsc",
        }
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    /// nginx, asked for things.
    Requests,
    /// A program that sleeps: the control.
    Idle,
}

impl Load {
    /// All of them. nginx first: its run is the image's first launch, which wants a judge.
    pub(crate) const ALL: [Load; 2] = [Load::Requests, Load::Idle];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Requests => "requests",
            Load::Idle => "idle",
        }
    }
}

/// The kernel functions that were reached by all processes that serve one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measured {
    pub(crate) subject: Subject,
    pub(crate) load: Load,
    /// Entries of functions that were looked at.
    pub(crate) entries: u64,
    /// From the pod's creation to its removal: `name@address`.
    pub(crate) whole: BTreeSet<String>,
    /// While it was asked.
    pub(crate) serving: BTreeSet<String>,
}
