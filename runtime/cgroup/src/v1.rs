//! Version 1: which file each limit goes to.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::{
    Cgroup, CgroupError, devices, file,
    setting::{Absent, Setting, Settings, unsupported, write_all},
    v2::InForce,
};

/// A cpuset that names no CPU and no memory node admits no process.
pub(crate) fn inherit_cpuset(dir: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        inherited(dir, name)?;
    }
    Ok(())
}

/// The value of `dir`, which gets that of its parent where it has none. A parent may have none either: another launch
/// has just made it. The root has one always.
fn inherited(dir: &Path, name: &str) -> Result<String, CgroupError> {
    let path = dir.join(name);
    let own = file::read(&path)?.trim().to_owned();
    let parent = match dir.parent() {
        Some(parent) if own.is_empty() => parent,
        _ => return Ok(own),
    };
    let value = inherited(parent, name)?;
    file::write(&path, &value)?;
    Ok(value)
}

/// Sets the limits that are given.
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), CgroupError> {
    let settings = settings(resources)?;
    if let Some(memory) = resources.memory() {
        check_before_update(cgroup, memory)?;
    }
    write_all(&settings, |setting: &Setting| {
        cgroup.dir(setting.controller).ok_or_else(|| CgroupError::NoController {
            field: setting.field.clone(),
            controller: setting.controller,
        })
    })?;
    match resources.devices() {
        Some(rules) => devices::apply_v1(cgroup.need("devices", "devices")?, rules),
        None => Ok(()),
    }
}

/// The quota in force, for systemd, which takes it and its period together.
pub(crate) fn in_force(cgroup: &Cgroup) -> Result<InForce, CgroupError> {
    let Some(dir) = cgroup.dir("cpu") else { return Ok(InForce::default()) };
    let quota = file::read_if_there(&dir.join("cpu.cfs_quota_us"))?;
    Ok(InForce {
        // -1 is none.
        cpu_quota: quota.and_then(|text| text.trim().parse().ok()),
        cpu_period: file::read_number_if_there(&dir.join("cpu.cfs_period_us"))?,
        memory: None,
    })
}

fn check_before_update(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), CgroupError> {
    if memory.check_before_update() != Some(true) {
        return Ok(());
    }
    let Some(limit) = memory.limit().filter(|limit| *limit > 0) else { return Ok(()) };
    let path = cgroup.need("memory", "memory.checkBeforeUpdate")?.join("memory.usage_in_bytes");
    if file::read_number(&path)? > limit as u64 {
        return Err(unsupported("memory.limit", "more than that is in use"));
    }
    Ok(())
}

/// What is to be written, in order.
fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Settings::default();
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut settings)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit if limit < 0 => settings.set("pids", "pids.max", "max".to_owned(), "pids.limit"),
            limit => settings.set("pids", "pids.max", limit.to_string(), "pids.limit"),
        }
    }
    if let Some(block_io) = resources.block_io() {
        block_io_settings(block_io, &mut settings)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, bytes) = (page_size(limit.page_size())?, limit.limit().to_string());
        settings.set("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes.clone(), "hugepageLimits");
        // What is reserved counts too, from Linux 5.7 on.
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        settings.set_or("hugetlb", &file, bytes, "hugepageLimits", Absent::Ignore);
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            settings.set("net_cls", "net_cls.classid", class.to_string(), "network.classID");
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            settings.set("net_prio", "net_prio.ifpriomap", value, "network.priorities");
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        settings.set("rdma", "rdma.max", rdma(device, limits.hca_handles(), limits.hca_objects()), "rdma");
    }
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(unsupported("unified", "this host has cgroup v1"));
    }
    Ok(settings.0)
}

fn memory_settings(memory: &LinuxMemory, settings: &mut Settings) -> Result<(), CgroupError> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(limit) = given(memory.limit()) {
        settings.set("memory", "memory.limit_in_bytes", limit.to_string(), "memory.limit");
    }
    match (given(memory.swap()), given(memory.limit())) {
        (Some(swap), _) => {
            // Any amount is what holds on a kernel that does not count swap.
            let absent = if swap == -1 { Absent::Ignore } else { Absent::Refuse };
            let (file, value) = ("memory.memsw.limit_in_bytes", swap.to_string());
            settings.set_or("memory", file, value, "memory.swap", absent);
        }
        // Unlimited memory under a limit of memory and swap would be none: that limit goes too, unless it is named.
        //
        // Source: `setMemoryAndSwap`, runc libcontainer/cgroups/fs/memory.go.
        (None, Some(-1)) => {
            let (file, value) = ("memory.memsw.limit_in_bytes", "-1".to_owned());
            settings.set_or("memory", file, value, "memory.swap", Absent::Ignore);
        }
        (None, _) => {}
    }
    if let Some(soft) = given(memory.reservation()) {
        settings.set("memory", "memory.soft_limit_in_bytes", soft.to_string(), "memory.reservation");
    }
    // `memory.kernel` is left out, as by runc: Linux has no such limit any more, and `memory.limit` counts that memory too.
    //
    // Source: `CreateCgroupConfig`, runc libcontainer/specconv/spec_linux.go.
    if let Some(limit) = given(memory.kernel_tcp()) {
        settings.set("memory", "memory.kmem.tcp.limit_in_bytes", limit.to_string(), "memory.kernelTCP");
    }
    if let Some(swappiness) = memory.swappiness() {
        settings.set("memory", "memory.swappiness", swappiness.to_string(), "memory.swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        settings.set("memory", "memory.oom_control", "1".to_owned(), "memory.disableOOMKiller");
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(unsupported("memory.useHierarchy", "groups always count what is below them"));
    }
    Ok(())
}

