//! Version 2: which files count.

use std::path::Path;

use super::{BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryStats, MemoryUse, Stats, files};
use crate::{CgroupError, file};

/// Everything that is counted in the group at `dir`. A controller that no group above hands down has no files.
pub(crate) fn stats(dir: &Path) -> Result<Stats, CgroupError> {
    let has = |name: &str| dir.join(name).exists();
    Ok(Stats {
        memory: has("memory.current").then(|| memory(dir)).transpose()?,
        cpu: has("cpu.stat").then(|| cpu(dir)).transpose()?,
        pids: has("pids.current").then(|| files::pids(dir)).transpose()?,
        blkio: has("io.stat").then(|| io(dir)).transpose()?,
        hugetlb: files::hugetlb(dir, ".current", pages_of_size)?,
        rdma: files::rdma(dir)?,
    })
}

fn memory(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let (stat, events) = (dir.join("memory.stat"), dir.join("memory.events"));
    let of = |name: &str| file::read_number_if_there(&dir.join(name));
    let events = file::rows(&events, &file::read(&events)?)?;
    let swap = of("memory.swap.current")?;
    Ok(MemoryStats {
        memory: MemoryUse {
            usage: file::read_number(&dir.join("memory.current"))?,
            usage_max: of("memory.peak")?,
            limit: of("memory.max")?,
            limit_hits: file::row(&events, "max"),
        },
        swap: match swap {
            None => None,
            Some(usage) => Some(MemoryUse {
                usage,
                usage_max: of("memory.swap.peak")?,
                limit: of("memory.swap.max")?,
                limit_hits: None,
            }),
        },
        kernel: None,
        kernel_tcp: None,
        events,
        rows: file::rows(&stat, &file::read(&stat)?)?,
        pressure: files::pressure(&dir.join("memory.pressure"))?,
    })
}

fn cpu(dir: &Path) -> Result<CpuStats, CgroupError> {
    let path = dir.join("cpu.stat");
    let rows = file::rows(&path, &file::read(&path)?)?;
    let count = |name: &str| file::row(&rows, name).unwrap_or(0);
    let ns = |name: &str| count(name) * 1_000;
    Ok(CpuStats {
        total_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        kernel_ns: ns("system_usec"),
        per_cpu_ns: Vec::new(),
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_ns: ns("throttled_usec"),
        bursts: count("nr_bursts"),
        burst_ns: ns("burst_usec"),
        pressure: files::pressure(&dir.join("cpu.pressure"))?,
    })
}

/// Rows of `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io(dir: &Path) -> Result<BlkioStats, CgroupError> {
    let path = dir.join("io.stat");
    let mut stats =
        BlkioStats { pressure: files::pressure(&dir.join("io.pressure"))?, ..BlkioStats::default() };
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
            list.push(BlkioEntry {
                device: String::new(),
                major,
                minor,
                operation: operation.to_owned(),
                value,
            });
        }
    }
    Ok(stats)
}

fn pages_of_size(dir: &Path, size: &str) -> Result<HugetlbStats, CgroupError> {
    let of = |what: &str| dir.join(format!("hugetlb.{size}.{what}"));
    let events = of("events");
    let hits = file::read_if_there(&events)?.map(|text| file::rows(&events, &text)).transpose()?;
    Ok(HugetlbStats {
        page_size: size.to_owned(),
        usage_bytes: file::read_number(&of("current"))?,
        usage_bytes_max: None,
        limit_bytes: file::read_number_if_there(&of("max"))?,
        limit_hits: hits.and_then(|rows| file::row(&rows, "max")).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Files as Linux 6.1 and 6.12 have them.
    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn every_controller_that_is_there_is_read() {
        let dir = group(&[
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "8192\n"),
            ("memory.swap.current", "0\n"),
            ("memory.swap.max", "1024\n"),
            ("memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n"),
            ("memory.stat", "anon 1\nfile 2\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8\n",
            ),
            (
                "cpu.stat",
                "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 7\nnr_bursts 6\nburst_usec 4\n",
            ),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=1 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "0\n"),
            ("hugetlb.2MB.max", "max\n"),
            ("hugetlb.2MB.events", "max 1\n"),
            ("rdma.current", "mlx5_0 hca_handle=1 hca_object=2\n"),
            ("rdma.max", "mlx5_0 hca_handle=max hca_object=max\n"),
        ]);
        let stats = stats(dir.path()).unwrap();
        let memory = stats.memory.unwrap();
        assert_eq!(
            (memory.memory.usage, memory.memory.usage_max, memory.memory.limit),
            (4096, Some(8192), Some(u64::MAX))
        );
        assert_eq!(
            (memory.swap.unwrap().limit, memory.event("oom_group_kill"), memory.row("file")),
            (Some(1024), Some(5), Some(2))
        );
        assert_eq!(memory.pressure.unwrap().full.unwrap().total_us, 8);
        let cpu = stats.cpu.unwrap();
        assert_eq!((cpu.total_ns, cpu.throttled_ns, cpu.bursts, cpu.burst_ns), (5_000, 7_000, 6, 4_000));
        assert_eq!(stats.pids.unwrap().limit, None);
        let blkio = stats.blkio.unwrap();
        assert_eq!((blkio.bytes.len(), blkio.operations[1].value), (3, 2));
        assert_eq!((stats.hugetlb[0].limit_bytes, stats.hugetlb[0].limit_hits), (Some(u64::MAX), 1));
        assert_eq!(stats.rdma.unwrap().limit[0].objects, u32::MAX);
    }

    #[test]
    fn controller_that_is_not_handed_down_is_left_out() {
        let dir = group(&[("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n")]);
        let stats = stats(dir.path()).unwrap();
        assert!(
            stats.memory.is_none() && stats.pids.is_none() && stats.blkio.is_none() && stats.rdma.is_none()
        );
        assert_eq!(stats.cpu.unwrap().periods, 0);
    }
}
