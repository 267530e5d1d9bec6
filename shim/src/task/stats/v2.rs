//! `io.containerd.cgroups.v2.Metrics`.

use bulkhead_cgroup::{BlkioEntry, BlkioStats, MemoryStats, Pressure, PressureShare, RdmaEntry, Stats};
use containerd_shim_protos::{cgroups_v2::metrics as v2, protobuf::MessageField};

pub(super) fn metrics(stats: &Stats) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    if let Some(pids) = &stats.pids {
        let mut message = v2::PidsStat::new();
        message.current = pids.current;
        // The largest number for any, as containerd's library has it.
        message.limit = pids.limit.unwrap_or(u64::MAX);
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
        message.nr_bursts = cpu.bursts;
        message.burst_usec = cpu.burst_ns / 1000;
        message.psi = psi(cpu.pressure);
        metrics.cpu = MessageField::some(message);
    }
    if let Some(memory) = &stats.memory {
        metrics.memory = MessageField::some(memory_stat(memory));
        let count = |name| memory.event(name).unwrap_or(0);
        let mut message = v2::MemoryEvents::new();
        message.low = count("low");
        message.high = count("high");
        message.max = count("max");
        message.oom = count("oom");
        message.oom_kill = count("oom_kill");
        message.oom_group_kill = count("oom_group_kill");
        metrics.memory_events = MessageField::some(message);
    }
    if let Some(blkio) = &stats.blkio {
        metrics.io = MessageField::some(io_stat(blkio));
    }
    for pages in &stats.hugetlb {
        let mut message = v2::HugeTlbStat::new();
        message.pagesize.clone_from(&pages.page_size);
        message.current = pages.usage_bytes;
        message.max = pages.limit_bytes.unwrap_or(0);
        message.failcnt = pages.limit_hits;
        metrics.hugetlb.push(message);
    }
    if let Some(rdma) = &stats.rdma {
        let mut message = v2::RdmaStat::new();
        message.current = rdma.current.iter().map(rdma_entry).collect();
        message.limit = rdma.limit.iter().map(rdma_entry).collect();
        metrics.rdma = MessageField::some(message);
    }
    metrics
}

fn rdma_entry(entry: &RdmaEntry) -> v2::RdmaEntry {
    let mut message = v2::RdmaEntry::new();
    message.device.clone_from(&entry.device);
    message.hca_handles = entry.handles;
    message.hca_objects = entry.objects;
    message
}

fn psi(pressure: Option<Pressure>) -> MessageField<v2::PSIStats> {
    let Some(pressure) = pressure else { return MessageField::none() };
    let data = |share: Option<PressureShare>| {
        let Some(share) = share else { return MessageField::none() };
        let mut message = v2::PSIData::new();
        message.avg10 = share.avg10;
        message.avg60 = share.avg60;
        message.avg300 = share.avg300;
        message.total = share.total_us;
        MessageField::some(message)
    };
    let mut message = v2::PSIStats::new();
    message.some = data(pressure.some);
    message.full = data(pressure.full);
    MessageField::some(message)
}

fn memory_stat(memory: &MemoryStats) -> v2::MemoryStat {
    let row = |name| memory.row(name).unwrap_or(0);
    let swap = memory.swap.unwrap_or_default();
    let mut message = v2::MemoryStat::new();
    message.usage = memory.memory.usage;
    message.usage_limit = memory.memory.limit.unwrap_or(0);
    message.max_usage = memory.memory.usage_max.unwrap_or(0);
    message.swap_usage = swap.usage;
    message.swap_limit = swap.limit.unwrap_or(0);
    message.swap_max_usage = swap.usage_max.unwrap_or(0);
    message.psi = psi(memory.pressure);
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
fn io_stat(blkio: &BlkioStats) -> v2::IOStat {
    let mut message = v2::IOStat::new();
    message.psi = psi(blkio.pressure);
    for entry in &blkio.bytes {
        let device = device(&mut message, entry);
        match entry.operation.as_str() {
            "Read" => device.rbytes = entry.value,
            "Write" => device.wbytes = entry.value,
            _ => {}
        }
    }
    for entry in &blkio.operations {
        let device = device(&mut message, entry);
        match entry.operation.as_str() {
            "Read" => device.rios = entry.value,
            "Write" => device.wios = entry.value,
            _ => {}
        }
    }
    message
}

fn device<'a>(message: &'a mut v2::IOStat, entry: &BlkioEntry) -> &'a mut v2::IOEntry {
    let is_it = |device: &v2::IOEntry| device.major == entry.major && device.minor == entry.minor;
    let index = message.usage.iter().position(is_it).unwrap_or_else(|| {
        let mut device = v2::IOEntry::new();
        device.major = entry.major;
        device.minor = entry.minor;
        message.usage.push(device);
        message.usage.len() - 1
    });
    &mut message.usage[index]
}
