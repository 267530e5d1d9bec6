//! `linux.maskedPaths` and `linux.readonlyPaths`: the request's and ours, whatever the request leaves out.

use std::path::{Component, Path};

use bulkhead_model::{Refusal, Rule};

use crate::{
    change::{Changes, Section},
    limits::{MASKS_MAX, PATH_BYTES_MAX, at_most, no_nul},
    refuse::{refuse, short},
};

/// Paths that are hidden always.
///
/// Source: containerd oci/spec.go `populateDefaultUnixSpec`, and runtime-tools for the newer ones:
/// timing side channels (interrupts, powercap), host secrets (keys, kcore), host hardware (the rest).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that are read-only always.
///
/// Source: containerd oci/spec.go `populateDefaultUnixSpec`.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The paths as they are to be hidden.
pub(crate) fn masked(asked: Option<&Vec<String>>, changes: &mut Changes) -> Result<Vec<String>, Refusal> {
    union("linux.maskedPaths", asked, &MASKED, changes)
}

/// The paths as they are to be read-only.
pub(crate) fn read_only(asked: Option<&Vec<String>>, changes: &mut Changes) -> Result<Vec<String>, Refusal> {
    union("linux.readonlyPaths", asked, &READ_ONLY, changes)
}

fn union(
    field: &str,
    asked: Option<&Vec<String>>,
    ours: &[&str],
    changes: &mut Changes,
) -> Result<Vec<String>, Refusal> {
    let mut paths = asked.cloned().unwrap_or_default();
    at_most(field, paths.len(), MASKS_MAX, "paths")?;
    for path in &paths {
        no_nul(field, path)?;
        at_most(field, path.len(), PATH_BYTES_MAX, "bytes in one path")?;
        let plain =
            Path::new(path).components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !path.starts_with('/') || !plain || path.as_str() == "/" {
            return Err(refuse(
                Rule::Spec,
                field,
                format!("{:?}", short(path)),
                "a path here is absolute, without \"..\", and not the root",
                "correct the path",
            ));
        }
    }
    let before = paths.len();
    paths.extend(ours.iter().map(|path| (*path).to_owned()));
    paths.sort_unstable();
    paths.dedup();
    if let added @ 1.. = paths.len().saturating_sub(before) {
        let reason = "hidden or read-only always (procMount: Unmasked changes nothing)";
        changes.record(Section::Paths, format!("{field}: {added} added"), reason);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn unmasked_request_is_masked_all_the_same() {
        for asked in [None, Some(vec![])] {
            let mut changes = Changes::default();
            assert_eq!(masked(asked.as_ref(), &mut changes).unwrap(), MASKED);
            assert_eq!(read_only(asked.as_ref(), &mut changes).unwrap(), READ_ONLY);
            assert_eq!(changes.into_vec().len(), 2);
        }
    }

    #[test]
    fn what_the_request_hides_stays_hidden() {
        let paths = masked(Some(&vec!["/proc/cpuinfo".to_owned()]), &mut Changes::default()).unwrap();
        assert_eq!(paths.len(), MASKED.len() + 1);
        assert!(paths.contains(&"/proc/cpuinfo".to_owned()));
    }

    #[test]
    fn path_that_is_relative_climbs_or_is_the_root_is_refused() {
        for path in ["proc/kcore", "/proc/../etc", "/", "", "/a\0b"] {
            assert!(masked(Some(&vec![path.to_owned()]), &mut Changes::default()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn our_own_lists_are_sorted_so_that_a_plan_of_a_plan_changes_nothing() {
        let mut changes = Changes::default();
        masked(Some(&MASKED.map(str::to_owned).to_vec()), &mut changes).unwrap();
        read_only(Some(&READ_ONLY.map(str::to_owned).to_vec()), &mut changes).unwrap();
        assert!(changes.into_vec().is_empty());
    }
}
