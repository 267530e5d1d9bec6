//! Version 2: which file each limit goes to, and which files count.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::{
    BlkioEntry, BlkioStats, Cgroup, CgroupError, CpuStats, HugetlbStats, MemoryStats, Stats, devices, file,
    v1::{When, page_size, pids_stats, rdma},
};

/// One value to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    file: String,
    value: String,
    field: String,
}

fn unsupported(field: impl Into<String>, why: &'static str) -> CgroupError {
    CgroupError::Unsupported { field: field.into(), why }
}

/// Controllers that count; what is missing of them is missing in the statistics.
const COUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Makes every controller that a limit or the statistics need reach `dir`: each group above it must hand it down.
pub(crate) fn enable_controllers(mount: &Path, dir: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    let available = file::read(&mount.join("cgroup.controllers"))?;
    let has = |name: &str| available.split_whitespace().any(|available| available == name);
    let mut wanted: Vec<&str> = COUNTING.into_iter().filter(|name| has(name)).collect();
    for setting in settings {
        let controller = setting.file.split('.').next().unwrap_or_default();
        if !has(controller) {
            return Err(unsupported(setting.field.clone(), "this host has no such controller"));
        }
        if !wanted.contains(&controller) {
            wanted.push(controller);
        }
    }
    let below: Vec<&Path> = dir.ancestors().skip(1).take_while(|above| above.starts_with(mount)).collect();
    for above in below.into_iter().rev() {
        match std::fs::create_dir(above) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(file::failed("mkdir(2)", above)(error));
            }
            _ => {}
        }
        // As a rule it has them all: the kubelet, or an earlier launch, saw to it.
        let control = above.join("cgroup.subtree_control");
        let enabled = file::read(&control)?;
        let missing: Vec<String> = wanted
            .iter()
            .filter(|name| !enabled.split_whitespace().any(|have| have == **name))
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() {
            file::write(&control, &missing.join(" "))?;
        }
    }
    Ok(())
}

