//! Under which policies the images of a namespace are looked at: those of everybody who may run them.

use std::borrow::Cow;

use bulkhead_model::{Layout, Namespace, Refusal};
use bulkhead_node::{load_node_policy, load_policy, tenants_dir};
use bulkhead_policy::Policy;

/// containerd's namespace for pods, whose tenants are those of Kubernetes.
///
/// Source: `K8sContainerdNamespace`, containerd internal/cri/constants.
pub(crate) const CRI_NAMESPACE: &str = "k8s.io";

/// A policy, and whose it is.
#[derive(Clone)]
pub(crate) struct Tenant {
    /// The tenant; `None` for every tenant without a file.
    pub(crate) name: Option<Namespace>,
    /// His policy, or why there is none.
    pub(crate) policy: Result<Policy, Refusal>,
}

/// The policies of one look.
pub(crate) struct Tenants {
    layout: Layout,
    pods: Vec<Tenant>,
}

impl Tenants {
    /// Reads the policies of all tenants of Kubernetes: that of everybody, and each that has a file.
    pub(crate) fn read(layout: &Layout) -> Self {
        let mut pods = vec![Tenant { name: None, policy: load_node_policy(layout) }];
        let files = std::fs::read_dir(tenants_dir(&layout.policy_file())).into_iter().flatten().flatten();
        let mut names: Vec<Namespace> = files
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml")?.parse().ok())
            .collect();
        names.sort();
        pods.extend(
            names
                .into_iter()
                .map(|name| Tenant { policy: load_policy(layout, None, &name), name: Some(name) }),
        );
        Self { layout: layout.clone(), pods }
    }

    /// Those whose containers may be in a namespace of containerd.
    pub(crate) fn of(&self, namespace: &Namespace) -> Cow<'_, [Tenant]> {
        match namespace.as_str() {
            CRI_NAMESPACE => Cow::Borrowed(&self.pods),
            _ => {
                let policy = load_policy(&self.layout, None, namespace);
                Cow::Owned(vec![Tenant { name: Some(namespace.clone()), policy }])
            }
        }
    }
}
