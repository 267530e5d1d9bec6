//! `linux.resources` and `linux.cgroupsPath`: limits pass, permissions do not.

use std::path::{Component, Path};

use bulkhead_model::{Confinement, Refusal, Rule};
use oci_spec::runtime::{
    LinuxCpu, LinuxMemory, LinuxPids, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
};

use crate::{
    change::{Changes, Section},
    devices,
    limits::{PATH_BYTES_MAX, at_most, no_nul},
    refuse::{absent, nothing_left, refuse, refuse_unsupported, short},
};

/// Most entries of a list in this section.
const ENTRIES_MAX: usize = 256;

/// Files of a v2 group that only limit, and that the kubelet sets.
///
/// Source: Documentation/admin-guide/cgroup-v2.rst; kubernetes pkg/kubelet/cm (memory QoS, swap).
const UNIFIED: [&str; 6] =
    ["memory.high", "memory.low", "memory.min", "memory.oom.group", "memory.swap.max", "memory.zswap.max"];

/// The limits as they are to be set.
pub(crate) fn harden(
    asked: Option<&LinuxResources>,
    confinement: &Confinement,
    changes: &mut Changes,
) -> Result<LinuxResources, Refusal> {
    judge(asked, confinement.pids_max, changes)
}

fn judge(
    asked: Option<&LinuxResources>,
    pids_max: u32,
    changes: &mut Changes,
) -> Result<LinuxResources, Refusal> {
    let mut rest = match asked {
        Some(asked) => asked.clone(),
        None => blank()?,
    };
    let devices = rest.devices_mut().take();
    let memory = rest.memory_mut().take();
    let cpu = rest.cpu_mut().take();
    let pids = rest.pids_mut().take();
    let block_io = rest.block_io_mut().take();
    let hugepages = rest.hugepage_limits_mut().take();
    let network = rest.network_mut().take();
    let rdma = rest.rdma_mut().take();
    let unified = rest.unified_mut().take();
    nothing_left("linux.resources", &rest, "{}")?;

    absent("linux.resources.network", &network)?;
    if let Some(rdma) = &rdma {
        at_most("linux.resources.rdma", rdma.len(), ENTRIES_MAX, "devices")?;
    }
    if let Some(limits) = &hugepages {
        at_most("linux.resources.hugepageLimits", limits.len(), ENTRIES_MAX, "sizes")?;
    }
    if let Some(io) = &block_io {
        let lists = [
            io.weight_device().as_ref().map_or(0, Vec::len),
            io.throttle_read_bps_device().as_ref().map_or(0, Vec::len),
            io.throttle_write_bps_device().as_ref().map_or(0, Vec::len),
            io.throttle_read_iops_device().as_ref().map_or(0, Vec::len),
            io.throttle_write_iops_device().as_ref().map_or(0, Vec::len),
        ];
        at_most("linux.resources.blockIO", lists.iter().sum(), ENTRIES_MAX, "devices")?;
    }
    for (file, value) in unified.iter().flatten() {
        if !UNIFIED.contains(&file.as_str()) {
            return Err(refuse_unsupported(&format!("linux.resources.unified.{}", short(file))));
        }
        at_most("linux.resources.unified", value.len(), ENTRIES_MAX, "bytes in one value")?;
    }
    let mut hardened = blank()?;
    hardened
        .set_devices(Some(devices::judge_rules(devices.as_ref(), changes)?))
        .set_memory(memory.map(|memory| judge_memory(memory, changes)).transpose()?)
        .set_cpu(cpu.map(judge_cpu).transpose()?)
        .set_pids(Some(judge_pids(pids, pids_max, changes)?))
        .set_block_io(block_io)
        .set_hugepage_limits(hugepages)
        .set_rdma(rdma)
        .set_unified(unified);
    Ok(hardened)
}

/// New limits for a container that runs, judged as at create. What is not asked for stays as it is; device rules are
/// left out: containerd's CRI repeats those of config.json in every update, and those of the plan stay in force.
///
/// Source: runc's update.go takes cpu, memory, blkio and pids, and nothing else.
///
/// # Errors
/// As [`crate::plan`], for `linux.resources`.
pub fn plan_update(asked: &LinuxResources, pids_max: u32) -> Result<LinuxResources, Refusal> {
    let mut asked = asked.clone();
    asked.set_devices(None);
    let pids_are_asked_for = asked.pids().is_some_and(|pids| pids.limit() != 0);
    let mut hardened = judge(Some(&asked), pids_max, &mut Changes::default())?;
    hardened.set_devices(None);
    if !pids_are_asked_for {
        hardened.set_pids(None);
    }
    Ok(hardened)
}