/// Sets the limits that are given.
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources, when: When) -> Result<(), CgroupError> {
    let dir = cgroup.need("", "resources")?;
    match (resources.devices(), when) {
        (None, _) => {}
        (Some(rules), When::Create) => devices::apply_v2(dir, rules)?,
        // A second program could only narrow what the first allows.
        (Some(_), When::Update) => {
            return Err(unsupported("resources.devices", "on cgroup v2 device rules cannot change"));
        }
    }
    if let Some(memory) = resources.memory().as_ref().filter(|m| m.check_before_update() == Some(true)) {
        let limit = memory.limit().filter(|limit| *limit > 0);
        let current = file::read_number_if_there(&dir.join("memory.current"))?;
        if limit.zip(current).is_some_and(|(limit, current)| current > limit as u64) {
            return Err(unsupported("memory.limit", "more than that is in use"));
        }
    }
    for setting in settings(resources)? {
        match file::write(&dir.join(&setting.file), &setting.value) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {
                return Err(unsupported(setting.field, "this kernel has no file for it"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is to be written, in order.
pub(crate) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    let mut set = |file: &str, value: String, field: &str| {
        settings.push(Setting { file: file.to_owned(), value, field: field.to_owned() });
    };
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut set)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut set)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit if limit < 0 => set("pids.max", "max".to_owned(), "pids.limit"),
            limit => set("pids.max", limit.to_string(), "pids.limit"),
        }
    }
    if let Some(block_io) = resources.block_io() {
        block_io_settings(block_io, &mut set)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", page_size(limit.page_size())?);
        set(&file, limit.limit().to_string(), "hugepageLimits");
    }
    if let Some(network) = resources.network() {
        let some = network.class_id().is_some_and(|class| class != 0)
            || network.priorities().as_ref().is_some_and(|list| !list.is_empty());
        if some {
            return Err(unsupported("network", "cgroup v2 has no network controllers"));
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        set("rdma.max", rdma(device, limits.hca_handles(), limits.hca_objects()), "rdma");
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain || !file.contains('.') || file.starts_with('.') || file.starts_with("cgroup.") {
            return Err(unsupported(format!("unified.{file}"), "it names no file of a controller"));
        }
        set(file, value.clone(), file);
    }
    Ok(settings)
}

type Set<'a> = &'a mut dyn FnMut(&str, String, &str);

/// -1 means any amount.
fn limit_text(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn memory_settings(memory: &LinuxMemory, set: Set<'_>) -> Result<(), CgroupError> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = given(memory.limit());
    if let Some(limit) = limit {
        set("memory.max", limit_text(limit), "memory.limit");
    }
    // The spec counts memory and swap together, as v1 did; v2 counts swap alone.
    if let Some(both) = given(memory.swap()) {
        let swap = match (both, limit) {
            (both, _) if both < 0 => -1,
            (both, Some(limit)) if limit > 0 && both >= limit => both - limit,
            (_, Some(limit)) if limit > 0 => {
                return Err(unsupported("memory.swap", "it is less than memory.limit"));
            }
            _ => return Err(unsupported("memory.swap", "it needs memory.limit")),
        };
        set("memory.swap.max", limit_text(swap), "memory.swap");
    }
    if let Some(low) = given(memory.reservation()) {
        set("memory.low", limit_text(low), "memory.reservation");
    }
    let unlimited = |value: Option<i64>| value.is_none_or(|value| value <= 0);
    if !unlimited(memory.kernel()) || !unlimited(memory.kernel_tcp()) {
        return Err(unsupported("memory.kernel", "cgroup v2 has no limit of kernel memory"));
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

/// Period when only a quota is given, in microseconds.
///
/// Source: Documentation/admin-guide/cgroup-v2.rst, cpu.max.
const PERIOD_DEFAULT_US: u64 = 100_000;

fn cpu_settings(cpu: &LinuxCpu, set: Set<'_>) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        set("cpu.weight", weight_of_shares(shares).to_string(), "cpu.shares");
    }
    let (quota, period) = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
    match (quota, period) {
        (None, None) => {}
        (Some(quota), period) => {
            let value = format!("{} {}", limit_text(quota), period.unwrap_or(PERIOD_DEFAULT_US));
            set("cpu.max", value, "cpu.quota");
        }
        (None, Some(period)) => set("cpu.max", format!("max {period}"), "cpu.period"),
    }
    if let Some(burst) = cpu.burst() {
        set("cpu.max.burst", burst.to_string(), "cpu.burst");
    }
    if let Some(idle) = cpu.idle() {
        set("cpu.idle", idle.to_string(), "cpu.idle");
    }
    if cpu.realtime_period().is_some_and(|p| p != 0) || cpu.realtime_runtime().is_some_and(|r| r != 0) {
        return Err(unsupported("cpu.realtimeRuntime", "cgroup v2 has no real-time limits"));
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        set("cpuset.cpus", cpus.clone(), "cpu.cpus");
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        set("cpuset.mems", mems.clone(), "cpu.mems");
    }
    Ok(())
}

/// Shares of 2 to 262144 as weights of 1 to 10000.
///
/// Source: `ConvertCPUSharesToCgroupV2Value`, runc libcontainer/cgroups/utils.go; the kubelet's is the same.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Block weights of 10 to 1000 as weights of 1 to 10000.
///
/// Source: `ConvertBlkIOToIOWeightValue`, runc libcontainer/cgroups/utils.go.
fn weight_of_block_io(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1_000) - 10) * 9_999 / 990
}

fn block_io_settings(block_io: &LinuxBlockIo, set: Set<'_>) -> Result<(), CgroupError> {
    let leaf = block_io.leaf_weight().is_some_and(|weight| weight != 0);
    let leaves = block_io.weight_device().iter().flatten().any(|d| d.leaf_weight().is_some_and(|w| w != 0));
    if leaf || leaves {
        return Err(unsupported("blockIO.leafWeight", "no scheduler of Linux knows it any more"));
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        set("io.weight", weight_of_block_io(weight).to_string(), "blockIO.weight");
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {}", device.major(), device.minor(), weight_of_block_io(weight));
            set("io.weight", value, "blockIO.weightDevice");
        }
    }
    for (devices, key, field) in [
        (block_io.throttle_read_bps_device(), "rbps", "blockIO.throttleReadBpsDevice"),
        (block_io.throttle_write_bps_device(), "wbps", "blockIO.throttleWriteBpsDevice"),
        (block_io.throttle_read_iops_device(), "riops", "blockIO.throttleReadIOPSDevice"),
        (block_io.throttle_write_iops_device(), "wiops", "blockIO.throttleWriteIOPSDevice"),
    ] {
        for device in devices.iter().flatten() {
            set("io.max", format!("{}:{} {key}={}", device.major(), device.minor(), device.rate()), field);
        }
    }
    Ok(())
}

/// Everything that is counted.
pub(crate) fn stats(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let dir = cgroup.need("", "stats")?;
    let has = |name: &str| dir.join(name).exists();
    Ok(Stats {
        memory: has("memory.current").then(|| memory_stats(dir)).transpose()?,
        cpu: has("cpu.stat").then(|| cpu_stats(dir)).transpose()?,
        pids: has("pids.current").then(|| pids_stats(dir)).transpose()?,
        blkio: has("io.stat").then(|| io_stats(dir)).transpose()?,
        hugetlb: hugetlb_stats(dir)?,
    })
}

