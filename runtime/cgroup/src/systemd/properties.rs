//! Limits as properties of a unit.

use std::fs;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::message::Value;
use crate::{
    CgroupError, Version,
    devices::{Exception, Kind, Rules},
    setting::unsupported,
    v2::{self, InForce},
};

type Properties = Vec<(&'static str, Value)>;

/// No limit.
///
/// Source: `CGROUP_LIMIT_MAX` and `USEC_INFINITY`, systemd.
const INFINITY: u64 = u64::MAX;

/// Microseconds of CPU in a second: all of one.
const SECOND_US: u64 = 1_000_000;

/// systemd keeps a quota in whole percent: its step, in microseconds of CPU in a second.
const PERCENT_US: u64 = 10_000;

/// Highest CPU that is named in a list: more than any kernel has.
///
/// Source: `NR_CPUS`, arch/x86/Kconfig: 8192 at most.
const CPUS_MAX: usize = 8192;

/// -1 means any amount.
fn limit(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// The limits that systemd knows.
pub(super) fn limits(
    resources: &LinuxResources,
    version: Version,
    in_force: InForce,
) -> Result<Properties, CgroupError> {
    let mut properties = Properties::new();
    if let Some(memory) = resources.memory() {
        memory_limits(memory, version, in_force, &mut properties)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_limits(cpu, version, in_force, &mut properties)?;
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        properties.push(("TasksMax", Value::Number(limit(pids.limit()))));
    }
    for (file, value) in resources.unified().iter().flatten() {
        unified(file, value.trim(), &mut properties);
    }
    Ok(properties)
}

fn memory_limits(
    memory: &LinuxMemory,
    version: Version,
    in_force: InForce,
    properties: &mut Properties,
) -> Result<(), CgroupError> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    if version != Version::V2 {
        properties.extend(given(memory.limit()).map(|bytes| ("MemoryLimit", Value::Number(limit(bytes)))));
        return Ok(());
    }
    for (name, bytes) in [
        ("MemoryMax", given(memory.limit())),
        ("MemoryLow", given(memory.reservation())),
        ("MemorySwapMax", v2::swap_alone(given(memory.swap()), given(memory.limit()), in_force)?),
    ] {
        properties.extend(bytes.map(|bytes| (name, Value::Number(limit(bytes)))));
    }
    Ok(())
}

fn cpu_limits(
    cpu: &LinuxCpu,
    version: Version,
    in_force: InForce,
    properties: &mut Properties,
) -> Result<(), CgroupError> {
    // systemd has its own word for an idle group (from 252 on), and no weight beside it.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        properties.push(match version {
            Version::V2 => ("CPUWeight", Value::Number(v2::weight_of_shares(shares))),
            Version::V1 | Version::Hybrid => ("CPUShares", Value::Number(shares)),
        });
    }
    if let Some((quota, period)) = v2::quota_and_period(cpu, in_force) {
        quota_limits(quota, period, properties);
    }
    // On v1 systemd has no cpusets.
    if version == Version::V2 {
        for (name, list, field) in
            [("AllowedCPUs", cpu.cpus(), "cpu.cpus"), ("AllowedMemoryNodes", cpu.mems(), "cpu.mems")]
        {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                let bits = bits_of_list(list)
                    .ok_or_else(|| unsupported(field, "a list is numbers, commas and dashes"))?;
                properties.push((name, Value::Bytes(bits)));
            }
        }
    }
    Ok(())
}

/// systemd keeps whole percents: rounded up, so that what is written afterwards is never more than it allows.
///
/// Source: `addCPUQuota`, opencontainers/cgroups systemd/common.go.
fn quota_limits(quota: i64, period: u64, properties: &mut Properties) {
    let per_second = match u64::try_from(quota) {
        Ok(quota) if period != 0 => {
            (quota.saturating_mul(SECOND_US) / period).div_ceil(PERCENT_US).saturating_mul(PERCENT_US)
        }
        _ => INFINITY,
    };
    properties.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    properties.push(("CPUQuotaPerSecUSec", Value::Number(per_second)));
}

