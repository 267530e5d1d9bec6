//! Version 1: which file each limit goes to, and which files count.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::{
    BlkioEntry, BlkioStats, Cgroup, CgroupError, CpuStats, HugetlbStats, MemoryStats, PidsStats, Stats,
    devices, file,
};

/// Whether limits are set for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In a group that was just made: nothing that is there can be in the way.
    Create,
    /// In one that has limits.
    Update,
}

/// One value to write.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    field: &'static str,
}

fn unsupported(field: impl Into<String>, why: &'static str) -> CgroupError {
    CgroupError::Unsupported { field: field.into(), why }
}

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
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources, when: When) -> Result<(), CgroupError> {
    let settings = settings(resources)?;
    if let Some(memory) = resources.memory() {
        check_before_update(cgroup, memory)?;
        if when == When::Update {
            lift_swap_with_memory(cgroup, memory)?;
        }
    }
    for setting in &settings {
        let path = cgroup.need(setting.controller, setting.field)?.join(&setting.file);
        match file::write(&path, &setting.value) {
            Ok(()) => {}
            // Each of these two pairs has an order that fits when the group had other values before.
            Err(error)
                if when == When::Update
                    && (file::is(&error, nix::libc::EINVAL) || file::is(&error, nix::libc::EBUSY)) =>
            {
                write_other_first(cgroup, &settings, setting, error)?;
            }
            Err(error) if error.is_not_found() => {
                return Err(unsupported(setting.field, "this kernel has no file for it"));
            }
            Err(error) => return Err(error),
        }
    }
    match resources.devices() {
        Some(rules) => devices::apply_v1(cgroup.need("devices", "resources.devices")?, rules),
        None => Ok(()),
    }
}

/// memory.limit must not exceed memory.memsw.limit, and a quota must fit its period.
fn write_other_first(
    cgroup: &Cgroup,
    settings: &[Setting],
    failed: &Setting,
    error: CgroupError,
) -> Result<(), CgroupError> {
    let other = match failed.file.as_str() {
        "memory.limit_in_bytes" => "memory.memsw.limit_in_bytes",
        "cpu.cfs_period_us" => "cpu.cfs_quota_us",
        _ => return Err(error),
    };
    let Some(other) = settings.iter().find(|setting| setting.file == other) else { return Err(error) };
    for setting in [other, failed] {
        file::write(&cgroup.need(setting.controller, setting.field)?.join(&setting.file), &setting.value)?;
    }
    Ok(())
}

/// Unlimited memory under a limit of memory and swap is none: that limit goes too, unless it is named.
///
/// Source: `setMemoryAndSwap`, runc libcontainer/cgroups/fs/memory.go.
fn lift_swap_with_memory(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), CgroupError> {
    if memory.limit() != Some(-1) || memory.swap().is_some_and(|swap| swap != 0) {
        return Ok(());
    }
    let path = cgroup.need("memory", "memory.limit")?.join("memory.memsw.limit_in_bytes");
    match file::write(&path, "-1") {
        // A kernel that does not count swap has no such file.
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
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

fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    let mut set = |controller, file: &str, value: String, field| {
        settings.push(Setting { controller, file: file.to_owned(), value, field });
    };
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut set)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut set);
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit if limit < 0 => set("pids", "pids.max", "max".to_owned(), "pids.limit"),
            limit => set("pids", "pids.max", limit.to_string(), "pids.limit"),
        }
    }
    if let Some(block_io) = resources.block_io() {
        block_io_settings(block_io, &mut set)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", page_size(limit.page_size())?);
        set("hugetlb", &file, limit.limit().to_string(), "hugepageLimits");
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            set("net_cls", "net_cls.classid", class.to_string(), "network.classID");
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            set("net_prio", "net_prio.ifpriomap", value, "network.priorities");
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        set("rdma", "rdma.max", rdma(device, limits.hca_handles(), limits.hca_objects()), "rdma");
    }
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(unsupported("unified", "this host has cgroup v1"));
    }
    Ok(settings)
}

type Set<'a> = &'a mut dyn FnMut(&'static str, &str, String, &'static str);