fn memory_stats(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let (stat, events) = (dir.join("memory.stat"), dir.join("memory.events"));
    let events = file::rows(&events, &file::read(&events)?)?;
    Ok(MemoryStats {
        usage_bytes: file::read_number(&dir.join("memory.current"))?,
        usage_bytes_max: file::read_number_if_there(&dir.join("memory.peak"))?,
        limit_bytes: file::read_number_if_there(&dir.join("memory.max"))?.unwrap_or(u64::MAX),
        limit_hits: file::row(&events, "max").unwrap_or(0),
        swap_usage_bytes: file::read_number_if_there(&dir.join("memory.swap.current"))?,
        swap_limit_bytes: file::read_number_if_there(&dir.join("memory.swap.max"))?,
        kernel_usage_bytes: None,
        kernel_tcp_usage_bytes: None,
        oom_kills: file::row(&events, "oom_kill").unwrap_or(0),
        events,
        rows: file::rows(&stat, &file::read(&stat)?)?,
    })
}

fn cpu_stats(dir: &Path) -> Result<CpuStats, CgroupError> {
    let path = dir.join("cpu.stat");
    let rows = file::rows(&path, &file::read(&path)?)?;
    let ns = |name: &str| file::row(&rows, name).unwrap_or(0) * 1_000;
    Ok(CpuStats {
        total_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        kernel_ns: ns("system_usec"),
        per_cpu_ns: Vec::new(),
        periods: file::row(&rows, "nr_periods").unwrap_or(0),
        throttled_periods: file::row(&rows, "nr_throttled").unwrap_or(0),
        throttled_ns: ns("throttled_usec"),
    })
}

/// Rows of `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_stats(dir: &Path) -> Result<BlkioStats, CgroupError> {
    let path = dir.join("io.stat");
    let mut stats = BlkioStats::default();
    for line in file::read(&path)?.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (major, minor) = (file::number(&path, major)?, file::number(&path, minor)?);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match name {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "dbytes" => (&mut stats.bytes, "Discard"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                "dios" => (&mut stats.operations, "Discard"),
                _ => continue,
            };
            let value = file::number(&path, value)?;
            list.push(BlkioEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    Ok(stats)
}

fn hugetlb_stats(dir: &Path) -> Result<Vec<HugetlbStats>, CgroupError> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(file::failed("open(2)", dir))? {
        let name = entry.map_err(file::failed("getdents(2)", dir))?.file_name();
        let Some(size) = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current"))
            .filter(|size| !size.contains('.'))
        else {
            continue;
        };
        let events = dir.join(format!("hugetlb.{size}.events"));
        let hits = file::read_if_there(&events)?.map(|text| file::rows(&events, &text)).transpose()?;
        all.push(HugetlbStats {
            page_size: size.to_owned(),
            usage_bytes: file::read_number(&dir.join(format!("hugetlb.{size}.current")))?,
            usage_bytes_max: None,
            limit_hits: hits.and_then(|rows| file::row(&rows, "max")).unwrap_or(0),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder};

    use super::*;

    fn memory(memory: LinuxMemoryBuilder) -> Result<Vec<(String, String)>, CgroupError> {
        let resources = LinuxResourcesBuilder::default().memory(memory.build().unwrap()).build().unwrap();
        Ok(settings(&resources)?.into_iter().map(|s| (s.file, s.value)).collect())
    }

    #[test]
    fn swap_is_counted_alone() {
        let found = memory(LinuxMemoryBuilder::default().limit(100).swap(150)).unwrap();
        assert_eq!(
            found,
            [("memory.max".into(), "100".into()), ("memory.swap.max".into(), "50".into())]
                as [(String, String); 2]
        );
        let found = memory(LinuxMemoryBuilder::default().limit(-1).swap(-1)).unwrap();
        assert_eq!(found[1].1, "max");
    }

    #[test]
    fn limits_that_v2_cannot_keep_are_errors() {
        for wrong in [
            LinuxMemoryBuilder::default().limit(100).swap(50),
            LinuxMemoryBuilder::default().swap(50),
            LinuxMemoryBuilder::default().kernel(1),
            LinuxMemoryBuilder::default().swappiness(10_u64),
            LinuxMemoryBuilder::default().disable_oom_killer(true),
        ] {
            assert!(matches!(memory(wrong), Err(CgroupError::Unsupported { .. })));
        }
    }

    #[test]
    fn unified_names_files_of_controllers_only() {
        let unified = |file: &str| {
            let map =
                [(file.to_owned(), "1".to_owned())].into_iter().collect::<std::collections::HashMap<_, _>>();
            settings(&LinuxResourcesBuilder::default().unified(map).build().unwrap())
        };
        assert_eq!(unified("memory.high").unwrap()[0].file, "memory.high");
        for file in ["cgroup.procs", "../memory.high", "memory", ".", "a/b.c"] {
            assert!(unified(file).is_err(), "{file} was accepted");
        }
    }

    #[test]
    fn shares_and_weights_span_the_whole_range() {
        assert_eq!((weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)), (1, 39, 10_000));
        assert_eq!(
            (weight_of_block_io(10), weight_of_block_io(500), weight_of_block_io(1000)),
            (1, 4950, 10_000)
        );
    }
}
