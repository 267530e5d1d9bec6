//! `linux.namespaces`: all of them new, or this pod's.
//!
//! Invariant: pid, ipc, uts, mount, network and cgroup are there. A missing entry means the host's.

use std::path::{Component, Path};

use bulkhead_model::{ContainerKind, Refusal, Rule};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Kind};

use crate::{
    change::{Changes, Section},
    facts::{HostFacts, PodFacts},
    limits::at_most,
    refuse::{nothing_left, refuse, short},
};

const FIELD: &str = "linux.namespaces";

/// Most entries: one for each type.
const NAMESPACES_MAX: usize = 8;

/// Directories in which containerd keeps the network namespaces of pods.
///
/// Source: `netNSDir` of containerd's pkg/netns; `netns_mounts_under_state_dir` moves it below the state directory.
const NETNS_DIRS: [&str; 2] = ["/var/run/netns", "/run/netns"];

/// The namespaces as they may be made or entered.
pub(crate) fn harden(
    asked: Option<&Vec<LinuxNamespace>>,
    kind: &ContainerKind,
    host: &HostFacts,
    changes: &mut Changes,
) -> Result<Vec<LinuxNamespace>, Refusal> {
    let asked = asked.map(Vec::as_slice).unwrap_or_default();
    at_most(FIELD, asked.len(), NAMESPACES_MAX, "entries")?;
    let mut namespaces: Vec<LinuxNamespace> = Vec::with_capacity(asked.len() + 1);
    for namespace in asked {
        let mut rest = namespace.clone();
        rest.set_path(None).set_typ(Kind::Cgroup);
        nothing_left(FIELD, &rest, r#"{"type":"cgroup"}"#)?;
        let typ = namespace.typ();
        if namespaces.iter().any(|earlier| earlier.typ() == typ) {
            return Err(refuse(
                Rule::Namespaces,
                FIELD,
                format!("{typ} twice"),
                "which of them holds is not defined",
                "name it once",
            ));
        }
        judge_type(typ)?;
        if let Some(path) = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
            judge_path(typ, path, kind, host)?;
            namespaces.push(namespace.clone());
        } else {
            let mut new = namespace.clone();
            new.set_path(None);
            namespaces.push(new);
        }
    }
    // hostNetwork comes without a uts namespace as well: the field that was set is named.
    for needed in [Kind::Pid, Kind::Ipc, Kind::Network, Kind::Uts, Kind::Mount] {
        if !namespaces.iter().any(|namespace| namespace.typ() == needed) {
            return Err(host_namespace(needed));
        }
    }
    if !namespaces.iter().any(|namespace| namespace.typ() == Kind::Cgroup) {
        changes.record(Section::Namespaces, "cgroup added", "the host's cgroup paths are nobody's business");
        let new = LinuxNamespaceBuilder::default().typ(Kind::Cgroup).build();
        namespaces.push(new.map_err(|_| host_namespace(Kind::Cgroup))?);
    }
    Ok(namespaces)
}

fn host_namespace(typ: Kind) -> Refusal {
    let (pod, ctr) = match typ {
        Kind::Network => ("hostNetwork", " (ctr: --net-host)"),
        Kind::Pid => ("hostPID", ""),
        Kind::Ipc => ("hostIPC", ""),
        Kind::Mount | Kind::Cgroup | Kind::Uts | Kind::Time | Kind::User => ("the host's namespaces", ""),
    };
    refuse(
        Rule::Namespaces,
        FIELD,
        format!("the host's {typ} namespace (no entry means that)"),
        "a container shares no namespace with the host",
        &format!("drop {pod}{ctr} from the request"),
    )
}

fn judge_type(typ: Kind) -> Result<(), Refusal> {
    let why = match typ {
        Kind::Mount | Kind::Cgroup | Kind::Uts | Kind::Ipc | Kind::Pid | Kind::Network => return Ok(()),
        Kind::User => "it is judged with its id mappings",
        Kind::Time => "clocks of its own are not built yet",
    };
    Err(refuse(
        Rule::Namespaces,
        FIELD,
        format!("a {typ} namespace"),
        why,
        "leave it out (pod: hostUsers: true, or nothing)",
    ))
}

