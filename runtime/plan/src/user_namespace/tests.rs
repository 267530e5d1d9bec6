#![allow(clippy::unwrap_used)]

use oci_spec::runtime::{LinuxBuilder, LinuxIdMappingBuilder, LinuxNamespaceBuilder};

use super::{decide as decide_for, *};
use crate::example;

const PINNED: &str = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/sandbox1/pinned-namespaces/user";
const KUBELETS: (u32, u32, u32) = (0, 131_072, 65_536);

fn mapping((inside, outside, count): (u32, u32, u32)) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(count).build().unwrap()
}

fn linux(ids: &[(u32, u32, u32)], path: Option<&str>) -> Linux {
    let mut user = LinuxNamespaceBuilder::default().typ(Kind::User).build().unwrap();
    user.set_path(path.map(Into::into));
    let mut linux = LinuxBuilder::default().build().unwrap();
    let list: Vec<_> = ids.iter().copied().map(mapping).collect();
    linux.set_namespaces(Some(vec![user])).set_uid_mappings(Some(list.clone())).set_gid_mappings(Some(list));
    linux
}

fn nothing() -> Linux {
    let mut linux = LinuxBuilder::default().build().unwrap();
    linux.set_namespaces(None);
    linux
}

fn decide(
    linux: &Linux,
    rule: UserNamespaceRule,
    kind: &ContainerKind,
    host: &HostFacts,
) -> Result<Option<UserNamespace>, Refusal> {
    decide_for(linux, rule, (kind, &"sandbox1".parse().unwrap()), host)
}

fn in_pod() -> ContainerKind {
    ContainerKind::InSandbox { sandbox: "sandbox1".parse().unwrap() }
}

fn host(of_pod: Option<UserNamespace>) -> HostFacts {
    let mut host = HostFacts { id_range: Some(0x7000), ..example::host() };
    host.pod.as_mut().unwrap().user_namespace = of_pod;
    host
}

#[test]
fn policy_says_what_a_container_gets_that_asks_for_none() {
    let decided = |rule| decide(&nothing(), rule, &ContainerKind::Plain, &host(None)).unwrap();
    assert_eq!(decided(UserNamespaceRule::Request), None);
    assert_eq!(decided(UserNamespaceRule::Shifted), Some(UserNamespace::shifted(0x7000)));
    assert_eq!(decided(UserNamespaceRule::RootOnly), Some(UserNamespace::root_only(0x7000)));
}

#[test]
fn range_of_the_kubelets_is_granted_under_every_rule() {
    for rule in [UserNamespaceRule::Request, UserNamespaceRule::Shifted, UserNamespaceRule::RootOnly] {
        let asked = linux(&[KUBELETS], None);
        let namespace = decide(&asked, rule, &ContainerKind::Sandbox, &host(None)).unwrap().unwrap();
        assert_eq!(
            (namespace.on_node(Ids::Users, 0), namespace.owners),
            (Some(131_072), MountOwners::Mapped)
        );
    }
}

#[test]
fn sandbox_joins_what_containerd_has_made_for_it_and_a_plain_container_joins_nothing() {
    let asked = linux(&[KUBELETS], Some(PINNED));
    let decided = |linux: &Linux, kind| decide(linux, UserNamespaceRule::Request, kind, &host(None));
    let joined = decided(&asked, &ContainerKind::Sandbox).unwrap().unwrap();
    assert_eq!(joined.path, Some(PINNED.into()));
    assert!(decided(&asked, &ContainerKind::Plain).is_err());
    assert!(decided(&linux(&[KUBELETS], Some("/proc/1/ns/user")), &ContainerKind::Sandbox).is_err());
}

#[test]
fn mappings_that_reach_ids_of_the_node_or_of_others_are_refused() {
    for ids in [
        (0, 0, 65_536),
        (0, 0, 1),
        (0, 65_535, 65_536),
        (0, 65_536, 65_535),
        (0, 65_536, 0),
        (1, 65_536, 65_536),
        (0, 65_537, 65_536),
        (0, 4_294_901_760, 65_536),
    ] {
        let refusal =
            decide(&linux(&[ids], None), UserNamespaceRule::Request, &ContainerKind::Plain, &host(None));
        assert_eq!(refusal.unwrap_err().rule, Rule::Namespaces, "{ids:?}");
    }
    let two = linux(&[(0, 65_536, 65_536), (65_536, 0, 1)], None);
    assert!(decide(&two, UserNamespaceRule::Request, &ContainerKind::Plain, &host(None)).is_err());
    let mut other_groups = linux(&[KUBELETS], None);
    other_groups.set_gid_mappings(Some(vec![mapping((0, 65_536, 65_536))]));
    assert!(decide(&other_groups, UserNamespaceRule::Request, &ContainerKind::Plain, &host(None)).is_err());
    let mut unused = linux(&[KUBELETS], None);
    unused.set_namespaces(None);
    assert!(decide(&unused, UserNamespaceRule::Request, &ContainerKind::Plain, &host(None)).is_err());
}