fn memory_settings(memory: &LinuxMemory, set: Set<'_>) -> Result<(), CgroupError> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(limit) = given(memory.limit()) {
        set("memory", "memory.limit_in_bytes", limit.to_string(), "memory.limit");
    }
    if let Some(swap) = given(memory.swap()) {
        set("memory", "memory.memsw.limit_in_bytes", swap.to_string(), "memory.swap");
    }
    if let Some(soft) = given(memory.reservation()) {
        set("memory", "memory.soft_limit_in_bytes", soft.to_string(), "memory.reservation");
    }
    if memory.kernel().is_some_and(|limit| limit > 0) {
        return Err(unsupported("memory.kernel", "Linux has no limit of kernel memory any more"));
    }
    if let Some(limit) = given(memory.kernel_tcp()) {
        set("memory", "memory.kmem.tcp.limit_in_bytes", limit.to_string(), "memory.kernelTCP");
    }
    if let Some(swappiness) = memory.swappiness() {
        set("memory", "memory.swappiness", swappiness.to_string(), "memory.swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        set("memory", "memory.oom_control", "1".to_owned(), "memory.disableOOMKiller");
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(unsupported("memory.useHierarchy", "groups always count what is below them"));
    }
    Ok(())
}

fn cpu_settings(cpu: &LinuxCpu, set: Set<'_>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        set("cpu", "cpu.shares", shares.to_string(), "cpu.shares");
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        set("cpu", "cpu.cfs_period_us", period.to_string(), "cpu.period");
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        set("cpu", "cpu.cfs_quota_us", quota.to_string(), "cpu.quota");
    }
    if let Some(burst) = cpu.burst() {
        set("cpu", "cpu.cfs_burst_us", burst.to_string(), "cpu.burst");
    }
    if let Some(idle) = cpu.idle() {
        set("cpu", "cpu.idle", idle.to_string(), "cpu.idle");
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        set("cpu", "cpu.rt_period_us", period.to_string(), "cpu.realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        set("cpu", "cpu.rt_runtime_us", runtime.to_string(), "cpu.realtimeRuntime");
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        set("cpuset", "cpuset.cpus", cpus.clone(), "cpu.cpus");
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        set("cpuset", "cpuset.mems", mems.clone(), "cpu.mems");
    }
}

fn block_io_settings(block_io: &LinuxBlockIo, set: Set<'_>) -> Result<(), CgroupError> {
    if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(unsupported("blockIO.leafWeight", "no scheduler of Linux knows it any more"));
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        set("blkio", "blkio.bfq.weight", weight.to_string(), "blockIO.weight");
    }
    for device in block_io.weight_device().iter().flatten() {
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(unsupported("blockIO.weightDevice", "leaf weights are known no more"));
        }
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            set("blkio", "blkio.bfq.weight_device", value, "blockIO.weightDevice");
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
            set("blkio", &format!("blkio.throttle.{file}_device"), value, field);
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

/// Everything that is counted.
pub(crate) fn stats(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    Ok(Stats {
        memory: cgroup.dir("memory").map(memory_stats).transpose()?,
        cpu: cgroup.dir("cpuacct").map(|dir| cpu_stats(dir, cgroup.dir("cpu"))).transpose()?,
        pids: cgroup.dir("pids").map(pids_stats).transpose()?,
        blkio: cgroup.dir("blkio").map(blkio_stats).transpose()?,
        hugetlb: cgroup.dir("hugetlb").map(hugetlb_stats).transpose()?.unwrap_or_default(),
    })
}

fn memory_stats(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let (stat, oom) = (dir.join("memory.stat"), dir.join("memory.oom_control"));
    Ok(MemoryStats {
        usage_bytes: file::read_number(&dir.join("memory.usage_in_bytes"))?,
        usage_bytes_max: file::read_number_if_there(&dir.join("memory.max_usage_in_bytes"))?,
        limit_bytes: file::read_number(&dir.join("memory.limit_in_bytes"))?,
        limit_hits: file::read_number(&dir.join("memory.failcnt"))?,
        swap_usage_bytes: file::read_number_if_there(&dir.join("memory.memsw.usage_in_bytes"))?,
        swap_limit_bytes: file::read_number_if_there(&dir.join("memory.memsw.limit_in_bytes"))?,
        kernel_usage_bytes: file::read_number_if_there(&dir.join("memory.kmem.usage_in_bytes"))?,
        kernel_tcp_usage_bytes: file::read_number_if_there(&dir.join("memory.kmem.tcp.usage_in_bytes"))?,
        oom_kills: file::row(&file::rows(&oom, &file::read(&oom)?)?, "oom_kill").unwrap_or(0),
        events: Vec::new(),
        rows: file::rows(&stat, &file::read(&stat)?)?,
    })
}

