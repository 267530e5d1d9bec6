//! Files that both versions have, and those that either has in a form of its own.

use std::path::Path;

use super::{HugetlbStats, PidsStats, Pressure, PressureShare, RdmaEntry, RdmaStats};
use crate::{CgroupError, file};

/// The page sizes of `hugetlb.<size>.<what>`, by name.
fn page_sizes(dir: &Path, what: &str) -> Result<Vec<String>, CgroupError> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(file::failed("open(2)", dir))? {
        let name = entry.map_err(file::failed("getdents(2)", dir))?.file_name();
        let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(what));
        sizes.extend(size.filter(|size| !size.contains('.')).map(str::to_owned));
    }
    sizes.sort();
    Ok(sizes)
}

/// Huge pages; `usage` names the file that there is for each size.
pub(super) fn hugetlb(
    dir: &Path,
    usage: &str,
    of_size: impl Fn(&Path, &str) -> Result<HugetlbStats, CgroupError>,
) -> Result<Vec<HugetlbStats>, CgroupError> {
    page_sizes(dir, usage)?.iter().map(|size| of_size(dir, size)).collect()
}

pub(super) fn pids(dir: &Path) -> Result<PidsStats, CgroupError> {
    let limit = file::read_number_if_there(&dir.join("pids.max"))?;
    Ok(PidsStats {
        current: file::read_number(&dir.join("pids.current"))?,
        limit: limit.filter(|limit| *limit != u64::MAX),
    })
}

/// Rows of `mlx5_0 hca_handle=2 hca_object=2000`.
pub(super) fn rdma(dir: &Path) -> Result<Option<RdmaStats>, CgroupError> {
    let Some(current) = file::read_if_there(&dir.join("rdma.current"))? else { return Ok(None) };
    let limit = file::read_if_there(&dir.join("rdma.max"))?.unwrap_or_default();
    Ok(Some(RdmaStats { current: rdma_entries(&current), limit: rdma_entries(&limit) }))
}

fn rdma_entries(text: &str) -> Vec<RdmaEntry> {
    text.lines()
        .filter_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            let count = |name: &str| {
                let value =
                    rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
                if value == "max" { Some(u32::MAX) } else { value.parse().ok() }
            };
            Some(RdmaEntry {
                device: device.to_owned(),
                handles: count("hca_handle")?,
                objects: count("hca_object")?,
            })
        })
        .collect()
}

/// Rows of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. None where the kernel counts no pressure.
pub(super) fn pressure(path: &Path) -> Result<Option<Pressure>, CgroupError> {
    let Some(text) = file::read_if_there(path)? else { return Ok(None) };
    let row = |name: &str| {
        let row = text.lines().find_map(|line| line.strip_prefix(name))?;
        let value =
            |name: &str| row.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Some(PressureShare {
            avg10: value("avg10")?.parse().ok()?,
            avg60: value("avg60")?.parse().ok()?,
            avg300: value("avg300")?.parse().ok()?,
            total_us: value("total")?.parse().ok()?,
        })
    };
    Ok(Some(Pressure { some: row("some "), full: row("full ") }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rdma_rows_are_read_and_max_is_the_largest() {
        let found =
            rdma_entries("mlx5_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=max hca_object=0\nodd\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].handles, found[0].objects), (2, 2000));
        assert_eq!((found[1].device.as_str(), found[1].handles), ("ocrdma1", u32::MAX));
    }

    #[test]
    fn pressure_is_read_and_a_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpu.pressure");
        assert_eq!(pressure(&path).unwrap(), None);
        std::fs::write(&path, "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n").unwrap();
        let found = pressure(&path).unwrap().unwrap();
        let some = found.some.unwrap();
        assert_eq!((some.avg10, some.avg60, some.total_us), (1.5, 0.25, 77));
        assert_eq!(found.full, None);
    }

    #[test]
    fn huge_pages_are_found_by_their_files_in_order_and_reservations_are_none() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["hugetlb.2MB.current", "hugetlb.2MB.rsvd.current", "hugetlb.1GB.current", "other"] {
            std::fs::write(dir.path().join(name), "0\n").unwrap();
        }
        assert_eq!(page_sizes(dir.path(), ".current").unwrap(), ["1GB", "2MB"]);
    }
}
