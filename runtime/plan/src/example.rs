//! What tests start from: containerd's own default request, and a host.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bulkhead_model::{
    BindRule, Confinement, ContainerKind, CreateRequest, IdentityRule, InitRule, LandlockRule, Level,
    MemfdRule, PodSecurityRule, ProfileRule, RootRule, TcpRule, Tenant, UserNamespaceRule, UserRule,
    VolumesRule,
};
use oci_spec::runtime::{Process, Spec};

use crate::{HardLimits, HostFacts, PodFacts, SecurityModules, SysResource};

/// `ctr run --user 1000:1000` of containerd 1.6.20, as it was written to config.json.
const CTR_USER: &str = include_str!("../tests/golden/ctr-1.6-user/config.json");

/// Policy's defaults.
pub(crate) fn confinement() -> Confinement {
    Confinement {
        level: Level::Hardened,
        user: UserRule::NonRoot,
        user_namespace: UserNamespaceRule::Request,
        root: RootRule::ReadOnly,
        tmpfs: ["/tmp", "/var/tmp", "/run"].map(Into::into).into(),
        writable: BTreeSet::new(),
        tmpfs_bytes_max: 64 << 20,
        tmpfs_inodes_max: 16_384,
        memfd: MemfdRule::Denied,
        seccomp: ProfileRule::Baseline,
        landlock: LandlockRule {
            floor_abi: 1,
            files: ProfileRule::Baseline,
            tcp_bind: BindRule { exposed: false, ports: TcpRule::Any },
            tcp_connect: TcpRule::Any,
            scope: BTreeSet::new(),
        },
        exec: Vec::new(),
        host_paths: BTreeSet::new(),
        hooks: BTreeSet::new(),
        pids_max: 1024,
        pod_security: PodSecurityRule::Tightened,
        executable: BTreeSet::new(),
        init: InitRule::Program,
        volumes: VolumesRule::Tmpfs,
        identity: IdentityRule::FilledIn,
    }
}

/// A host whose server has every right, with a pod that runs.
pub(crate) fn host() -> HostFacts {
    HostFacts {
        containerd_root: "/var/lib/containerd".into(),
        containerd_state: "/run/containerd".into(),
        kubelet_root: "/var/lib/kubelet".into(),
        pod: Some(PodFacts {
            sandbox_pid: 4242,
            network_namespace: Some("/var/run/netns/cni-1f2e-3d".into()),
            user_namespace: None,
            init_pids: [4242, 4300].into(),
        }),
        landlock_abi: 7,
        hard_limits: HardLimits::default(),
        sys_resource: SysResource::Held,
        oom_score_adj: 0,
        canary_source: "/run/bulkhead/canary".into(),
        init_source: "/run/bulkhead/init".into(),
        volumes: BTreeSet::new(),
        cgroup_view: Some("/run/bulkhead/tasks/default/c1/cgroup".into()),
        id_range: None,
        modules: SecurityModules { apparmor: true, selinux: true },
        mountinfo: None,
        profile: None,
        exposed: BTreeSet::new(),
    }
}

/// config.json as `ctr` writes it.
pub(crate) fn spec() -> Spec {
    serde_json::from_str(CTR_USER).unwrap()
}

/// Its process.
pub(crate) fn process() -> Process {
    spec().process().clone().unwrap()
}

/// A container outside of any pod.
pub(crate) fn request() -> CreateRequest {
    CreateRequest {
        id: "c1".parse().unwrap(),
        tenant: tenant("default"),
        kind: ContainerKind::Plain,
        bundle: "/run/containerd/io.containerd.runtime.v2.task/default/c1".into(),
        spec: spec(),
        rootfs: Vec::new(),
    }
}

/// A tenant of containerd's namespace `namespace`.
pub(crate) fn tenant(namespace: &str) -> Tenant {
    Tenant { containerd_namespace: namespace.parse().unwrap(), namespace: "team-a".parse().unwrap() }
}
