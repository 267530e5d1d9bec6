//! `linux.sysctl`: the kubelet's safe set, and low ports without a capability.

use std::collections::HashMap;

use bulkhead_model::{ContainerKind, Refusal, Rule};

use crate::{
    change::{Changes, Section},
    limits::at_most,
    refuse::{refuse, short},
};

/// Sysctls that belong to one network or ipc namespace and harm no neighbour.
///
/// Source: `safeSysctls`, kubernetes pkg/kubelet/sysctl/safe_sysctls.go.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    LOW_PORTS,
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The first port that anybody may bind.
///
/// Source: ip_unprivileged_port_start, Documentation/networking/ip-sysctl.rst.
const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// The sysctls as they may be set. `low_ports`: the request grants CAP_NET_BIND_SERVICE, which is dropped.
pub(crate) fn harden(
    asked: Option<&HashMap<String, String>>,
    kind: &ContainerKind,
    low_ports: bool,
    changes: &mut Changes,
) -> Result<HashMap<String, String>, Refusal> {
    let mut sysctls = asked.cloned().unwrap_or_default();
    at_most("linux.sysctl", sysctls.len(), SAFE.len() * 2, "entries")?;
    for (name, value) in &sysctls {
        let field = format!("linux.sysctl.{}", short(name));
        if !SAFE.contains(&name.as_str()) {
            return Err(refuse(
                Rule::Sysctl,
                &field,
                format!("{:?}", short(value)),
                "it is not in Kubernetes' safe set",
                "drop it from securityContext.sysctls, or set it on the node",
            ));
        }
        if value.len() > VALUE_BYTES_MAX
            || !value.bytes().all(|b| b.is_ascii_digit() || b" \t,-".contains(&b))
        {
            return Err(refuse(
                Rule::Sysctl,
                &field,
                format!("{:?}", short(value)),
                "a value is numbers separated by spaces, commas or dashes",
                "correct the value",
            ));
        }
    }
    // A container in a pod shares the sandbox's network namespace, which was set when that was made.
    let owns_network = match kind {
        ContainerKind::Plain | ContainerKind::Sandbox => true,
        ContainerKind::InSandbox { .. } => false,
    };
    if low_ports && owns_network && !sysctls.contains_key(LOW_PORTS) {
        changes.record(Section::Sysctl, format!("{LOW_PORTS}=0"), "in place of CAP_NET_BIND_SERVICE");
        sysctls.insert(LOW_PORTS.to_owned(), "0".to_owned());
    }
    Ok(sysctls)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(name: &str, value: &str) -> Result<HashMap<String, String>, Refusal> {
        let asked = HashMap::from([(name.to_owned(), value.to_owned())]);
        harden(Some(&asked), &ContainerKind::Plain, false, &mut Changes::default())
    }

    #[test]
    fn safe_sysctls_are_kept_and_others_refused_by_name() {
        assert!(run("net.ipv4.ping_group_range", "0 2147483647").is_ok());
        for name in
            ["kernel.core_pattern", "net.ipv4.ip_forward", "net/ipv4/tcp_rmem", "net.ipv4.tcp_rmem.x", ""]
        {
            let refusal = run(name, "0").unwrap_err();
            assert_eq!(refusal.rule, Rule::Sysctl);
            assert!(refusal.what.contains(name));
        }
    }

    #[test]
    fn values_are_numbers() {
        for value in ["|/bin/sh", "0\n1", &"1".repeat(300)] {
            assert!(run("net.ipv4.tcp_rmem", value).is_err(), "{value} was accepted");
        }
    }

    #[test]
    fn low_ports_replace_the_capability_only_where_the_network_is_new() {
        let in_pod = ContainerKind::InSandbox { sandbox: "s".parse().unwrap() };
        for (kind, low_ports, there) in [
            (&ContainerKind::Plain, true, true),
            (&ContainerKind::Sandbox, true, true),
            (&in_pod, true, false),
            (&ContainerKind::Plain, false, false),
        ] {
            let sysctls = harden(None, kind, low_ports, &mut Changes::default()).unwrap();
            assert_eq!(sysctls.contains_key(LOW_PORTS), there, "{kind:?} {low_ports}");
        }
        let asked = HashMap::from([(LOW_PORTS.to_owned(), "80".to_owned())]);
        let kept = harden(Some(&asked), &ContainerKind::Plain, true, &mut Changes::default()).unwrap();
        assert_eq!(kept[LOW_PORTS], "80");
    }
}
