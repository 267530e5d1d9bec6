//! Stats in containerd's messages: `io.containerd.cgroups.v1.Metrics` or `.v2.Metrics`.
//!
//! Invariant: pure. What the kernel did not offer is left out.

use bulkhead_cgroup::{BlkioEntry, Stats, Version};
use containerd_shim_protos::{
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    protobuf::{MessageField, well_known_types::any::Any},
};

use super::{TaskError, service};

/// The message of this host's version, packed.
pub(crate) fn any(version: Version, stats: &Stats) -> Result<Any, TaskError> {
    match version {
        Version::V1 | Version::Hybrid => service::any("io.containerd.cgroups.v1.Metrics", &metrics_v1(stats)),
        Version::V2 => service::any("io.containerd.cgroups.v2.Metrics", &metrics_v2(stats)),
    }
}

fn metrics_v1(stats: &Stats) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(pids) = &stats.pids {
        let mut message = v1::PidsStat::new();
        message.current = pids.current;
        message.limit = pids.limit.unwrap_or(0);
        metrics.pids = MessageField::some(message);
    }
    if let Some(cpu) = &stats.cpu {
        let mut usage = v1::CPUUsage::new();
        usage.total = cpu.total_ns;
        usage.user = cpu.user_ns;
        usage.kernel = cpu.kernel_ns;
        usage.per_cpu.clone_from(&cpu.per_cpu_ns);
        let mut throttling = v1::Throttle::new();
        throttling.periods = cpu.periods;
        throttling.throttled_periods = cpu.throttled_periods;
        throttling.throttled_time = cpu.throttled_ns;
        let mut message = v1::CPUStat::new();
        message.usage = MessageField::some(usage);
        message.throttling = MessageField::some(throttling);
        metrics.cpu = MessageField::some(message);
    }
    if let Some(memory) = &stats.memory {
        metrics.memory = MessageField::some(memory_v1(memory));
        let mut oom = v1::MemoryOomControl::new();
        oom.oom_kill = memory.oom_kills;
        metrics.memory_oom_control = MessageField::some(oom);
    }
    if let Some(blkio) = &stats.blkio {
        let entry = |entry: &BlkioEntry| {
            let mut message = v1::BlkIOEntry::new();
            message.op.clone_from(&entry.operation);
            message.major = entry.major;
            message.minor = entry.minor;
            message.value = entry.value;
            message
        };
        let mut message = v1::BlkIOStat::new();
        message.io_service_bytes_recursive = blkio.bytes.iter().map(entry).collect();
        message.io_serviced_recursive = blkio.operations.iter().map(entry).collect();
        metrics.blkio = MessageField::some(message);
    }
    for pages in &stats.hugetlb {
        let mut message = v1::HugetlbStat::new();
        message.pagesize.clone_from(&pages.page_size);
        message.usage = pages.usage_bytes;
        message.max = pages.usage_bytes_max.unwrap_or(0);
        message.failcnt = pages.limit_hits;
        metrics.hugetlb.push(message);
    }
    metrics
}

fn memory_v1(memory: &bulkhead_cgroup::MemoryStats) -> v1::MemoryStat {
    let mut usage = v1::MemoryEntry::new();
    usage.usage = memory.usage_bytes;
    usage.max = memory.usage_bytes_max.unwrap_or(0);
    usage.limit = memory.limit_bytes;
    usage.failcnt = memory.limit_hits;
    let entry = |usage: Option<u64>, limit: Option<u64>| match usage {
        None => MessageField::none(),
        Some(usage) => {
            let mut message = v1::MemoryEntry::new();
            message.usage = usage;
            message.limit = limit.unwrap_or(0);
            MessageField::some(message)
        }
    };
    let row = |name| memory.row(name).unwrap_or(0);
    let mut message = v1::MemoryStat::new();
    message.usage = MessageField::some(usage);
    message.swap = entry(memory.swap_usage_bytes, memory.swap_limit_bytes);
    message.kernel = entry(memory.kernel_usage_bytes, None);
    message.kernel_tcp = entry(memory.kernel_tcp_usage_bytes, None);
    message.cache = row("cache");
    message.rss = row("rss");
    message.rss_huge = row("rss_huge");
    message.mapped_file = row("mapped_file");
    message.dirty = row("dirty");
    message.writeback = row("writeback");
    message.pg_pg_in = row("pgpgin");
    message.pg_pg_out = row("pgpgout");
    message.pg_fault = row("pgfault");
    message.pg_maj_fault = row("pgmajfault");
    message.inactive_anon = row("inactive_anon");
    message.active_anon = row("active_anon");
    message.inactive_file = row("inactive_file");
    message.active_file = row("active_file");
    message.unevictable = row("unevictable");
    message.hierarchical_memory_limit = row("hierarchical_memory_limit");
    message.hierarchical_swap_limit = row("hierarchical_memsw_limit");
    message.total_cache = row("total_cache");
    message.total_rss = row("total_rss");
    message.total_rss_huge = row("total_rss_huge");
    message.total_mapped_file = row("total_mapped_file");
    message.total_dirty = row("total_dirty");
    message.total_writeback = row("total_writeback");
    message.total_pg_pg_in = row("total_pgpgin");
    message.total_pg_pg_out = row("total_pgpgout");
    message.total_pg_fault = row("total_pgfault");
    message.total_pg_maj_fault = row("total_pgmajfault");
    message.total_inactive_anon = row("total_inactive_anon");
    message.total_active_anon = row("total_active_anon");
    message.total_inactive_file = row("total_inactive_file");
    message.total_active_file = row("total_active_file");
    message.total_unevictable = row("total_unevictable");
    message
}