/// Length of a clock tick as cpuacct.stat counts, in nanoseconds.
///
/// Source: `USER_HZ`, include/asm-generic/param.h: 100 on every architecture that runs containers.
const TICK_NS: u64 = 10_000_000;

fn cpu_stats(cpuacct: &Path, cpu: Option<&Path>) -> Result<CpuStats, CgroupError> {
    let stat = cpuacct.join("cpuacct.stat");
    let ticks = file::rows(&stat, &file::read(&stat)?)?;
    let per_cpu = cpuacct.join("cpuacct.usage_percpu");
    let mut stats = CpuStats {
        total_ns: file::read_number(&cpuacct.join("cpuacct.usage"))?,
        user_ns: file::row(&ticks, "user").unwrap_or(0) * TICK_NS,
        kernel_ns: file::row(&ticks, "system").unwrap_or(0) * TICK_NS,
        per_cpu_ns: file::read_if_there(&per_cpu)?
            .unwrap_or_default()
            .split_whitespace()
            .map(|text| file::number(&per_cpu, text))
            .collect::<Result<_, _>>()?,
        ..CpuStats::default()
    };
    if let Some(cpu) = cpu {
        let path = cpu.join("cpu.stat");
        let rows = file::rows(&path, &file::read(&path)?)?;
        stats.periods = file::row(&rows, "nr_periods").unwrap_or(0);
        stats.throttled_periods = file::row(&rows, "nr_throttled").unwrap_or(0);
        stats.throttled_ns = file::row(&rows, "throttled_time").unwrap_or(0);
    }
    Ok(stats)
}

pub(crate) fn pids_stats(dir: &Path) -> Result<PidsStats, CgroupError> {
    let limit = file::read_number_if_there(&dir.join("pids.max"))?;
    Ok(PidsStats {
        current: file::read_number(&dir.join("pids.current"))?,
        limit: limit.filter(|limit| *limit != u64::MAX),
    })
}

fn blkio_stats(dir: &Path) -> Result<BlkioStats, CgroupError> {
    // The recursive files belong to schedulers; throttling counts whichever is in use.
    let read = |names: [&str; 2]| -> Result<Vec<BlkioEntry>, CgroupError> {
        for name in names {
            let path = dir.join(name);
            let Some(text) = file::read_if_there(&path)? else { continue };
            let entries = blkio_entries(&path, &text)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(BlkioStats {
        bytes: read(["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"])?,
        operations: read(["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"])?,
    })
}

/// Rows of `8:0 Read 4096`; the total at the end is left out.
fn blkio_entries(path: &Path, text: &str) -> Result<Vec<BlkioEntry>, CgroupError> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ([device, operation, value], Some((major, minor))) =
            (words.as_slice(), words.first().and_then(|d| d.split_once(':')))
        else {
            continue;
        };
        debug_assert!(device.contains(':'));
        entries.push(BlkioEntry {
            major: file::number(path, major)?,
            minor: file::number(path, minor)?,
            operation: (*operation).to_owned(),
            value: file::number(path, value)?,
        });
    }
    Ok(entries)
}

fn hugetlb_stats(dir: &Path) -> Result<Vec<HugetlbStats>, CgroupError> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(file::failed("open(2)", dir))? {
        let name = entry.map_err(file::failed("getdents(2)", dir))?.file_name();
        let Some(size) = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".usage_in_bytes"))
            .filter(|size| !size.contains('.'))
        else {
            continue;
        };
        let of = |what: &str| dir.join(format!("hugetlb.{size}.{what}"));
        all.push(HugetlbStats {
            page_size: size.to_owned(),
            usage_bytes: file::read_number(&of("usage_in_bytes"))?,
            usage_bytes_max: file::read_number_if_there(&of("max_usage_in_bytes"))?,
            limit_hits: file::read_number_if_there(&of("failcnt"))?.unwrap_or(0),
        });
    }
    Ok(all)
}
