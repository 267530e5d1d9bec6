//! `linux.uidMappings`, `linux.gidMappings` and the user namespace among `linux.namespaces`: one user namespace for a pod.
//!
//! ```text
//!                      asks for one                                  asks for none
//! sandbox, or alone    the kubelet's range: 65536 ids or a           what policy says: shifted, root-only, or the
//!                      multiple, the same for users and groups       node's own
//! in a pod             that of its sandbox, with the same ids        that of its sandbox
//! ```
//! Invariant: root of a user namespace is never root of the node, and no id of it is one of the node's own first 65536.

use std::path::{Path, PathBuf};

use bulkhead_model::{
    Confinement, ContainerId, ContainerKind, CreateRequest, Credentials, IdExtent, Ids, Level, MountOwners,
    RANGE_IDS, Refusal, Rule, UserNamespace, UserNamespaceRule,
};
use bulkhead_policy::Grant;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Kind};

use crate::{
    facts::HostFacts,
    refuse::{nothing_left, refuse, short},
};

const FIELD: &str = "linux.uidMappings";

/// Ranges that must be a container's own before it is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangesNeeded {
    /// None.
    None,
    /// One of the node's.
    OneOfTheNodes,
    /// These, which the request names.
    These(Vec<u16>),
}

/// Which ranges a container needs.
///
/// # Errors
/// The request's mappings are none that are granted.
pub fn ranges_needed(request: &CreateRequest, grant: &Grant) -> Result<RangesNeeded, Refusal> {
    let Confinement { level, user_namespace, .. } = grant.confinement();
    let Some(linux) = request.spec.linux().as_ref().filter(|_| *level == Level::Hardened) else {
        return Ok(RangesNeeded::None);
    };
    match (&request.kind, asked(linux)?, user_namespace) {
        (ContainerKind::InSandbox { .. }, _, _) => Ok(RangesNeeded::None),
        (_, Some(asked), _) => Ok(RangesNeeded::These(asked.namespace().ranges().collect())),
        (_, None, UserNamespaceRule::Request) => Ok(RangesNeeded::None),
        (_, None, UserNamespaceRule::Shifted | UserNamespaceRule::RootOnly) => {
            Ok(RangesNeeded::OneOfTheNodes)
        }
    }
}

/// The user namespace of a container; none is the node's.
pub(crate) fn decide(
    linux: &Linux,
    rule: UserNamespaceRule,
    (kind, id): (&ContainerKind, &ContainerId),
    host: &HostFacts,
) -> Result<Option<UserNamespace>, Refusal> {
    let asked = asked(linux)?;
    if let ContainerKind::InSandbox { sandbox } = kind {
        return of_pod(asked.as_ref(), rule, sandbox, host);
    }
    if let Some(asked) = asked {
        return match asked.path {
            None => Ok(Some(asked.namespace())),
            Some(path) if *kind == ContainerKind::Sandbox && path == pinned(id, host) => {
                Ok(Some(UserNamespace { path: Some(path.to_owned()), ..asked.namespace() }))
            }
            Some(path) => {
                Err(foreign(path, "a container outside of a pod, or its sandbox, gets one of its own"))
            }
        };
    }
    let range = || {
        host.id_range.ok_or_else(|| {
            let why = "policy wants a user namespace, and no range of ids was taken for it";
            refuse(Rule::Namespaces, FIELD, "no range", why, "report this: it is a defect of Bulkhead")
        })
    };
    match rule {
        UserNamespaceRule::Request => Ok(None),
        UserNamespaceRule::Shifted => range().map(UserNamespace::shifted).map(Some),
        UserNamespaceRule::RootOnly => range().map(UserNamespace::root_only).map(Some),
    }
}

/// Where containerd keeps the user namespace that it has made for a pod, from 2.1 on.
///
/// Source: `pinnedNamespacesDir`, containerd internal/cri/server/podsandbox.
fn pinned(sandbox: &ContainerId, host: &HostFacts) -> PathBuf {
    let sandboxes = host.containerd_state.join("io.containerd.grpc.v1.cri/sandboxes");
    sandboxes.join(sandbox.as_str()).join("pinned-namespaces/user")
}