/// Those files of v2 that systemd has words for.
///
/// Source: `unifiedResToSystemdProps`, opencontainers/cgroups systemd/v2.go.
fn unified(file: &str, value: &str, properties: &mut Properties) {
    let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "pids.max" => "TasksMax",
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let quota = if quota == "max" { Some(-1) } else { quota.parse().ok() };
            if let (Some(quota), Ok(period)) = (quota, period.parse()) {
                quota_limits(quota, period, properties);
            }
            return;
        }
        "cpuset.cpus" | "cpuset.mems" => {
            let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            properties.extend(bits_of_list(value).map(|bits| (name, Value::Bytes(bits))));
            return;
        }
        // The kernel's to judge, when it is written.
        _ => return,
    };
    properties.extend(number().map(|number| (name, Value::Number(number))));
}

/// `0-3,8` as bits, the lowest of the first byte first.
fn bits_of_list(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
    }
    (!bits.is_empty()).then_some(bits)
}

/// The device rules: systemd would otherwise write "all" to v1's file at its next reload.
pub(super) fn devices(resources: &LinuxResources, version: Version) -> Result<Properties, CgroupError> {
    let Some(given) = resources.devices() else { return Ok(Properties::new()) };
    let known = fs::read_to_string("/proc/devices").unwrap_or_default();
    Ok(device_properties(&Rules::of(given)?, version, &known))
}

/// What systemd cannot say is left to our own rules, which are in force in any case. On v2 both must allow, so there
/// systemd then gets none; v1 has one list, which systemd then keeps shorter.
fn device_properties(rules: &Rules, version: Version, known: &str) -> Properties {
    let auto =
        || vec![("DevicePolicy", Value::Text("auto".to_owned())), ("DeviceAllow", Value::Pairs(Vec::new()))];
    if rules.allow {
        return auto();
    }
    let mut allowed = Vec::new();
    for exception in &rules.exceptions {
        match device_path(exception, known) {
            Some(path) => allowed.push((path, exception.access.letters())),
            None if version == Version::V2 => return auto(),
            None => {}
        }
    }
    vec![
        ("DevicePolicy", Value::Text("strict".to_owned())),
        ("DeviceAllow", Value::Pairs(Vec::new())),
        ("DeviceAllow", Value::Pairs(allowed)),
    ]
}

