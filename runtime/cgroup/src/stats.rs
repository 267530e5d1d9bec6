//! What a control group has used: plain numbers, the same whichever version counted them.

/// Everything that was counted. What the kernel does not offer is `None` or empty, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block I/O.
    pub blkio: Option<BlkioStats>,
    /// Huge pages, one entry for each size.
    pub hugetlb: Vec<HugetlbStats>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// memory.usage_in_bytes, memory.current.
    pub usage_bytes: u64,
    /// memory.max_usage_in_bytes, memory.peak.
    pub usage_bytes_max: Option<u64>,
    /// The limit; `u64::MAX` when there is none.
    pub limit_bytes: u64,
    /// How often the limit was hit: memory.failcnt, memory.events `max`.
    pub limit_hits: u64,
    /// memory.memsw.usage_in_bytes on v1 (memory and swap), memory.swap.current on v2 (swap alone).
    pub swap_usage_bytes: Option<u64>,
    /// Its limit; `u64::MAX` when there is none.
    pub swap_limit_bytes: Option<u64>,
    /// memory.kmem.usage_in_bytes; v1 only.
    pub kernel_usage_bytes: Option<u64>,
    /// memory.kmem.tcp.usage_in_bytes; v1 only.
    pub kernel_tcp_usage_bytes: Option<u64>,
    /// Processes killed for want of memory: memory.oom_control `oom_kill`, memory.events `oom_kill`.
    pub oom_kills: u64,
    /// memory.events: low, high, oom; v2 only.
    pub events: Vec<(String, u64)>,
    /// memory.stat, every row as the kernel names it: cache, rss, anon, file, total_cache …
    pub rows: Vec<(String, u64)>,
}

impl MemoryStats {
    /// One row of memory.stat.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<u64> {
        self.rows.iter().find(|(row, _)| row == name).map(|(_, value)| *value)
    }
}

/// CPU time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes, by device and operation.
    pub bytes: Vec<BlkioEntry>,
    /// Operations, by device and operation.
    pub operations: Vec<BlkioEntry>,
}

/// One counter of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
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
    /// How often the limit was hit.
    pub limit_hits: u64,
}
