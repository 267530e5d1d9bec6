//! One limit on its way to its file, and what is said where the kernel will not have it.

use std::{io, path::Path};

use nix::libc::{EBUSY, EINVAL, ENODEV};

use crate::{CgroupError, file};

/// One value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Whose hierarchy it is in; v1 and hybrid.
    pub(crate) controller: &'static str,
    pub(crate) file: String,
    pub(crate) value: String,
    /// The limit, as the OCI spec names it below `linux.resources`.
    pub(crate) field: String,
    pub(crate) absent: Absent,
}

/// What it means that the file is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The limit cannot be kept.
    Refuse,
    /// Nothing: the value is what holds without the file.
    Ignore,
    /// Another file takes another value.
    Instead {
        /// Its name.
        file: String,
        /// What it takes.
        value: String,
    },
}

/// A list of settings in the making.
#[derive(Default)]
pub(crate) struct Settings(pub(crate) Vec<Setting>);

impl Settings {
    pub(crate) fn set(&mut self, controller: &'static str, file: &str, value: String, field: &str) {
        self.set_or(controller, file, value, field, Absent::Refuse);
    }

    pub(crate) fn set_or(
        &mut self,
        controller: &'static str,
        file: &str,
        value: String,
        field: &str,
        absent: Absent,
    ) {
        let (file, field) = (file.to_owned(), field.to_owned());
        self.0.push(Setting { controller, file, value, field, absent });
    }
}

/// A limit that cannot be kept here, whatever its value.
pub(crate) fn unsupported(field: impl Into<String>, why: &'static str) -> CgroupError {
    CgroupError::Unsupported { field: field.into(), why }
}

/// Writes all of them, each into the directory that `dir` says. What is refused because of a value that is still to
/// be written (a limit above that of memory and swap, a quota that does not fit the old period) is tried again after
/// the others: one of the two orders fits.
pub(crate) fn write_all<'a>(
    settings: &[Setting],
    dir: impl Fn(&Setting) -> Result<&'a Path, CgroupError>,
) -> Result<(), CgroupError> {
    let mut again = Vec::new();
    for setting in settings {
        match write(setting, dir(setting)?) {
            Err(CgroupError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(EINVAL | EBUSY)) =>
            {
                again.push(setting);
            }
            done => done?,
        }
    }
    again.into_iter().try_for_each(|setting| write(setting, dir(setting)?))
}

fn write(setting: &Setting, dir: &Path) -> Result<(), CgroupError> {
    let path = dir.join(&setting.file);
    match file::write(&path, &setting.value) {
        Err(error) if error.is_not_found() && dir.exists() => match &setting.absent {
            Absent::Refuse => Err(unsupported(setting.field.clone(), no_file(&setting.field))),
            Absent::Ignore => Ok(()),
            Absent::Instead { file, value } => {
                let (file, value) = (file.clone(), value.clone());
                write(&Setting { file, value, absent: Absent::Refuse, ..setting.clone() }, dir)
            }
        },
        Err(CgroupError::Io { call: "write(2)", path, source }) => Err(CgroupError::Refused {
            fix: fix(&setting.field, &source),
            field: setting.field.clone(),
            value: setting.value.clone(),
            path,
            source,
        }),
        // A file of ours that cannot be opened for writing is not the value's fault.
        done => done,
    }
}

/// Why a kernel has no file for a limit.
fn no_file(field: &str) -> &'static str {
    match field {
        "memory.swap" => "this kernel counts no swap: leave it out, or boot with swapaccount=1",
        "cpu.burst" => "bursts came with Linux 5.14",
        "cpu.idle" => "idle groups came with Linux 5.15",
        "cpu.quota" | "cpu.period" => "this kernel has no CONFIG_CFS_BANDWIDTH",
        "hugepageLimits" => "this host has no pages of that size: see /sys/kernel/mm/hugepages",
        _ if field.starts_with("blockIO.weight") => "this kernel has no BFQ, which alone weighs block I/O",
        _ if field.starts_with("blockIO.throttle") => "this kernel has no CONFIG_BLK_DEV_THROTTLING",
        _ => "this kernel has no file for it",
    }
}

/// What to do about a value that the kernel refuses.
fn fix(field: &str, error: &io::Error) -> &'static str {
    match (field, error.raw_os_error()) {
        ("memory.limit", Some(EBUSY)) => "more than that is in use: ask for more, or end processes first",
        ("memory.limit" | "memory.swap" | "memory.reservation" | "memory.kernelTCP", _) => {
            "give bytes, or -1 for no limit; memory.swap counts memory and swap together, so it is at least \
             memory.limit"
        }
        ("memory.swappiness", _) => "give 0 to 100",
        ("cpu.quota" | "cpu.period" | "cpu.burst", _) => {
            "give a period of 1000 to 1000000 microseconds, a quota of at least 1000 (-1 for none) within that of the \
             group above, and a burst of at most the quota"
        }
        ("cpu.cpus" | "cpu.mems", _) => {
            "name CPUs and memory nodes that this host has and that the group above allows"
        }
        ("cpu.idle", _) => "give 0 or 1",
        ("pids.limit", _) => "give 1 to 4194304, or -1 for no limit",
        ("hugepageLimits", _) => "give bytes",
        ("rdma", _) => "name a device of /sys/class/infiniband and numbers from 0 on",
        (field, Some(ENODEV)) if field.starts_with("blockIO") => {
            "name a block device of this host by its major and minor number (a disk, not a partition)"
        }
        (field, _) if field.starts_with("blockIO.weight") => "give 10 to 1000",
        _ => "see Documentation/admin-guide/cgroup-v2.rst of the kernel for what the file takes",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(file: &str, absent: Absent) -> Vec<Setting> {
        let mut settings = Settings::default();
        settings.set_or("", file, "7".to_owned(), "memory.swap", absent);
        settings.0
    }

    #[test]
    fn file_that_is_not_there_is_refused_ignored_or_replaced_as_the_setting_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("other"), "").unwrap();
        let write = |absent| write_all(&one("none", absent), |_| Ok(dir.path()));
        let error = write(Absent::Refuse).unwrap_err().to_string();
        assert!(error.contains("memory.swap") && error.contains("swapaccount=1"), "{error}");
        write(Absent::Ignore).unwrap();
        write(Absent::Instead { file: "other".to_owned(), value: "8".to_owned() }).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("other")).unwrap(), "8");
    }

    #[test]
    fn refused_value_is_named_with_its_field_its_file_and_what_to_do() {
        // Every write to it fails with ENOSPC.
        let dir = Path::new("/dev");
        let mut settings = one("full", Absent::Refuse);
        settings[0].field = "pids.limit".to_owned();
        let error = write_all(&settings, |_| Ok(dir)).unwrap_err().to_string();
        for part in ["pids.limit", "\"7\"", "/dev/full", "fix: give 1 to 4194304"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn group_that_is_gone_is_said_to_be_gone() {
        let error = write_all(&one("x", Absent::Ignore), |_| Ok(Path::new("/nowhere"))).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
}
