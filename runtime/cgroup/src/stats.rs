//! What a control group has used: plain numbers, the same whichever version counted them.
//!
//! Invariant: what the kernel does not offer is `None` or empty, never zero.

mod files;
pub(crate) mod v1;
pub(crate) mod v2;

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block I/O.
    pub blkio: Option<BlkioStats>,
    /// Huge pages, one entry for each size, by name.
    pub hugetlb: Vec<HugetlbStats>,
    /// Remote DMA.
    pub rdma: Option<RdmaStats>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryStats {
    /// memory.usage_in_bytes and its kin; memory.current, memory.peak, memory.max.
    pub memory: MemoryUse,
    /// memory.memsw.* on v1 (memory and swap), memory.swap.* on v2 (swap alone).
    pub swap: Option<MemoryUse>,
    /// memory.kmem.*; v1 only.
    pub kernel: Option<MemoryUse>,
    /// memory.kmem.tcp.*; v1 only.
    pub kernel_tcp: Option<MemoryUse>,
    /// memory.oom_control: oom_kill_disable, under_oom, oom_kill; memory.events: low, high, max, oom, oom_kill …
    pub events: Vec<(String, u64)>,
    /// memory.stat, every row as the kernel names it: cache, rss, anon, file, total_cache …
    pub rows: Vec<(String, u64)>,
    /// memory.pressure; v2 only.
    pub pressure: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use.
    pub usage: u64,
    /// Most that was in use.
    pub usage_max: Option<u64>,
    /// The limit, `u64::MAX` for none.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: Option<u64>,
}

impl MemoryStats {
    /// One row of memory.stat.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<u64> {
        crate::file::row(&self.rows, name)
    }

    /// One row of memory.oom_control or memory.events.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<u64> {
        crate::file::row(&self.events, name)
    }
}

/// CPU time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuStats {
    /// All of it.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// For each CPU; v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// Enforcement periods that went by.
    pub periods: u64,
    /// Of these, how many were throttled.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled_ns: u64,
    /// Periods that used more than the quota.
    pub bursts: u64,
    /// For how long.
    pub burst_ns: u64,
    /// cpu.pressure; v2 only.
    pub pressure: Option<Pressure>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` for any number.
    pub limit: Option<u64>,
}

/// Block I/O.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlkioStats {
    /// Bytes, by device and operation.
    pub bytes: Vec<BlkioEntry>,
    /// Operations, by device and operation.
    pub operations: Vec<BlkioEntry>,
    /// io.pressure; v2 only.
    pub pressure: Option<Pressure>,
}

/// One counter of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Its file, such as `/dev/sda`; empty where the kernel lists no such device.
    pub device: String,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard` …
    pub operation: String,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// The size, as the kernel writes it: `2MB`.
    pub page_size: String,
    /// In use.
    pub usage_bytes: u64,
    /// Most that was in use; v1 only.
    pub usage_bytes_max: Option<u64>,
    /// The limit, `u64::MAX` for none; v2 only.
    pub limit_bytes: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: u64,
}

/// Remote DMA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// In use.
    pub current: Vec<RdmaEntry>,
    /// The limits.
    pub limit: Vec<RdmaEntry>,
}

/// What one device has handed out, or may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name, such as `mlx5_0`.
    pub device: String,
    /// Handles; `u32::MAX` for any number.
    pub handles: u32,
    /// Objects; `u32::MAX` for any number.
    pub objects: u32,
}

/// How long processes waited for a resource.
///
/// Source: Documentation/accounting/psi.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one waited.
    pub some: Option<PressureShare>,
    /// All waited.
    pub full: Option<PressureShare>,
}

/// Parts of a time that passed, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureShare {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last 60 seconds.
    pub avg60: f64,
    /// Of the last 300 seconds.
    pub avg300: f64,
    /// All of it, in microseconds.
    pub total_us: u64,
}