fn blank() -> Result<LinuxResources, Refusal> {
    LinuxResourcesBuilder::default().build().map_err(|_| refuse_unsupported("linux.resources"))
}

#[allow(deprecated)] // `kernel` is read to be left out.
fn judge_memory(memory: LinuxMemory, changes: &mut Changes) -> Result<LinuxMemory, Refusal> {
    let mut rest = memory;
    rest.set_limit(None)
        .set_reservation(None)
        .set_swap(None)
        .set_kernel(None)
        .set_kernel_tcp(None)
        .set_swappiness(None)
        .set_disable_oom_killer(None)
        .set_use_hierarchy(None)
        .set_check_before_update(None);
    nothing_left("linux.resources.memory", &rest, "{}")?;
    let mut hardened = memory;
    if memory.kernel().is_some_and(|limit| limit != 0) {
        let reason = "Linux has no limit of kernel memory any more";
        changes.record(Section::Resources, "memory.kernel left out", reason);
    }
    if memory.disable_oom_killer() == Some(true) {
        let reason = "a group that is full and cannot be killed hangs";
        changes.record(Section::Resources, "memory.disableOOMKiller left out", reason);
    }
    hardened.set_kernel(None).set_disable_oom_killer(None).set_use_hierarchy(None);
    Ok(hardened)
}

fn judge_cpu(cpu: LinuxCpu) -> Result<LinuxCpu, Refusal> {
    let mut rest = cpu.clone();
    rest.set_shares(None)
        .set_quota(None)
        .set_idle(None)
        .set_burst(None)
        .set_period(None)
        .set_realtime_runtime(None)
        .set_realtime_period(None)
        .set_cpus(None)
        .set_mems(None);
    nothing_left("linux.resources.cpu", &rest, "{}")?;
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
        return Err(refuse_unsupported("linux.resources.cpu.realtimeRuntime"));
    }
    for (field, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        let list = list.as_deref().unwrap_or_default();
        if list.len() > PATH_BYTES_MAX || !list.bytes().all(|b| b.is_ascii_digit() || b",-".contains(&b)) {
            let field = format!("linux.resources.cpu.{field}");
            let why = "a list is numbers, commas and dashes";
            return Err(refuse(Rule::Spec, &field, format!("{:?}", short(list)), why, "correct the list"));
        }
    }
    let mut hardened = cpu;
    hardened.set_realtime_runtime(None).set_realtime_period(None);
    Ok(hardened)
}

/// At most what policy says; zero and less mean "no limit".
fn judge_pids(asked: Option<LinuxPids>, most: u32, changes: &mut Changes) -> Result<LinuxPids, Refusal> {
    if let Some(mut rest) = asked {
        rest.set_limit(0);
        nothing_left("linux.resources.pids", &rest, "{}")?;
    }
    let asked = asked.map(|pids| pids.limit());
    let limit = asked.filter(|limit| *limit > 0).map_or(i64::from(most), |limit| limit.min(i64::from(most)));
    if asked != Some(limit) {
        changes.record(Section::Resources, format!("pids.limit {limit}"), "policy's pids_max");
    }
    LinuxPidsBuilder::default().limit(limit).build().map_err(|_| refuse_unsupported("linux.resources.pids"))
}

