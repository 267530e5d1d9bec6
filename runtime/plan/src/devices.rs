//! `linux.devices` and the device rules of the cgroup: the standard character devices, nothing of the host's.

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use crate::{
    change::{Changes, Section},
    limits::at_most,
    refuse::{nothing_left, refuse, short},
};

/// Most rules of one request. containerd sends about 15.
const RULES_MAX: usize = 64;

/// Character devices that containerd allows: major, minor (any where absent), name.
///
/// Source: `WithDefaultUnixDevices`, containerd oci/spec_opts.go.
const DEFAULT: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// Where graphics drivers put theirs.
const GPUS: [&str; 4] = ["/dev/nvidia", "/dev/dri", "/dev/kfd", "/dev/dxg"];

/// Refuses devices of the host, graphics and CDI devices by name.
pub(crate) fn judge(devices: Option<&Vec<LinuxDevice>>, annotations: &[&str]) -> Result<(), Refusal> {
    let why = "nothing of the host's hardware is passed on; the standard devices are there anyway";
    if let Some(annotation) = annotations.iter().find(|name| name.starts_with("cdi.k8s.io/")) {
        return Err(refuse(
            Rule::Devices,
            "annotations",
            format!("a CDI device ({})", short(annotation)),
            why,
            "run workloads that need devices under another RuntimeClass",
        ));
    }
    let Some(devices) = devices else { return Ok(()) };
    // A GPU says more than whatever else comes with it.
    let is_gpu = |device: &&LinuxDevice| GPUS.iter().any(|prefix| name(device).starts_with(prefix));
    let gpu = devices.iter().find(is_gpu);
    let Some(device) = gpu.or(devices.first()) else { return Ok(()) };
    let what = if gpu.is_some() { "GPU device" } else { "host device" };
    let found = match devices.len() {
        1 => format!("{what} {}", short(&name(device))),
        count => format!("{what} {} and {} more", short(&name(device)), count - 1),
    };
    let fix = "drop the device (pod: privileged, resources.limits; ctr: --privileged, --device), or run the workload \
               under another RuntimeClass";
    Err(refuse(Rule::Devices, "linux.devices", found, why, fix))
}

fn name(device: &LinuxDevice) -> String {
    device.path().to_string_lossy().into_owned()
}

/// Judges the request's rules; those that hold are [`rules`].
pub(crate) fn judge_rules(
    asked: Option<&Vec<LinuxDeviceCgroup>>,
    changes: &mut Changes,
) -> Result<Vec<LinuxDeviceCgroup>, Refusal> {
    const FIELD: &str = "linux.resources.devices";
    let asked = asked.map(Vec::as_slice).unwrap_or_default();
    at_most(FIELD, asked.len(), RULES_MAX, "rules")?;
    for (index, rule) in asked.iter().enumerate() {
        let mut rest = rule.clone();
        rest.set_allow(false).set_typ(None).set_major(None).set_minor(None).set_access(None);
        nothing_left(FIELD, &rest, "{}")?;
        if rule.allow() && !is_default(rule) {
            return Err(refuse(
                Rule::Devices,
                &format!("{FIELD}[{index}]"),
                short(&rule.to_string()),
                "that goes beyond the devices that containerd allows by default",
                "drop the device (pod: privileged, resources.limits; ctr: --privileged, --device)",
            ));
        }
    }
    let rules = rules()?;
    if asked != rules {
        let reason = "the standard character devices and no other, whatever the request leaves out";
        changes.record(Section::Devices, format!("{} rules", rules.len()), reason);
    }
    Ok(rules)
}

/// Deny all, allow the standard ones.
fn rules() -> Result<Vec<LinuxDeviceCgroup>, Refusal> {
    let rule = |allow, typ, major: Option<i64>, minor: Option<i64>| {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .access("rwm")
            .build()
            .map_err(|_| crate::refuse::refuse_unsupported("a device rule"))?;
        rule.set_typ(typ).set_major(major).set_minor(minor);
        Ok(rule)
    };
    let allow =
        DEFAULT.iter().map(|(major, minor)| rule(true, Some(LinuxDeviceType::C), Some(*major), *minor));
    std::iter::once(rule(false, None, None, None)).chain(allow).collect()
}

fn is_default(rule: &LinuxDeviceCgroup) -> bool {
    // A negative number means "any", as an absent one does.
    let any = |number: Option<i64>| number.filter(|number| *number >= 0);
    matches!(rule.typ(), Some(LinuxDeviceType::C | LinuxDeviceType::U))
        && DEFAULT.iter().any(|(major, minor)| {
            any(rule.major()) == Some(*major)
                && match minor {
                    Some(_) => any(rule.minor()) == *minor,
                    None => true,
                }
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oci_spec::runtime::LinuxDeviceBuilder;

    use super::*;

    fn allow(typ: Option<LinuxDeviceType>, major: Option<i64>, minor: Option<i64>) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
        rule.set_typ(typ).set_major(major).set_minor(minor);
        rule
    }

    #[test]
    fn default_rules_are_kept_and_every_request_gets_them() {
        let mut changes = Changes::default();
        let rules = judge_rules(None, &mut changes).unwrap();
        assert_eq!(judge_rules(Some(&rules), &mut changes).unwrap(), rules);
        assert_eq!(changes.into_vec().len(), 1, "only the first time");
        assert!(!rules[0].allow() && rules[0].typ().is_none() && rules[0].major().is_none());
    }

    #[test]
    fn rule_beyond_the_default_is_refused() {
        use LinuxDeviceType::{A, B, C};
        for rule in [
            allow(None, None, None),
            allow(Some(A), None, None),
            allow(Some(C), None, None),
            allow(Some(C), Some(1), None),
            allow(Some(C), Some(1), Some(-1)),
            allow(Some(C), Some(1), Some(1)),
            allow(Some(C), Some(10), Some(200)),
            allow(Some(B), Some(1), Some(3)),
        ] {
            let refusal = judge_rules(Some(&vec![rule]), &mut Changes::default()).unwrap_err();
            assert_eq!(refusal.rule, Rule::Devices);
        }
        assert!(judge_rules(Some(&vec![allow(Some(C), Some(1), Some(3))]), &mut Changes::default()).is_ok());
    }

    #[test]
    fn host_gpu_and_cdi_devices_are_refused_by_name() {
        let device = |path: &str| vec![LinuxDeviceBuilder::default().path(path).build().unwrap()];
        let what = |path| judge(Some(&device(path)), &[]).unwrap_err().what;
        assert_eq!(what("/dev/nvidia0"), "linux.devices asks for GPU device /dev/nvidia0");
        assert_eq!(what("/dev/sda"), "linux.devices asks for host device /dev/sda");
        assert!(judge(None, &["cdi.k8s.io/gpu"]).is_err());
        assert!(judge(Some(&vec![]), &["io.kubernetes.cri.container-type"]).is_ok());
    }
}
