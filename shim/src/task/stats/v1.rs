//! `io.containerd.cgroups.v1.Metrics`.

use bulkhead_cgroup::{BlkioEntry, MemoryStats, MemoryUse, RdmaEntry, Stats};
use containerd_shim_protos::{cgroups::metrics as v1, protobuf::MessageField};

pub(super) fn metrics(stats: &Stats) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(pids) = &stats.pids {
        let mut message = v1::PidsStat::new();
        message.current = pids.current;
        // 0 for any number, as containerd's library has it.
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
        metrics.memory = MessageField::some(memory_stat(memory));
        let mut oom = v1::MemoryOomControl::new();
        oom.oom_kill_disable = memory.event("oom_kill_disable").unwrap_or(0);
        oom.under_oom = memory.event("under_oom").unwrap_or(0);
        oom.oom_kill = memory.event("oom_kill").unwrap_or(0);
        metrics.memory_oom_control = MessageField::some(oom);
    }
    if let Some(blkio) = &stats.blkio {
        let mut message = v1::BlkIOStat::new();
        message.io_service_bytes_recursive = blkio.bytes.iter().map(blkio_entry).collect();
        message.io_serviced_recursive = blkio.operations.iter().map(blkio_entry).collect();
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
    if let Some(rdma) = &stats.rdma {
        let mut message = v1::RdmaStat::new();
        message.current = rdma.current.iter().map(rdma_entry).collect();
        message.limit = rdma.limit.iter().map(rdma_entry).collect();
        metrics.rdma = MessageField::some(message);
    }
    metrics
}

fn blkio_entry(entry: &BlkioEntry) -> v1::BlkIOEntry {
    let mut message = v1::BlkIOEntry::new();
    message.op.clone_from(&entry.operation);
    message.device.clone_from(&entry.device);
    message.major = entry.major;
    message.minor = entry.minor;
    message.value = entry.value;
    message
}

fn rdma_entry(entry: &RdmaEntry) -> v1::RdmaEntry {
    let mut message = v1::RdmaEntry::new();
    message.device.clone_from(&entry.device);
    message.hca_handles = entry.handles;
    message.hca_objects = entry.objects;
    message
}

fn memory_entry(found: Option<MemoryUse>) -> MessageField<v1::MemoryEntry> {
    let found = found.unwrap_or_default();
    let mut message = v1::MemoryEntry::new();
    message.usage = found.usage;
    message.max = found.usage_max.unwrap_or(0);
    message.limit = found.limit.unwrap_or(0);
    message.failcnt = found.limit_hits.unwrap_or(0);
    MessageField::some(message)
}

fn memory_stat(memory: &MemoryStats) -> v1::MemoryStat {
    let row = |name| memory.row(name).unwrap_or(0);
    let mut message = v1::MemoryStat::new();
    message.usage = memory_entry(Some(memory.memory));
    message.swap = memory_entry(memory.swap);
    message.kernel = memory_entry(memory.kernel);
    message.kernel_tcp = memory_entry(memory.kernel_tcp);
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
