//! `linux.sysctl`: the kubelet's safe set, and low ports without a capability.

use std::collections::HashMap;

use bulkhead_model::{ContainerKind, Refusal, Rule};

use crate::{
    capabilities::Asked,
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
    PING_GROUPS,
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

/// Groups that may send ICMP echo requests.
///
/// Source: ping_group_range, Documentation/networking/ip-sysctl.rst.
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// Every group: what containerd 2 sets for pods (`enable_unprivileged_icmp`).
const ALL_GROUPS: &str = "0 2147483647";

/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// The sysctls as they may be set. `asked`: what the request grants by capabilities, which are dropped.
pub(crate) fn harden(
    sysctls: Option<&HashMap<String, String>>,
    kind: &ContainerKind,
    asked: &Asked,
    changes: &mut Changes,
) -> Result<HashMap<String, String>, Refusal> {
    let mut sysctls = sysctls.cloned().unwrap_or_default();
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
    let replacements = [
        (asked.low_ports, LOW_PORTS, "0", "in place of CAP_NET_BIND_SERVICE"),
        (asked.ping, PING_GROUPS, ALL_GROUPS, "ping, in place of CAP_NET_RAW"),
    ];
    for (asked, name, value, reason) in replacements {
        if asked && owns_network && !sysctls.contains_key(name) {
            changes.record(Section::Sysctl, format!("{name}={value}"), reason);
            sysctls.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(sysctls)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOTHING: Asked = Asked { low_ports: false, ping: false };
    const DEFAULT: Asked = Asked { low_ports: true, ping: true };

    fn run(name: &str, value: &str) -> Result<HashMap<String, String>, Refusal> {
        let asked = HashMap::from([(name.to_owned(), value.to_owned())]);
        harden(Some(&asked), &ContainerKind::Plain, &NOTHING, &mut Changes::default())
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
    fn sysctls_replace_capabilities_only_where_the_network_is_new() {
        let in_pod = ContainerKind::InSandbox { sandbox: "s".parse().unwrap() };
        for (kind, asked, count) in [
            (&ContainerKind::Plain, DEFAULT, 2),
            (&ContainerKind::Sandbox, DEFAULT, 2),
            (&in_pod, DEFAULT, 0),
            (&ContainerKind::Plain, NOTHING, 0),
        ] {
            let sysctls = harden(None, kind, &asked, &mut Changes::default()).unwrap();
            assert_eq!(sysctls.len(), count, "{kind:?}");
        }
        let asked = HashMap::from([(LOW_PORTS.to_owned(), "80".to_owned())]);
        let kept = harden(Some(&asked), &ContainerKind::Plain, &DEFAULT, &mut Changes::default()).unwrap();
        assert_eq!(kept[LOW_PORTS], "80");
    }
}
