//! Version 2: which file each limit goes to.
//!
//! The OCI spec speaks of version 1; what a limit of its becomes here is what runc makes of it.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::{
    CgroupError, devices, file,
    setting::{Absent, Setting, Settings, unsupported, write_all},
    v1::{page_size, rdma},
};

/// Makes every controller that the host has reach `dir`: each group above it must hand it down. One that no limit
/// needs may be kept back (by real-time processes, by threads); it is missing in the statistics then.
pub(crate) fn enable_controllers(mount: &Path, dir: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    let available = file::read(&mount.join("cgroup.controllers"))?;
    let mut needed: Vec<&str> = Vec::new();
    for setting in settings {
        let controller = setting.file.split('.').next().unwrap_or_default();
        if !available.split_whitespace().any(|available| available == controller) {
            return Err(CgroupError::Unsupported {
                field: setting.field.clone(),
                why: "this host has no such controller in its cgroup v2 (cgroup.controllers)",
            });
        }
        needed.push(controller);
    }
    let above: Vec<&Path> = dir.ancestors().skip(1).take_while(|above| above.starts_with(mount)).collect();
    for above in above.into_iter().rev() {
        match std::fs::create_dir(above) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(file::failed("mkdir(2)", above)(error));
            }
            _ => {}
        }
        hand_down(above, &available, &needed)?;
    }
    Ok(())
}

