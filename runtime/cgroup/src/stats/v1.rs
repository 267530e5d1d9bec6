//! Version 1: which files count.

use std::path::Path;

use super::{BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryStats, MemoryUse, Stats, files};
use crate::{Cgroup, CgroupError, file};

/// Everything that is counted.
pub(crate) fn stats(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    Ok(Stats {
        memory: cgroup.dir("memory").map(memory).transpose()?,
        cpu: cgroup.dir("cpuacct").map(|dir| cpu(dir, cgroup.dir("cpu"))).transpose()?,
        pids: cgroup.dir("pids").map(files::pids).transpose()?,
        blkio: cgroup.dir("blkio").map(blkio).transpose()?,
        hugetlb: cgroup
            .dir("hugetlb")
            .map(|dir| files::hugetlb(dir, ".usage_in_bytes", pages_of_size))
            .transpose()?
            .unwrap_or_default(),
        rdma: cgroup.dir("rdma").map(files::rdma).transpose()?.flatten(),
    })
}

fn memory(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let (stat, oom) = (dir.join("memory.stat"), dir.join("memory.oom_control"));
    Ok(MemoryStats {
        memory: memory_use(dir, "memory")?.unwrap_or_default(),
        swap: memory_use(dir, "memory.memsw")?,
        kernel: memory_use(dir, "memory.kmem")?,
        kernel_tcp: memory_use(dir, "memory.kmem.tcp")?,
        events: file::rows(&oom, &file::read(&oom)?)?,
        rows: file::rows(&stat, &file::read(&stat)?)?,
        pressure: None,
    })
}

/// None where the kernel does not count this kind.
fn memory_use(dir: &Path, kind: &str) -> Result<Option<MemoryUse>, CgroupError> {
    let of = |what: &str| file::read_number_if_there(&dir.join(format!("{kind}.{what}")));
    let Some(usage) = of("usage_in_bytes")? else { return Ok(None) };
    Ok(Some(MemoryUse {
        usage,
        usage_max: of("max_usage_in_bytes")?,
        limit: of("limit_in_bytes")?,
        limit_hits: of("failcnt")?,
    }))
}

/// Length of a clock tick as cpuacct.stat counts, in nanoseconds.
///
/// Source: `USER_HZ`, include/asm-generic/param.h: 100 on every architecture that runs containers.
const TICK_NS: u64 = 10_000_000;

fn cpu(cpuacct: &Path, cpu: Option<&Path>) -> Result<CpuStats, CgroupError> {
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
        let row = |name: &str| file::row(&rows, name).unwrap_or(0);
        stats.periods = row("nr_periods");
        stats.throttled_periods = row("nr_throttled");
        stats.throttled_ns = row("throttled_time");
        stats.bursts = row("nr_bursts");
        stats.burst_ns = row("burst_time");
    }
    Ok(stats)
}

/// The recursive files count groups below too; kernels before 4.x have the plain ones only. The files of the CFQ
/// scheduler went with it in Linux 5.0.
fn blkio(dir: &Path) -> Result<BlkioStats, CgroupError> {
    let read = |names: [&str; 2]| -> Result<Vec<BlkioEntry>, CgroupError> {
        for name in names {
            let path = dir.join(name);
            if let Some(text) = file::read_if_there(&path)? {
                return blkio_entries(&path, &text);
            }
        }
        Ok(Vec::new())
    };
    let mut stats = BlkioStats {
        bytes: read(["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"])?,
        operations: read(["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"])?,
        pressure: None,
    };
    if !stats.bytes.is_empty() || !stats.operations.is_empty() {
        let path = Path::new("/proc/partitions");
        name_devices(&mut stats, &file::read_if_there(path)?.unwrap_or_default());
    }
    Ok(stats)
}

/// Rows of `8:0 Read 4096`; the total at the end is left out.
fn blkio_entries(path: &Path, text: &str) -> Result<Vec<BlkioEntry>, CgroupError> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let (Some((major, minor)), Some(operation), Some(value)) = (device, words.next(), words.next())
        else {
            continue;
        };
        entries.push(BlkioEntry {
            device: String::new(),
            major: file::number(path, major)?,
            minor: file::number(path, minor)?,
            operation: operation.to_owned(),
            value: file::number(path, value)?,
        });
    }
    Ok(entries)
}

/// By /proc/partitions: two lines of heading, then `   8        0  500107608 sda`.
fn name_devices(stats: &mut BlkioStats, partitions: &str) {
    for entry in stats.bytes.iter_mut().chain(&mut stats.operations) {
        let is_it = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [major, minor, _, name] = words.as_slice() else { return None };
            let numbers = (major.parse().ok()?, minor.parse().ok()?);
            (numbers == (entry.major, entry.minor)).then(|| format!("/dev/{name}"))
        };
        entry.device = partitions.lines().skip(2).find_map(is_it).unwrap_or_default();
    }
}

fn pages_of_size(dir: &Path, size: &str) -> Result<HugetlbStats, CgroupError> {
    let of = |what: &str| dir.join(format!("hugetlb.{size}.{what}"));
    Ok(HugetlbStats {
        page_size: size.to_owned(),
        usage_bytes: file::read_number(&of("usage_in_bytes"))?,
        usage_bytes_max: file::read_number_if_there(&of("max_usage_in_bytes"))?,
        limit_bytes: None,
        limit_hits: file::read_number_if_there(&of("failcnt"))?.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn block_io_is_read_by_device_and_named_without_its_total() {
        let text = "8:0 Read 4096\n8:0 Write 0\n7:3 Discard 1\nTotal 4097\n";
        let mut stats =
            BlkioStats { bytes: blkio_entries(Path::new("f"), text).unwrap(), ..BlkioStats::default() };
        name_devices(
            &mut stats,
            "major minor  #blocks  name\n\n   8        0  500 sda\n   8        1  499 sda1\n",
        );
        let found: Vec<_> =
            stats.bytes.iter().map(|e| (e.device.as_str(), e.operation.as_str(), e.value)).collect();
        assert_eq!(found, [("/dev/sda", "Read", 4096), ("/dev/sda", "Write", 0), ("", "Discard", 1)]);
    }

    #[test]
    fn memory_of_a_kind_that_is_not_counted_is_none_and_one_that_is_has_all_four_numbers() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(memory_use(dir.path(), "memory.memsw").unwrap(), None);
        for (what, value) in [("usage", "1"), ("max_usage", "2"), ("limit", "3")] {
            std::fs::write(dir.path().join(format!("memory.memsw.{what}_in_bytes")), value).unwrap();
        }
        std::fs::write(dir.path().join("memory.memsw.failcnt"), "4").unwrap();
        let found = memory_use(dir.path(), "memory.memsw").unwrap().unwrap();
        assert_eq!(
            (found.usage, found.usage_max, found.limit, found.limit_hits),
            (1, Some(2), Some(3), Some(4))
        );
    }
}