/// Source: systemd.resource-control(5), `DeviceAllow=`.
fn device_path(exception: &Exception, known: &str) -> Option<String> {
    let kind = match exception.kind {
        Kind::Block => "block",
        Kind::Character => "char",
    };
    match (exception.major, exception.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => driver(exception.kind, major, known).map(|name| format!("{kind}-{name}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}

/// The driver of a major number in /proc/devices, if it is its only one: another of the same name would be allowed
/// with it.
fn driver(kind: Kind, major: u32, known: &str) -> Option<&str> {
    let heading = match kind {
        Kind::Block => "Block devices:",
        Kind::Character => "Character devices:",
    };
    let rows = known.split_once(heading)?.1.lines().skip(1).take_while(|row| !row.trim().is_empty());
    let rows: Vec<(u32, &str)> = rows
        .filter_map(|row| row.trim().split_once(' ').map(|(number, name)| (number, name.trim())))
        .filter_map(|(number, name)| Some((number.parse().ok()?, name)))
        .collect();
    let mut names = rows.iter().filter(|(number, _)| *number == major);
    let (_, name) = names.next()?;
    let only = names.next().is_none() && rows.iter().filter(|(_, other)| other == name).count() == 1;
    only.then_some(*name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KNOWN: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n136 pts\n\nBlock devices:\n  8 sd\n 65 sd\n";

    fn of(json: &str, version: Version) -> Properties {
        limits(&serde_json::from_str(json).unwrap(), version, InForce::default()).unwrap()
    }

    fn number(name: &'static str, number: u64) -> (&'static str, Value) {
        (name, Value::Number(number))
    }

    #[test]
    fn limits_have_the_names_of_each_version() {
        let json = r#"{"memory":{"limit":100,"swap":150,"reservation":50},"cpu":{"shares":1024},"pids":{"limit":-1}}"#;
        assert_eq!(
            of(json, Version::V2),
            [
                number("MemoryMax", 100),
                number("MemoryLow", 50),
                number("MemorySwapMax", 50),
                number("CPUWeight", 100),
                number("TasksMax", INFINITY),
            ]
        );
        assert_eq!(
            of(json, Version::V1),
            [number("MemoryLimit", 100), number("CPUShares", 1024), number("TasksMax", INFINITY)]
        );
        assert_eq!(of("{}", Version::V2), []);
    }

    #[test]
    fn quotas_are_rounded_up_to_whole_percents() {
        for (json, period, per_second) in [
            (r#"{"cpu":{"quota":50000,"period":100000}}"#, 100_000, 500_000),
            (r#"{"cpu":{"quota":12345,"period":100000}}"#, 100_000, 130_000),
            (r#"{"cpu":{"quota":-1}}"#, 100_000, INFINITY),
            (r#"{"cpu":{"quota":9223372036854775807,"period":1000}}"#, 1_000, 18_446_744_073_710_000),
        ] {
            let found = of(json, Version::V2);
            assert_eq!(found[0], number("CPUQuotaPeriodUSec", period), "{json}");
            assert_eq!(found[1], number("CPUQuotaPerSecUSec", per_second), "{json}");
        }
    }

    #[test]
    fn cpu_lists_become_bits_on_v2_only() {
        let json = r#"{"cpu":{"cpus":"0-1,9","mems":"0"}}"#;
        assert_eq!(
            of(json, Version::V2),
            [("AllowedCPUs", Value::Bytes(vec![0b11, 0b10])), ("AllowedMemoryNodes", Value::Bytes(vec![1]))]
        );
        assert_eq!(of(json, Version::Hybrid), []);
        for wrong in ["3-1", "x", "0-99999", "", "1-"] {
            assert_eq!(bits_of_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unified_files_are_told_as_far_as_systemd_knows_them() {
        let json = r#"{"unified":{"memory.high":"max"}}"#;
        assert_eq!(of(json, Version::V2), [number("MemoryHigh", INFINITY)]);
        let json = r#"{"unified":{"cpu.max":"max 50000"}}"#;
        assert_eq!(of(json, Version::V2)[1], number("CPUQuotaPerSecUSec", INFINITY));
        assert_eq!(of(r#"{"unified":{"memory.oom.group":"1"}}"#, Version::V2), []);
    }

    fn rules(json: &str) -> Rules {
        Rules::of(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap()
    }

    const DENY: &str = r#"{"allow":false,"access":"rwm"}"#;

    #[test]
    fn allowed_devices_are_listed_by_number_and_by_driver() {
        let rules = rules(&format!(
            r#"[{DENY},{{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}},
                {{"allow":true,"type":"c","major":136,"access":"rw"}},{{"allow":true,"type":"b","access":"m"}}]"#
        ));
        let found = device_properties(&rules, Version::V2, KNOWN);
        let pairs = [("/dev/char/1:3", "rwm"), ("char-pts", "rw"), ("block-*", "m")];
        let pairs = pairs.map(|(path, access)| (path.to_owned(), access.to_owned())).to_vec();
        assert_eq!(found[0], ("DevicePolicy", Value::Text("strict".to_owned())));
        assert_eq!(found[2], ("DeviceAllow", Value::Pairs(pairs)));
    }

    #[test]
    fn what_systemd_cannot_say_narrows_nothing_on_v2_and_the_list_on_v1() {
        // Two drivers share character major 5, and two block majors share a driver.
        for (kind, major) in [("c", 5), ("b", 8), ("c", 77)] {
            let rules = rules(&format!(
                r#"[{DENY},{{"allow":true,"type":"{kind}","major":{major},"access":"rwm"}}]"#
            ));
            let found = device_properties(&rules, Version::V2, KNOWN);
            assert_eq!(found[0], ("DevicePolicy", Value::Text("auto".to_owned())), "{kind} {major}");
            let found = device_properties(&rules, Version::V1, KNOWN);
            assert_eq!(found[0], ("DevicePolicy", Value::Text("strict".to_owned())));
            assert_eq!(found[2], ("DeviceAllow", Value::Pairs(Vec::new())));
        }
        let all = rules(r#"[{"allow":true,"access":"rwm"}]"#);
        assert_eq!(device_properties(&all, Version::V2, KNOWN)[0].1, Value::Text("auto".to_owned()));
    }
}