/// Fewest and most shares. The kernel takes others for the nearest of these, and says nothing.
///
/// Source: `MIN_SHARES` and `MAX_SHARES`, kernel/sched/sched.h; runc reads the file back and refuses as well.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

fn cpu_settings(cpu: &LinuxCpu, settings: &mut Settings) -> Result<(), CgroupError> {
    let mut set = |file: &str, value: String, field: &str| settings.set("cpu", file, value, field);
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        if !SHARES.contains(&shares) {
            return Err(unsupported("cpu.shares", "fewer than 2 or more than 262144 are none"));
        }
        set("cpu.shares", shares.to_string(), "cpu.shares");
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        set("cpu.cfs_period_us", period.to_string(), "cpu.period");
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        set("cpu.cfs_quota_us", quota.to_string(), "cpu.quota");
    }
    if let Some(idle) = cpu.idle() {
        set("cpu.idle", idle.to_string(), "cpu.idle");
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        set("cpu.rt_period_us", period.to_string(), "cpu.realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        set("cpu.rt_runtime_us", runtime.to_string(), "cpu.realtimeRuntime");
    }
    if let Some(burst) = cpu.burst() {
        // None is what holds on a kernel without bursts.
        let absent = if burst == 0 { Absent::Ignore } else { Absent::Refuse };
        settings.set_or("cpu", "cpu.cfs_burst_us", burst.to_string(), "cpu.burst", absent);
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        settings.set("cpuset", "cpuset.cpus", cpus.clone(), "cpu.cpus");
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        settings.set("cpuset", "cpuset.mems", mems.clone(), "cpu.mems");
    }
    Ok(())
}

fn block_io_settings(block_io: &LinuxBlockIo, settings: &mut Settings) -> Result<(), CgroupError> {
    if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(unsupported("blockIO.leafWeight", "no scheduler of Linux knows it any more"));
    }
    let instead =
        |file: &str, value: &str| Absent::Instead { file: file.to_owned(), value: value.to_owned() };
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let value = weight.to_string();
        let absent = instead("blkio.weight", &value);
        settings.set_or("blkio", "blkio.bfq.weight", value, "blockIO.weight", absent);
    }
    for device in block_io.weight_device().iter().flatten() {
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(unsupported("blockIO.weightDevice", "leaf weights are known no more"));
        }
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            let absent = instead("blkio.weight_device", &value);
            settings.set_or("blkio", "blkio.bfq.weight_device", value, "blockIO.weightDevice", absent);
        }
    }
    for (devices, file, field) in [
        (block_io.throttle_read_bps_device(), "read_bps", "blockIO.throttleReadBpsDevice"),
        (block_io.throttle_write_bps_device(), "write_bps", "blockIO.throttleWriteBpsDevice"),
        (block_io.throttle_read_iops_device(), "read_iops", "blockIO.throttleReadIOPSDevice"),
        (block_io.throttle_write_iops_device(), "write_iops", "blockIO.throttleWriteIOPSDevice"),
    ] {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            settings.set("blkio", &format!("blkio.throttle.{file}_device"), value, field);
        }
    }
    Ok(())
}

/// A page size becomes part of a file's name.
pub(crate) fn page_size(text: &str) -> Result<&str, CgroupError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain { Ok(text) } else { Err(unsupported("hugepageLimits.pageSize", "it is no size such as 2MB")) }
}

pub(crate) fn rdma(device: &str, handles: Option<u32>, objects: Option<u32>) -> String {
    let part = |name: &str, value: Option<u32>| value.map(|v| format!(" {name}={v}")).unwrap_or_default();
    format!("{device}{}{}", part("hca_handle", handles), part("hca_object", objects))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files(json: &str) -> Result<Vec<(String, String)>, CgroupError> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?.into_iter().map(|s| (s.file, s.value)).collect())
    }

    #[test]
    fn unlimited_memory_takes_the_limit_with_swap_along_unless_that_is_named() {
        let found = files(r#"{"memory":{"limit":-1}}"#).unwrap();
        assert_eq!(found[1], ("memory.memsw.limit_in_bytes".to_owned(), "-1".to_owned()));
        assert_eq!(files(r#"{"memory":{"limit":-1,"swap":5}}"#).unwrap()[1].1, "5");
        assert_eq!(files(r#"{"memory":{"limit":7}}"#).unwrap().len(), 1);
    }

    #[test]
    fn limit_of_kernel_memory_alone_which_linux_no_longer_has_is_left_out_and_others_are_not() {
        let found = files(r#"{"memory":{"limit":9,"kernel":7,"kernelTCP":5}}"#).unwrap();
        let names: Vec<&str> = found.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(names, ["memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"]);
    }

    #[test]
    fn shares_that_the_kernel_would_silently_change_are_errors() {
        assert_eq!(files(r#"{"cpu":{"shares":2}}"#).unwrap()[0].1, "2");
        for shares in [1, 262_145, u64::MAX] {
            assert!(files(&format!(r#"{{"cpu":{{"shares":{shares}}}}}"#)).is_err(), "{shares}");
        }
    }

    #[test]
    fn huge_pages_and_their_reservations_are_limited_alike() {
        let found = files(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#).unwrap();
        assert_eq!(
            found.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>(),
            ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"]
        );
        assert!(files(r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#).is_err());
    }
}