#[test]
fn any_range_that_a_kubelet_picks_by_default_is_granted() {
    for ids in [
        (0, 65_536, 65_536),
        (0, 1_879_048_192, 65_536),
        (0, 1_878_982_656, 131_072),
        (0, 2_147_483_648, 65_536),
        (0, 3_847_749_632, 65_536),
        (0, 4_294_836_224, 65_536),
    ] {
        let granted =
            decide(&linux(&[ids], None), UserNamespaceRule::Request, &ContainerKind::Sandbox, &host(None));
        assert!(granted.unwrap().is_some(), "{ids:?}");
    }
}

#[test]
fn container_of_a_pod_joins_its_sandbox_and_no_other_namespace() {
    let of_pod = UserNamespace {
        uids: vec![extent(&mapping(KUBELETS))],
        gids: vec![extent(&mapping(KUBELETS))],
        ..UserNamespace::shifted(2)
    };
    let host = host(Some(of_pod.clone()));
    let decided = |linux: &Linux| decide(linux, UserNamespaceRule::Request, &in_pod(), &host);
    let joined = UserNamespace { path: Some("/proc/4242/ns/user".into()), ..of_pod };
    assert_eq!(decided(&linux(&[KUBELETS], Some("/proc/4242/ns/user"))).unwrap(), Some(joined.clone()));
    assert_eq!(decided(&nothing()).unwrap(), Some(joined));
    assert!(decided(&linux(&[KUBELETS], Some(PINNED))).is_ok());
    for (ids, path) in [
        (KUBELETS, Some("/run/containerd/io.containerd.grpc.v1.cri/sandboxes/other/pinned-namespaces/user")),
        (KUBELETS, None),
        (KUBELETS, Some("/proc/1/ns/user")),
        (KUBELETS, Some("/proc/4300/ns/user")),
        ((0, 65_536, 65_536), Some("/proc/4242/ns/user")),
    ] {
        assert!(decided(&linux(&[ids], path)).is_err(), "{ids:?} {path:?}");
    }
}

#[test]
fn container_whose_policy_is_stricter_than_its_pods_is_refused() {
    let decided = |rule, of_pod| decide(&nothing(), rule, &in_pod(), &host(of_pod));
    let root_only = || Some(UserNamespace::root_only(0x7001));
    assert_eq!(decided(UserNamespaceRule::Request, None).unwrap(), None);
    assert!(decided(UserNamespaceRule::RootOnly, None).is_err());
    assert!(decided(UserNamespaceRule::Shifted, None).is_err());
    assert!(decided(UserNamespaceRule::RootOnly, root_only()).unwrap().is_some());
    assert!(decided(UserNamespaceRule::Shifted, root_only()).is_err());
    let asked = linux(&[KUBELETS], Some("/proc/4242/ns/user"));
    assert!(decide(&asked, UserNamespaceRule::Request, &in_pod(), &host(None)).is_err());
}

#[test]
fn id_that_is_not_mapped_is_refused_with_its_field() {
    let ids = |uid, gid, groups| Credentials { uid, gid, groups };
    let namespace = UserNamespace::shifted(0x7000);
    judge_ids(Some(&namespace), &ids(65_535, 1, vec![2])).unwrap();
    for (ids, field) in [
        (ids(65_536, 1, vec![]), "process.user.uid"),
        (ids(1, 65_536, vec![]), "process.user.gid"),
        (ids(1, 1, vec![1, 70_000]), "process.user.additionalGids"),
    ] {
        assert!(judge_ids(Some(&namespace), &ids).unwrap_err().what.contains(field), "{field}");
        judge_ids(None, &ids).unwrap();
    }
}

#[test]
fn mount_is_mapped_as_its_pod_is_or_refused() {
    let namespace = UserNamespace::shifted(2);
    let (same, other) = ([mapping(KUBELETS)], [mapping((0, 0, 65_536))]);
    let judged = |list: &[LinuxIdMapping], namespace: Option<&UserNamespace>| {
        judge_mount("mounts[0]", [Some(list), Some(list)], namespace)
    };
    judged(&same, Some(&namespace)).unwrap();
    assert!(judged(&other, Some(&namespace)).is_err());
    assert!(judged(&same, None).is_err());
    assert!(judged(&same, Some(&UserNamespace::root_only(2))).is_err());
    judge_mount("mounts[0]", [None, None], None).unwrap();
}

#[test]
fn hardened_container_does_not_run_in_a_pod_whose_root_rules_its_namespaces() {
    let ids = vec![IdExtent { inside: 0, outside: 131_072, count: 65_536 }];
    for (owners, runs) in [(MountOwners::Mapped, true), (MountOwners::AsAsked, false)] {
        let pod = host(Some(UserNamespace::of(ids.clone(), owners)));
        let asked = linux(&[KUBELETS], Some(PINNED));
        let decided = decide(&asked, UserNamespaceRule::Request, &in_pod(), &pod);
        assert_eq!(decided.is_ok(), runs, "{decided:?}");
    }
}