/// As a rule nothing is missing: the kubelet, or an earlier launch, saw to it.
fn hand_down(group: &Path, available: &str, needed: &[&str]) -> Result<(), CgroupError> {
    let control = group.join("cgroup.subtree_control");
    let enabled = file::read(&control)?;
    let missing: Vec<&str> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|have| have == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    if file::write(&control, &all.join(" ")).is_ok() {
        return Ok(());
    }
    for name in missing {
        match file::write(&control, &format!("+{name}")) {
            Err(CgroupError::Io { path, source, .. }) if needed.contains(&name) => {
                return Err(CgroupError::Refused {
                    field: format!("controller {name}"),
                    value: format!("+{name}"),
                    path,
                    fix: "put the container below a group that has no processes of its own (linux.cgroupsPath), and \
                          end real-time processes where the controller is cpu",
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets the limits that are given.
pub(crate) fn apply(dir: &Path, resources: &LinuxResources, settings: &[Setting]) -> Result<(), CgroupError> {
    if let Some(rules) = resources.devices() {
        devices::apply_v2(dir, rules)?;
    }
    if let Some(memory) = resources.memory().as_ref().filter(|m| m.check_before_update() == Some(true)) {
        let limit = memory.limit().filter(|limit| *limit > 0);
        let current = file::read_number_if_there(&dir.join("memory.current"))?;
        if limit.zip(current).is_some_and(|(limit, current)| current > limit as u64) {
            return Err(unsupported("memory.limit", "more than that is in use"));
        }
    }
    write_all(settings, |_| Ok(dir))
}

/// Limits that are in force already: what a request leaves out of a pair stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InForce {
    /// cpu.max; a quota of none is unlimited.
    pub(crate) cpu_quota: Option<u64>,
    pub(crate) cpu_period: Option<u64>,
    /// memory.max; `u64::MAX` for none.
    pub(crate) memory: Option<u64>,
}

impl InForce {
    /// Of a group that is there.
    pub(crate) fn read(dir: &Path) -> Result<Self, CgroupError> {
        let max = dir.join("cpu.max");
        let text = file::read_if_there(&max)?;
        let (quota, period) = match text.as_deref().map(str::trim).and_then(|text| text.split_once(' ')) {
            Some((quota, period)) => (file::number(&max, quota).ok(), Some(file::number(&max, period)?)),
            None => (None, None),
        };
        let memory = file::read_number_if_there(&dir.join("memory.max"))?;
        Ok(Self { cpu_quota: quota, cpu_period: period, memory })
    }
}

/// What is to be written, in order.
pub(crate) fn settings(resources: &LinuxResources, in_force: InForce) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Settings::default();
    if let Some(memory) = resources.memory() {
        memory_settings(memory, in_force, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, in_force, &mut settings)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit if limit < 0 => settings.set("", "pids.max", "max".to_owned(), "pids.limit"),
            limit => settings.set("", "pids.max", limit.to_string(), "pids.limit"),
        }
    }
    if let Some(block_io) = resources.block_io() {
        block_io_settings(block_io, &mut settings)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, bytes) = (page_size(limit.page_size())?, limit.limit().to_string());
        settings.set("", &format!("hugetlb.{size}.max"), bytes.clone(), "hugepageLimits");
        // What is reserved counts too, from Linux 5.7 on.
        let file = format!("hugetlb.{size}.rsvd.max");
        settings.set_or("", &file, bytes, "hugepageLimits", Absent::Ignore);
    }
    if let Some(network) = resources.network() {
        let some = network.class_id().is_some_and(|class| class != 0)
            || network.priorities().as_ref().is_some_and(|list| !list.is_empty());
        if some {
            return Err(unsupported("network", "cgroup v2 has no network controllers"));
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        settings.set("", "rdma.max", rdma(device, limits.hca_handles(), limits.hca_objects()), "rdma");
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let field = format!("unified.{file}");
        let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain || !file.contains('.') || file.starts_with('.') || file.starts_with("cgroup.") {
            return Err(unsupported(field, "it names no file of a controller"));
        }
        // A file may take a line for each device.
        for line in value.lines() {
            settings.set("", file, line.to_owned(), &field);
        }
    }
    Ok(settings.0)
}

/// -1 means any amount; the kernel refuses what else is less than none.
fn limit_text(limit: i64) -> String {
    if limit == -1 { "max".to_owned() } else { limit.to_string() }
}

fn memory_settings(
    memory: &LinuxMemory,
    in_force: InForce,
    settings: &mut Settings,
) -> Result<(), CgroupError> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = given(memory.limit());
    if let Some(swap) = swap_alone(given(memory.swap()), limit, in_force)? {
        // A kernel without swap has no such file; none of it and any of it is the same there.
        let absent = if matches!(swap, -1 | 0) { Absent::Ignore } else { Absent::Refuse };
        settings.set_or("", "memory.swap.max", limit_text(swap), "memory.swap", absent);
    }
    if let Some(limit) = limit {
        settings.set("", "memory.max", limit_text(limit), "memory.limit");
    }
    if let Some(low) = given(memory.reservation()) {
        settings.set("", "memory.low", limit_text(low), "memory.reservation");
    }
    // `memory.kernel` is left out, as on v1.
    if memory.kernel_tcp().is_some_and(|limit| limit > 0) {
        return Err(unsupported("memory.kernelTCP", "cgroup v2 has no limit of what TCP buffers hold"));
    }
    if memory.swappiness().is_some() {
        return Err(unsupported("memory.swappiness", "cgroup v2 has none for each group"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(unsupported("memory.disableOOMKiller", "cgroup v2 cannot turn it off"));
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(unsupported("memory.useHierarchy", "groups always count what is below them"));
    }
    Ok(())
}

/// The spec counts memory and swap together, as v1 did; v2 counts swap alone.
///
/// Source: `ConvertMemorySwapToCgroupV2Value`, opencontainers/cgroups utils.go.
pub(crate) fn swap_alone(
    both: Option<i64>,
    limit: Option<i64>,
    in_force: InForce,
) -> Result<Option<i64>, CgroupError> {
    let in_force =
        in_force.memory.filter(|bytes| *bytes != u64::MAX).and_then(|bytes| i64::try_from(bytes).ok());
    match (both, limit.or(in_force)) {
        (None, _) if limit == Some(-1) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(-1), _) => Ok(Some(-1)),
        (Some(both), Some(limit)) if limit > 0 && both >= limit => Ok(Some(both - limit)),
        (Some(_), Some(limit)) if limit > 0 => Err(unsupported(
            "memory.swap",
            "it counts memory and swap together, and is less than memory.limit",
        )),
        (Some(_), _) => {
            Err(unsupported("memory.swap", "it needs memory.limit, which says how much of it is swap"))
        }
    }
}

/// Period when only a quota is given, in microseconds.
///
/// Source: Documentation/admin-guide/cgroup-v2.rst, cpu.max.
const PERIOD_DEFAULT_US: u64 = 100_000;

fn cpu_settings(cpu: &LinuxCpu, in_force: InForce, settings: &mut Settings) -> Result<(), CgroupError> {
    let mut set = |file: &str, value: String, field: &str| settings.set("", file, value, field);
    if let Some(idle) = cpu.idle() {
        set("cpu.idle", idle.to_string(), "cpu.idle");
    }
    // The weight of an idle group is none, and may not be set.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        set("cpu.weight", weight_of_shares(shares).to_string(), "cpu.shares");
    }
    if let Some((quota, period)) = quota_and_period(cpu, in_force) {
        let field = if cpu.quota().is_some_and(|quota| quota != 0) { "cpu.quota" } else { "cpu.period" };
        set("cpu.max", format!("{} {period}", limit_text(quota)), field);
    }
    if let Some(burst) = cpu.burst() {
        // None is what holds on a kernel without bursts.
        let absent = if burst == 0 { Absent::Ignore } else { Absent::Refuse };
        settings.set_or("", "cpu.max.burst", burst.to_string(), "cpu.burst", absent);
    }
    if cpu.realtime_period().is_some_and(|p| p != 0) || cpu.realtime_runtime().is_some_and(|r| r != 0) {
        return Err(unsupported("cpu.realtimeRuntime", "cgroup v2 has no real-time limits"));
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        settings.set("", "cpuset.cpus", cpus.clone(), "cpu.cpus");
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        settings.set("", "cpuset.mems", mems.clone(), "cpu.mems");
    }
    Ok(())
}

/// cpu.max takes both: one that is not given stays as it is. A quota of -1 is none.
pub(crate) fn quota_and_period(cpu: &LinuxCpu, in_force: InForce) -> Option<(i64, u64)> {
    let (quota, period) = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
    if quota.is_none() && period.is_none() {
        return None;
    }
    let kept = in_force.cpu_quota.and_then(|quota| i64::try_from(quota).ok());
    Some((quota.or(kept).unwrap_or(-1), period.or(in_force.cpu_period).unwrap_or(PERIOD_DEFAULT_US)))
}

/// Shares of 2 to 262144 as weights of 1 to 10000, such that 1024, the default of the one, is 100, that of the other.
///
/// Source: `ConvertCPUSharesToCgroupV2Value`, opencontainers/cgroups utils.go from 0.0.5 on (runc 1.4, and what
/// containerd's own library does from 3.1 on). Before that the scale was linear, and 1024 became 39.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
        _ => 10_000,
    }
}