/// Refuses a path that is neither of plain names (cgroupfs; an empty one is filled in) nor `slice:prefix:name` (systemd).
pub(crate) fn judge_path(path: Option<&Path>) -> Result<(), Refusal> {
    const FIELD: &str = "linux.cgroupsPath";
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(()) };
    let text = path.to_string_lossy();
    no_nul(FIELD, &text)?;
    at_most(FIELD, text.len(), PATH_BYTES_MAX, "bytes")?;
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // `slice:prefix:name` is one plain name as well. The root is nobody's.
    if plain && !text.chars().any(char::is_control) && path.file_name().is_some() {
        return Ok(());
    }
    Err(refuse(
        Rule::Spec,
        FIELD,
        format!("{:?}", short(&text)),
        "a path is of plain names without \"..\" and not the root, or slice:prefix:name",
        "correct the path",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNetworkBuilder};

    use super::*;
    use crate::example;

    fn run(
        change: impl FnOnce(&mut LinuxResources) -> &mut LinuxResources,
    ) -> Result<LinuxResources, Refusal> {
        let mut asked = blank().unwrap();
        change(&mut asked);
        harden(Some(&asked), &example::confinement(), &mut Changes::default())
    }

    #[test]
    fn limits_of_the_request_stay() {
        let memory = LinuxMemoryBuilder::default().limit(1 << 20).swap(1 << 20).build().unwrap();
        let hardened = run(|r| r.set_memory(Some(memory))).unwrap();
        assert_eq!(hardened.memory(), &Some(memory));
        assert_eq!(harden(None, &example::confinement(), &mut Changes::default()).unwrap().memory(), &None);
    }

    #[test]
    fn pids_are_limited_by_policy_and_by_the_request_if_that_is_less() {
        let limit = |asked: Option<i64>| {
            let pids = asked.map(|limit| LinuxPidsBuilder::default().limit(limit).build().unwrap());
            run(|r| r.set_pids(pids)).unwrap().pids().unwrap().limit()
        };
        let most = i64::from(example::confinement().pids_max);
        assert_eq!(limit(None), most);
        assert_eq!(limit(Some(0)), most);
        assert_eq!(limit(Some(-1)), most);
        assert_eq!(limit(Some(i64::MAX)), most);
        assert_eq!(limit(Some(10)), 10);
    }

    #[test]
    fn update_is_judged_as_create_and_changes_nothing_that_it_does_not_name() {
        let update = |json: &str| plan_update(&serde_json::from_str(json).unwrap(), 100);
        let limits = update(r#"{"memory":{"limit":1048576},"cpu":{"shares":2}}"#).unwrap();
        assert_eq!(limits.memory().unwrap().limit(), Some(1 << 20));
        assert_eq!(limits.cpu().as_ref().unwrap().shares(), Some(2));
        assert_eq!((limits.pids(), limits.devices()), (&None, &None));
        assert_eq!(update(r#"{"pids":{"limit":0}}"#).unwrap().pids(), &None);
        for (asked, limit) in [(50, 50), (101, 100), (-1, 100)] {
            let limits = update(&format!(r#"{{"pids":{{"limit":{asked}}}}}"#)).unwrap();
            assert_eq!(limits.pids().unwrap().limit(), limit);
        }
        // As containerd's CRI has it: config.json's own rules once more.
        let limits = update(r#"{"devices":[{"allow":true,"access":"rwm"}],"unified":{"memory.high":"1"}}"#);
        assert_eq!(limits.unwrap().devices(), &None);
        assert!(update(r#"{"unified":{"pids.max":"max"}}"#).is_err());
        assert!(update(r#"{"network":{"classID":1}}"#).is_err());
    }

    #[test]
    fn oom_killer_stays_on_and_real_time_is_refused() {
        let memory = LinuxMemoryBuilder::default().disable_oom_killer(true).build().unwrap();
        let hardened = run(|r| r.set_memory(Some(memory))).unwrap();
        assert_eq!(hardened.memory().unwrap().disable_oom_killer(), None);
        let cpu = LinuxCpuBuilder::default().realtime_runtime(1).build().unwrap();
        assert!(run(|r| r.set_cpu(Some(cpu))).is_err());
    }

    #[test]
    fn unified_is_an_allow_list() {
        let unified = |file: &str| Some(HashMap::from([(file.to_owned(), "max".to_owned())]));
        assert!(run(|r| r.set_unified(unified("memory.high"))).is_ok());
        for file in ["pids.max", "cgroup.procs", "../memory.high", "cgroup.subtree_control"] {
            assert!(run(|r| r.set_unified(unified(file))).is_err(), "{file}");
        }
    }

    #[test]
    fn network_classes_and_strange_cpu_lists_are_refused() {
        let network = LinuxNetworkBuilder::default().class_id(1u32).build().unwrap();
        assert!(run(|r| r.set_network(Some(network))).is_err());
        let cpu = |cpus: &str| Some(LinuxCpuBuilder::default().cpus(cpus).build().unwrap());
        assert!(run(|r| r.set_cpu(cpu("0-3,5"))).is_ok());
        assert!(run(|r| r.set_cpu(cpu("0\n1"))).is_err());
    }

    #[test]
    fn cgroup_path_is_of_plain_names_or_systemds_or_left_to_us() {
        for path in ["/kubepods/burstable/pod1/c", "kubepods-pod1.slice:cri-containerd:c", "a/b", ""] {
            assert!(judge_path(Some(Path::new(path))).is_ok(), "{path} was refused");
        }
        for path in ["/", "//", ".", "/a/../b", "../a:b:c", "a/..", "/a\n"] {
            assert!(judge_path(Some(Path::new(path))).is_err(), "{path:?} was accepted");
        }
    }
}