fn judge_path(typ: Kind, path: &Path, kind: &ContainerKind, host: &HostFacts) -> Result<(), Refusal> {
    let (allowed, why) = match kind {
        ContainerKind::Plain => (false, "a container outside of a pod gets namespaces of its own"),
        ContainerKind::Sandbox => (
            typ == Kind::Network && is_pod_netns(path, host),
            "a sandbox may be given a network namespace below containerd's netns directory, nothing else",
        ),
        ContainerKind::InSandbox { .. } => (
            host.pod.as_ref().is_some_and(|pod| is_of_pod(typ, path, pod)),
            "that is no namespace of this pod's sandbox",
        ),
    };
    if allowed {
        return Ok(());
    }
    Err(refuse(
        Rule::Namespaces,
        FIELD,
        format!("{typ} of {}", short(&path.to_string_lossy())),
        why,
        "leave the path out (pod: no hostNetwork, hostPID, hostIPC; ctr: no --with-ns)",
    ))
}

/// `<netns dir>/cni-<letters, digits, dashes>`.
fn is_pod_netns(path: &Path, host: &HostFacts) -> bool {
    let below_state = host.containerd_state.join("io.containerd.grpc.v1.cri/netns");
    let mut dirs = NETNS_DIRS.iter().map(Path::new).chain([below_state.as_path()]);
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("cni-"));
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain
        && name
            .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()))
        && dirs.any(|dir| path.parent() == Some(dir))
}

/// `/proc/<pid of the sandbox>/ns/<type>`, or the network namespace that the sandbox was made in.
fn is_of_pod(typ: Kind, path: &Path, pod: &PodFacts) -> bool {
    let of = |pid: u32| format!("/proc/{pid}/ns/{}", file_name(typ)).as_str() == path.as_os_str();
    let joined = matches!(typ, Kind::Ipc | Kind::Uts | Kind::Network | Kind::Pid);
    // `kubectl debug --target` joins the pid namespace of another container of the same pod.
    let of_target = typ == Kind::Pid && pod.init_pids.iter().any(|pid| of(*pid));
    let of_network = typ == Kind::Network && pod.network_namespace.as_deref() == Some(path);
    joined && (of(pod.sandbox_pid) || of_target || of_network)
}