/// Block weights of 10 to 1000 as weights of 1 to 10000.
///
/// Source: `ConvertBlkIOToIOWeightValue`, opencontainers/cgroups utils.go.
pub(crate) fn weight_of_block_io(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1_000) - 10) * 9_999 / 990
}

fn block_io_settings(block_io: &LinuxBlockIo, settings: &mut Settings) -> Result<(), CgroupError> {
    let leaf = block_io.leaf_weight().is_some_and(|weight| weight != 0);
    let leaves = block_io.weight_device().iter().flatten().any(|d| d.leaf_weight().is_some_and(|w| w != 0));
    if leaf || leaves {
        return Err(unsupported("blockIO.leafWeight", "no scheduler of Linux knows it any more"));
    }
    // BFQ, where it is there, takes weights of 1 to 1000 as they are; else the cost model takes them on its scale.
    let cost_model = |value: String| Absent::Instead { file: "io.weight".to_owned(), value };
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let absent = cost_model(weight_of_block_io(weight).to_string());
        settings.set_or("", "io.bfq.weight", weight.to_string(), "blockIO.weight", absent);
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let of = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
            let absent = cost_model(of(weight_of_block_io(weight)));
            settings.set_or("", "io.bfq.weight", of(weight.into()), "blockIO.weightDevice", absent);
        }
    }
    for (devices, key, field) in [
        (block_io.throttle_read_bps_device(), "rbps", "blockIO.throttleReadBpsDevice"),
        (block_io.throttle_write_bps_device(), "wbps", "blockIO.throttleWriteBpsDevice"),
        (block_io.throttle_read_iops_device(), "riops", "blockIO.throttleReadIOPSDevice"),
        (block_io.throttle_write_iops_device(), "wiops", "blockIO.throttleWriteIOPSDevice"),
    ] {
        for device in devices.iter().flatten() {
            // v1 takes 0 for no limit.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            settings.set("", "io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()), field);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
