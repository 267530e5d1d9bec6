//! An OCI spec and a grant to a plan: what is asked for, hardened, each change with its reason.
//!
//! ```text
//!               ┌─ repeats containerd's default ─► tightened, recorded as a Change ─┐
//! config.json ──┤─ is left out ──────────────────► filled in, recorded              ├─► Plan
//!               ├─ is allowed by the grant ──────► kept                             ─┘
//!               └─ goes beyond, or is unknown ───► Refusal, with the field named
//! ```
//! Where policy grants the compatible level, the request's own word counts instead (`compatible`).
//!
//! Invariant: pure. The same request, grant and facts give the same plan; no file, clock or network. A plan never
//! allows what its request does not, except where policy puts something in its place (a tmpfs for a writable
//! root, a sysctl for a capability): recorded. A field that no file of this crate knows is refused, not ignored.
//! Never here: what an image is (`bulkhead_binding`), whether it may run (`bulkhead_policy`), how a plan is
//! carried out (`bulkhead_launch`).
//!
//! One file per section of config.json. Exec passes the same judges as Create.

#![forbid(unsafe_code)]

mod capabilities;
mod change;
mod compatible;
mod devices;
#[cfg(test)]
mod example;
mod exec;
mod facts;
mod files;
mod hooks;
mod labels;
mod landlock;
mod limits;
mod masks;
mod mounts;
mod namespaces;
mod pod_security;
mod process;
mod refuse;
mod resources;
mod rlimits;
mod seccomp;
mod spec;
mod sysctl;
#[cfg(feature = "example")]
mod unjudged;
mod user;
mod user_namespace;

pub use change::{Change, Section};
pub use exec::ExecPlan;
pub use facts::{HardLimits, HostFacts, PodFacts, SecurityModules, SysResource};
pub use mounts::needs_mountinfo;
pub use resources::plan_update;
pub use user_namespace::{RangesNeeded, ranges_needed};

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use bulkhead_model::{
    ConfineSpec, CreateRequest, ExecRequest, GeneratedProfile, IdentityRule, ImageVolume, InitRule, Level,
    MemfdRule, Refusal,
};
use bulkhead_policy::{ExecGrant, Grant};
use oci_spec::runtime::{LinuxResources, Spec};

/// Where every container sees a file that no Landlock rule covers.
///
/// Below /dev, which is a tmpfs of ours whose entries have rules of their own.
pub const CANARY: &str = "/dev/.bulkhead-canary";

/// Where a container sees the small init, where policy asks for it.
pub const INIT: &str = "/dev/.bulkhead-init";

/// How a container runs. Made by [`plan`] alone.
#[derive(Debug)]
pub struct Plan {
    spec: Spec,
    confine: ConfineSpec,
    changes: Vec<Change>,
    memfd: MemfdRule,
    profile: Option<Arc<GeneratedProfile>>,
    host: HostFacts,
    source_roots: Vec<PathBuf>,
    image_volumes: Vec<ImageVolume>,
    identity: IdentityRule,
    copied_up: BTreeSet<PathBuf>,
    init: InitRule,
    exec_filter: seccomp::LastFilter,
}

impl Plan {
    /// config.json, hardened. The root file system is to be mounted nosuid and nodev.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What its first process does to itself before execve.
    #[must_use]
    pub fn confine(&self) -> &ConfineSpec {
        &self.confine
    }

    /// Directories of the node's below which the sources of bind mounts were judged, by their text: below one of
    /// these, whoever opens a source follows no symbolic link.
    #[must_use]
    pub fn source_roots(&self) -> &[PathBuf] {
        &self.source_roots
    }

    /// Images that are shown in place of what lies at the source of a bind mount.
    #[must_use]
    pub fn image_volumes(&self) -> &[ImageVolume] {
        &self.image_volumes
    }

    /// What the container's uid is called where the image does not know it.
    #[must_use]
    pub fn identity(&self) -> IdentityRule {
        self.identity
    }

    /// Places of tmpfs into which what the image has there is copied.
    #[must_use]
    pub fn copied_up(&self) -> &BTreeSet<PathBuf> {
        &self.copied_up
    }

    /// What its first process is.
    #[must_use]
    pub fn init(&self) -> InitRule {
        self.init
    }

    /// What differs from the request, each with its reason.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Limits and device rules of the control group.
    #[must_use]
    pub fn resources(&self) -> Option<&LinuxResources> {
        self.spec.linux().as_ref()?.resources().as_ref()
    }

    /// The control group that was asked for.
    #[must_use]
    pub fn cgroup_path(&self) -> Option<&Path> {
        self.spec.linux().as_ref()?.cgroups_path().as_deref()
    }
}

/// Plans a container.
///
/// # Errors
/// The request goes beyond what containerd asks for by default and beyond what policy granted.
pub fn plan(request: &CreateRequest, grant: &Grant, host: &HostFacts) -> Result<Plan, Refusal> {
    match grant.confinement().level {
        Level::Hardened => spec::plan(request, grant.confinement(), grant.image_volumes(), host),
        Level::Compatible => compatible::plan(request, grant.confinement(), grant.image_volumes(), host),
    }
}

/// Plans one more process in the container of `plan`. `profile` is the one of this moment, where policy wants one.
///
/// # Errors
/// As [`plan()`](crate::plan()).
pub fn plan_exec(
    request: &ExecRequest,
    plan: &Plan,
    grant: &ExecGrant,
    profile: Option<&Arc<GeneratedProfile>>,
) -> Result<ExecPlan, Refusal> {
    match &plan.confine {
        ConfineSpec::Hardened(created) => exec::plan(request, plan, created, grant.confinement(), profile),
        ConfineSpec::Compatible(created) => {
            compatible::plan_exec(request, plan, created, grant.confinement().level)
        }
    }
}
