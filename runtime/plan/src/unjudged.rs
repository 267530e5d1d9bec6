//! Plans that no gate has seen, for tests of what carries a plan out. Feature `example` only: a build of the shim has
//! neither the feature nor these functions.

use std::collections::BTreeSet;

use bulkhead_model::{ConfineSpec, IdentityRule, InitRule, MemfdRule};
use oci_spec::runtime::{Process, Spec};

use crate::{ExecPlan, HardLimits, HostFacts, Plan, SecurityModules, SysResource};

impl Plan {
    /// A plan of exactly this.
    #[must_use]
    pub fn unjudged(spec: Spec, confine: ConfineSpec) -> Self {
        let host = HostFacts {
            containerd_root: "/var/lib/containerd".into(),
            containerd_state: "/run/containerd".into(),
            kubelet_root: "/var/lib/kubelet".into(),
            pod: None,
            landlock_abi: 0,
            hard_limits: HardLimits::default(),
            sys_resource: SysResource::Missing,
            oom_score_adj: 0,
            canary_source: "/run/bulkhead/canary".into(),
            init_source: "/run/bulkhead/init".into(),
            volumes: BTreeSet::new(),
            cgroup_view: None,
            id_range: None,
            modules: SecurityModules { apparmor: true, selinux: true },
            mountinfo: None,
            profile: None,
            exposed: Default::default(),
        };
        Self {
            spec,
            confine,
            changes: Vec::new(),
            memfd: MemfdRule::Denied,
            profile: None,
            host,
            source_roots: Vec::new(),
            image_volumes: Vec::new(),
            copied_up: BTreeSet::new(),
            exec_filter: crate::seccomp::LastFilter::default(),
            init: InitRule::Program,
            identity: IdentityRule::AsIs,
        }
    }
}

impl ExecPlan {
    /// A plan of exactly this.
    #[must_use]
    pub fn unjudged(process: Process, confine: ConfineSpec) -> Self {
        Self { process, confine, changes: Vec::new() }
    }
}