/// The name below `/proc/PID/ns`. Source: namespaces(7).
fn file_name(typ: Kind) -> &'static str {
    match typ {
        Kind::Mount => "mnt",
        Kind::Cgroup => "cgroup",
        Kind::Uts => "uts",
        Kind::Ipc => "ipc",
        Kind::User => "user",
        Kind::Pid => "pid",
        Kind::Network => "net",
        Kind::Time => "time",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::example;

    const ALL: [Kind; 5] = [Kind::Pid, Kind::Ipc, Kind::Uts, Kind::Mount, Kind::Network];

    fn namespace(typ: Kind, path: &str) -> LinuxNamespace {
        let mut namespace = LinuxNamespaceBuilder::default().typ(typ).build().unwrap();
        namespace.set_path((!path.is_empty()).then(|| path.into()));
        namespace
    }

    fn run(paths: &[(Kind, &str)], kind: &ContainerKind) -> Result<Vec<LinuxNamespace>, Refusal> {
        let asked = ALL.iter().map(|typ| {
            let path = paths.iter().find(|(named, _)| named == typ).map_or("", |(_, path)| path);
            namespace(*typ, path)
        });
        harden(Some(&asked.collect()), kind, &example::host(), &mut Changes::default())
    }

    fn in_pod() -> ContainerKind {
        ContainerKind::InSandbox { sandbox: "sandbox1".parse().unwrap() }
    }

    #[test]
    fn new_namespaces_are_accepted_and_a_cgroup_namespace_is_added() {
        let namespaces = run(&[], &ContainerKind::Plain).unwrap();
        assert_eq!(namespaces.len(), 6);
        assert_eq!(namespaces[5].typ(), Kind::Cgroup);
    }

    #[test]
    fn missing_entry_is_the_hosts_namespace_and_refused() {
        for missing in ALL {
            let asked = ALL.iter().filter(|typ| **typ != missing).map(|typ| namespace(*typ, "")).collect();
            let kind = ContainerKind::Plain;
            let refusal = harden(Some(&asked), &kind, &example::host(), &mut Changes::default()).unwrap_err();
            assert_eq!(refusal.rule, Rule::Namespaces);
            assert!(refusal.what.contains(&format!("host's {missing} namespace")), "{refusal}");
        }
        assert!(harden(None, &ContainerKind::Plain, &example::host(), &mut Changes::default()).is_err());
    }

    #[test]
    fn container_of_a_pod_joins_its_sandbox_and_no_other_process() {
        let yes = [
            (Kind::Ipc, "/proc/4242/ns/ipc"),
            (Kind::Uts, "/proc/4242/ns/uts"),
            (Kind::Network, "/proc/4242/ns/net"),
            (Kind::Pid, "/proc/4242/ns/pid"),
            (Kind::Pid, "/proc/4300/ns/pid"),
            (Kind::Network, "/var/run/netns/cni-1f2e-3d"),
        ];
        for path in yes {
            assert!(run(&[path], &in_pod()).is_ok(), "{path:?} was refused");
        }
        let no = [
            (Kind::Ipc, "/proc/1/ns/ipc"),
            (Kind::Ipc, "/proc/4300/ns/ipc"),
            (Kind::Network, "/proc/4242/ns/pid"),
            (Kind::Network, "/proc/4242/../1/ns/net"),
            (Kind::Network, "/proc/self/ns/net"),
            (Kind::Network, "/var/run/netns/cni-aaaa"),
            (Kind::Mount, "/proc/4242/ns/mnt"),
        ];
        for path in no {
            assert!(run(&[path], &in_pod()).is_err(), "{path:?} was accepted");
        }
    }

    #[test]
    fn container_of_a_pod_whose_sandbox_is_unknown_joins_nothing() {
        let host = HostFacts { pod: None, ..example::host() };
        let asked = ALL.iter().map(|typ| match typ {
            Kind::Network => namespace(*typ, "/proc/4242/ns/net"),
            _ => namespace(*typ, ""),
        });
        assert!(harden(Some(&asked.collect()), &in_pod(), &host, &mut Changes::default()).is_err());
    }

    #[test]
    fn sandbox_takes_a_network_namespace_of_containerd_and_nothing_else() {
        for path in ["/var/run/netns/cni-0a1b-2c", "/run/containerd/io.containerd.grpc.v1.cri/netns/cni-0a"] {
            assert!(run(&[(Kind::Network, path)], &ContainerKind::Sandbox).is_ok(), "{path} was refused");
        }
        for path in [
            (Kind::Network, "/proc/1/ns/net"),
            (Kind::Network, "/var/run/netns/../../../proc/1/ns/net"),
            (Kind::Network, "/var/run/netns/cni-"),
            (Kind::Network, "/var/run/netns/host"),
            (Kind::Network, "/var/run/netns/a/cni-0a"),
            (Kind::Ipc, "/var/run/netns/cni-0a"),
        ] {
            assert!(run(&[path], &ContainerKind::Sandbox).is_err(), "{path:?} was accepted");
        }
    }

    #[test]
    fn plain_container_is_given_no_path_and_no_user_namespace() {
        assert!(run(&[(Kind::Network, "/var/run/netns/cni-0a")], &ContainerKind::Plain).is_err());
        let mut asked: Vec<_> = ALL.iter().map(|typ| namespace(*typ, "")).collect();
        asked.push(namespace(Kind::User, ""));
        let kind = ContainerKind::Plain;
        assert!(harden(Some(&asked), &kind, &example::host(), &mut Changes::default()).is_err());
    }
}