fn of_pod(
    asked: Option<&Asked<'_>>,
    rule: UserNamespaceRule,
    id: &ContainerId,
    host: &HostFacts,
) -> Result<Option<UserNamespace>, Refusal> {
    let pod = host.pod.as_ref();
    let namespace =
        pod.and_then(|pod| pod.user_namespace.as_ref().map(|namespace| (pod.sandbox_pid, namespace)));
    let Some((sandbox, namespace)) = namespace else {
        return match (asked, rule) {
            (None, UserNamespaceRule::Request) => Ok(None),
            (Some(asked), _) => {
                let path = asked.path.unwrap_or(Path::new("a new one"));
                Err(foreign(path, "this pod's sandbox is in the node's user namespace"))
            }
            (None, UserNamespaceRule::Shifted | UserNamespaceRule::RootOnly) => Err(in_nodes()),
        };
    };
    if let Some(asked) = asked {
        let own = [of_process(sandbox), pinned(id, host)];
        let same = namespace.uids == [asked.ids] && namespace.gids == [asked.ids];
        if !own.iter().any(|own| asked.path == Some(own)) || !same {
            let path = asked.path.unwrap_or(Path::new("a new one"));
            return Err(foreign(path, "it is not that of this pod's sandbox, with the same ids"));
        }
    }
    match (rule, namespace.owners) {
        // Its root would rule this container's network.
        (_, MountOwners::AsAsked) => Err(of_compatible()),
        (UserNamespaceRule::Shifted, MountOwners::AsTheyAre) => Err(in_nodes()),
        (_, MountOwners::AsTheyAre | MountOwners::Mapped) => {
            Ok(Some(UserNamespace { path: Some(of_process(sandbox)), ..namespace.clone() }))
        }
    }
}

fn of_process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/user").into()
}

fn in_nodes() -> Refusal {
    refuse(
        Rule::Namespaces,
        "policy",
        "user_namespace of this image, stricter than that of its pod's sandbox",
        "a pod has one user namespace, which its sandbox has made",
        "write user_namespace in [confine.default], or in the section of the sandbox's image (pause) as well",
    )
}

fn of_compatible() -> Refusal {
    refuse(
        Rule::Namespaces,
        "linux.namespaces",
        "a pod whose namespaces belong to its user namespace",
        "its sandbox is at the compatible level, where root of the pod rules them as under runc",
        "have policy grant the sandbox's image (pause) and this one the same level",
    )
}

fn foreign(path: &Path, why: &str) -> Refusal {
    let found = format!("a user namespace: {}", short(&path.to_string_lossy()));
    let fix = "leave it out (pod: hostUsers: true, or nothing)";
    refuse(Rule::Namespaces, "linux.namespaces", found, why, fix)
}

/// What a request asks for.
struct Asked<'a> {
    ids: IdExtent,
    path: Option<&'a Path>,
}

impl Asked<'_> {
    fn namespace(&self) -> UserNamespace {
        UserNamespace::of(vec![self.ids], MountOwners::Mapped)
    }
}

fn asked(linux: &Linux) -> Result<Option<Asked<'_>>, Refusal> {
    let mut namespaces =
        linux.namespaces().iter().flatten().filter(|namespace| namespace.typ() == Kind::User);
    let (first, second) = (namespaces.next(), namespaces.next());
    let mappings =
        [linux.uid_mappings(), linux.gid_mappings()].map(|list| list.as_deref().unwrap_or_default());
    match (first, second) {
        (None, _) if mappings.iter().all(|list| list.is_empty()) => Ok(None),
        (None, _) => Err(bad("mappings without a user namespace", "nothing would be mapped")),
        (Some(_), Some(_)) => Err(bad("two user namespaces", "which of them holds is not defined")),
        (Some(namespace), None) => Ok(Some(Asked { ids: the_same(mappings)?, path: path_of(namespace)? })),
    }
}

fn path_of(namespace: &LinuxNamespace) -> Result<Option<&Path>, Refusal> {
    let mut rest = namespace.clone();
    rest.set_path(None);
    nothing_left("linux.namespaces", &rest, r#"{"type":"user"}"#)?;
    Ok(namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()))
}

