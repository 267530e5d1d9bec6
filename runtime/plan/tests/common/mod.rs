//! What the tests of the whole crate start from: recorded requests, real grants, a host.

#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_binding::{bind, example};
use bulkhead_model::{ContainerKind, CreateRequest, Refusal, Tenant};
use bulkhead_plan::{HardLimits, HostFacts, Plan, PodFacts, SecurityModules, SysResource, plan};
use bulkhead_policy::{Grant, Policy, Source};
use oci_spec::runtime::Spec;

pub const UID: &str = "0d2f1c5e-7a51-4a0e-9d8c-3f1f6f0b9a11";

/// Where requests and their plans are kept.
pub fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A recorded config.json.
pub fn spec(name: &str) -> Spec {
    let path = golden_dir().join(name).join("config.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A container `c1` that asks for `spec`: of the pod that its annotations name, if they do.
pub fn request(spec: Spec) -> CreateRequest {
    let annotation = |name: &str| spec.annotations().as_ref().and_then(|all| all.get(name).cloned());
    let in_pod = annotation("io.kubernetes.cri.container-type");
    let sandbox = annotation("io.kubernetes.cri.sandbox-id");
    let (id, kind) = match (in_pod.as_deref(), sandbox) {
        (Some("sandbox"), Some(sandbox)) => (sandbox, ContainerKind::Sandbox),
        (Some("container"), Some(sandbox)) => {
            let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
            let id = path.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())).unwrap();
            (id, ContainerKind::InSandbox { sandbox: sandbox.parse().unwrap() })
        }
        _ => ("c1".to_owned(), ContainerKind::Plain),
    };
    let namespace = if kind == ContainerKind::Plain { "default" } else { "k8s.io" };
    CreateRequest {
        id: id.parse().unwrap(),
        tenant: Tenant {
            containerd_namespace: namespace.parse().unwrap(),
            namespace: "default".parse().unwrap(),
        },
        kind,
        bundle: format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}").into(),
        spec,
        rootfs: Vec::new(),
    }
}

/// A grant of a policy whose section for the image holds `keys`.
pub fn grant(request: &CreateRequest, keys: &str) -> Grant {
    let name = "registry.example/app:1";
    let facts = example::facts("app");
    let text = format!(
        "version = 1\n[image]\n\"registry.example/**\" = {{ digests = [\"{}\"], confine = \"it\" }}\n[confine.it]\n{keys}\n",
        facts.target
    );
    let policy = Policy::parse(&Source { path: "/etc/bulkhead/policy.toml".into(), text }, None).unwrap();
    let observed = example::observed(&facts, name);
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    policy.admit(&image, request).unwrap()
}

/// A host whose server has every right, and on which `request`'s pod runs.
pub fn host(request: &CreateRequest) -> HostFacts {
    // Recorded requests name the sandbox's process by the pid that it had.
    let joined = request.spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let sandbox_pid = joined
        .filter_map(|namespace| {
            namespace.path().as_ref()?.strip_prefix("/proc").ok()?.iter().next()?.to_str()
        })
        .find_map(|pid| pid.parse().ok());
    HostFacts {
        containerd_root: "/var/lib/containerd".into(),
        containerd_state: "/run/containerd".into(),
        kubelet_root: "/var/lib/kubelet".into(),
        pod: sandbox_pid.map(|sandbox_pid| PodFacts {
            sandbox_pid,
            network_namespace: None,
            user_namespace: None,
            init_pids: [sandbox_pid].into(),
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

/// The plan for a spec under a section with `keys`.
pub fn plan_of(spec: Spec, keys: &str) -> Result<Plan, Refusal> {
    let request = request(spec);
    plan(&request, &grant(&request, keys), &host(&request))
}