fn metrics_v2(stats: &Stats) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    if let Some(pids) = &stats.pids {
        let mut message = v2::PidsStat::new();
        message.current = pids.current;
        message.limit = pids.limit.unwrap_or(0);
        metrics.pids = MessageField::some(message);
    }
    if let Some(cpu) = &stats.cpu {
        let mut message = v2::CPUStat::new();
        message.usage_usec = cpu.total_ns / 1000;
        message.user_usec = cpu.user_ns / 1000;
        message.system_usec = cpu.kernel_ns / 1000;
        message.nr_periods = cpu.periods;
        message.nr_throttled = cpu.throttled_periods;
        message.throttled_usec = cpu.throttled_ns / 1000;
        metrics.cpu = MessageField::some(message);
    }
    if let Some(memory) = &stats.memory {
        metrics.memory = MessageField::some(memory_v2(memory));
        let count = |name: &str| memory.events.iter().find(|(event, _)| event == name).map_or(0, |(_, n)| *n);
        let mut message = v2::MemoryEvents::new();
        message.low = count("low");
        message.high = count("high");
        message.max = memory.limit_hits;
        message.oom = count("oom");
        message.oom_kill = memory.oom_kills;
        metrics.memory_events = MessageField::some(message);
    }
    if let Some(blkio) = &stats.blkio {
        metrics.io = MessageField::some(io_v2(blkio));
    }
    for pages in &stats.hugetlb {
        let mut message = v2::HugeTlbStat::new();
        message.pagesize.clone_from(&pages.page_size);
        message.current = pages.usage_bytes;
        message.failcnt = pages.limit_hits;
        metrics.hugetlb.push(message);
    }
    metrics
}

fn memory_v2(memory: &bulkhead_cgroup::MemoryStats) -> v2::MemoryStat {
    let row = |name| memory.row(name).unwrap_or(0);
    let mut message = v2::MemoryStat::new();
    message.usage = memory.usage_bytes;
    message.usage_limit = memory.limit_bytes;
    message.swap_usage = memory.swap_usage_bytes.unwrap_or(0);
    message.swap_limit = memory.swap_limit_bytes.unwrap_or(0);
    message.anon = row("anon");
    message.file = row("file");
    message.kernel_stack = row("kernel_stack");
    message.slab = row("slab");
    message.sock = row("sock");
    message.shmem = row("shmem");
    message.file_mapped = row("file_mapped");
    message.file_dirty = row("file_dirty");
    message.file_writeback = row("file_writeback");
    message.anon_thp = row("anon_thp");
    message.inactive_anon = row("inactive_anon");
    message.active_anon = row("active_anon");
    message.inactive_file = row("inactive_file");
    message.active_file = row("active_file");
    message.unevictable = row("unevictable");
    message.slab_reclaimable = row("slab_reclaimable");
    message.slab_unreclaimable = row("slab_unreclaimable");
    message.pgfault = row("pgfault");
    message.pgmajfault = row("pgmajfault");
    message.workingset_refault = row("workingset_refault_file") + row("workingset_refault_anon");
    message.workingset_activate = row("workingset_activate_file") + row("workingset_activate_anon");
    message.workingset_nodereclaim = row("workingset_nodereclaim");
    message.pgrefill = row("pgrefill");
    message.pgscan = row("pgscan");
    message.pgsteal = row("pgsteal");
    message.pgactivate = row("pgactivate");
    message.pgdeactivate = row("pgdeactivate");
    message.pglazyfree = row("pglazyfree");
    message.pglazyfreed = row("pglazyfreed");
    message.thp_fault_alloc = row("thp_fault_alloc");
    message.thp_collapse_alloc = row("thp_collapse_alloc");
    message
}

/// One entry for each device: v2 has a field where v1 has a row.
fn io_v2(blkio: &bulkhead_cgroup::BlkioStats) -> v2::IOStat {
    let mut message = v2::IOStat::new();
    let rows = blkio.bytes.iter().map(|entry| (entry, true));
    for (entry, is_bytes) in rows.chain(blkio.operations.iter().map(|entry| (entry, false))) {
        let known = message
            .usage
            .iter()
            .position(|device: &v2::IOEntry| device.major == entry.major && device.minor == entry.minor);
        let index = known.unwrap_or_else(|| {
            let mut device = v2::IOEntry::new();
            device.major = entry.major;
            device.minor = entry.minor;
            message.usage.push(device);
            message.usage.len() - 1
        });
        let device = &mut message.usage[index];
        match (entry.operation.as_str(), is_bytes) {
            ("Read", true) => device.rbytes += entry.value,
            ("Write", true) => device.wbytes += entry.value,
            ("Read", false) => device.rios += entry.value,
            ("Write", false) => device.wios += entry.value,
            _ => {}
        }
    }
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_cgroup::{CpuStats, MemoryStats};
    use containerd_shim_protos::protobuf::Message;

    fn stats() -> Stats {
        Stats {
            memory: Some(MemoryStats {
                usage_bytes: 4096,
                rows: vec![("total_inactive_file".into(), 7), ("anon".into(), 8)],
                ..MemoryStats::default()
            }),
            cpu: Some(CpuStats { total_ns: 5_000, ..CpuStats::default() }),
            ..Stats::default()
        }
    }

    #[test]
    fn v1_host_answers_in_nanoseconds_under_the_v1_name() {
        let any = any(Version::Hybrid, &stats()).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage.total, metrics.memory.total_inactive_file), (5_000, 7));
        assert!(metrics.pids.is_none(), "what the kernel did not offer was invented");
    }

    #[test]
    fn v2_host_answers_in_microseconds_under_the_v2_name() {
        let any = any(Version::V2, &stats()).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage_usec, metrics.memory.anon), (5, 8));
    }
}