/// The ids that users and groups are both mapped to.
fn the_same(mappings: [&[LinuxIdMapping]; 2]) -> Result<IdExtent, Refusal> {
    let [[uids], [gids]] = mappings else {
        return Err(bad(
            "not one mapping of users and one of groups",
            "that is what the kubelet gives a pod",
        ));
    };
    if extent(uids) != extent(gids) {
        return Err(bad("other ids for groups than for users", "that is not what the kubelet gives a pod"));
    }
    judge(extent(uids))
}

pub(crate) fn extent(mapping: &LinuxIdMapping) -> IdExtent {
    IdExtent { inside: mapping.container_id(), outside: mapping.host_id(), count: mapping.size() }
}

fn judge(ids: IdExtent) -> Result<IdExtent, Refusal> {
    let IdExtent { inside, outside, count } = ids;
    let found = || format!("{count} ids from {inside} to {outside} on the node");
    let why = if inside != 0 {
        "the first id of the container is 0"
    } else if count == 0 || !count.is_multiple_of(RANGE_IDS) || !outside.is_multiple_of(RANGE_IDS) {
        "ranges are 65536 ids, or a multiple, and start at a multiple of it: then no two overlap"
    } else if outside < RANGE_IDS {
        "the first 65536 ids are the node's own, root among them"
    } else if outside.checked_add(count).is_none() {
        // The kubelet's own are any but the node's: `getKubeletMappings`, kubernetes pkg/kubelet/kubelet_pods.go. Those that
        // Bulkhead has given to a pod, or gives, are kept apart by who has claimed them.
        "the last id that the kernel maps is 4294967294"
    } else {
        return Ok(ids);
    };
    Err(bad(&found(), why))
}

fn bad(found: &str, why: &str) -> Refusal {
    let fix =
        "leave the mappings to the kubelet (hostUsers: false), or to policy: user_namespace = \"shifted\"";
    refuse(Rule::Namespaces, FIELD, found, why, fix)
}

/// Demands that the ids of a process are in its user namespace.
pub(crate) fn judge_ids(namespace: Option<&UserNamespace>, ids: &Credentials) -> Result<(), Refusal> {
    let Some(namespace) = namespace else { return Ok(()) };
    let named = [("process.user.uid", Ids::Users, ids.uid), ("process.user.gid", Ids::Groups, ids.gid)];
    let groups = ids.groups.iter().map(|group| ("process.user.additionalGids", Ids::Groups, *group));
    match named.into_iter().chain(groups).find(|(_, which, id)| namespace.on_node(*which, *id).is_none()) {
        None => Ok(()),
        Some((field, _, id)) => Err(refuse(
            Rule::User,
            field,
            format!("id {id}"),
            "it is not in the pod's user namespace, which has 65536 ids from 0 on (root-only: all but a range)",
            "use an id below 65536, or have policy say user_namespace = \"root-only\"",
        )),
    }
}

/// Demands that the mappings of a mount are those of the pod: it is id-mapped by them, asked for or not.
pub(crate) fn judge_mount(
    field: &str,
    mappings: [Option<&[LinuxIdMapping]>; 2],
    namespace: Option<&UserNamespace>,
) -> Result<(), Refusal> {
    let mappings = mappings.map(Option::unwrap_or_default);
    if mappings.iter().all(|list| list.is_empty()) {
        return Ok(());
    }
    let namespace = namespace.filter(|namespace| namespace.owners == MountOwners::Mapped);
    let same = |(list, which): (&[LinuxIdMapping], Ids)| {
        let ids = list.iter().map(extent);
        namespace.is_some_and(|namespace| ids.eq(namespace.ids(which).iter().copied()))
    };
    if mappings.into_iter().zip([Ids::Users, Ids::Groups]).all(same) {
        return Ok(());
    }
    Err(refuse(
        Rule::Mounts,
        &format!("{field}.uidMappings"),
        "an id-mapped mount",
        "its ids are not those of the pod's user namespace",
        "leave the mappings out: the mounts of a pod with hostUsers: false are mapped with it",
    ))
}

#[cfg(test)]
mod tests;
