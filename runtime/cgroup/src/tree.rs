//! Directories of groups: made, listed and removed with all that is below them.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{
    CgroupError,
    file::{self, failed},
};

/// How often a directory is made whose parent goes away meanwhile.
const TRIES_MAX: u32 = 200;

/// Who may be in a group that is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inhabitants {
    /// Nobody: a container gets a group of its own.
    None,
    /// The process that asks: systemd has put it there.
    Caller,
}

/// Makes `dir` and what is missing above it, below `mount`; `prepare` sees each directory that was made.
pub(crate) fn make(
    dir: &Path,
    mount: &Path,
    inhabitants: Inhabitants,
    prepare: &dyn Fn(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    for _ in 0..TRIES_MAX {
        match mkdir(dir) {
            Ok(()) => return prepare(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let free = inhabitants == Inhabitants::Caller
                    || file::read(&dir.join("cgroup.procs"))?.trim().is_empty();
                return match free {
                    true => prepare(dir),
                    false => {
                        let what = "has processes already";
                        Err(CgroupError::Busy { path: dir.to_owned(), what, waited_ms: 0 })
                    }
                };
            }
            // Whoever cleans up may remove the parent again before the group is in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_above(dir, mount, prepare)?,
            Err(error) => return Err(failed("mkdir(2)", dir)(error)),
        }
    }
    Err(CgroupError::Busy { path: dir.to_owned(), what: "is removed while it is made", waited_ms: 0 })
}

fn make_above(
    dir: &Path,
    mount: &Path,
    prepare: &dyn Fn(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let mut above: Vec<&Path> =
        dir.ancestors().skip(1).take_while(|dir| dir.starts_with(mount) && *dir != mount).collect();
    above.reverse();
    for dir in above {
        match mkdir(dir) {
            Ok(()) => prepare(dir)?,
            // Another launch was faster, or has removed what is above: `make` tries again.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            Err(error) => return Err(failed("mkdir(2)", dir)(error)),
        }
    }
    Ok(())
}

fn mkdir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dir)
}

fn subdirs(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("open(2)", dir))? {
        let entry = entry.map_err(failed("getdents(2)", dir))?;
        if entry.file_type().map_err(failed("stat(2)", dir))?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Every process in `dir` and below it.
pub(crate) fn processes(dir: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.procs");
    for line in file::read(&path)?.lines() {
        pids.push(file::number(&path, line)? as u32);
    }
    for below in subdirs(dir)? {
        match processes(&below, pids) {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// What became of an attempt to remove a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is gone, or was never there.
    Done,
    /// Something lives in it, or is still being taken down.
    Busy,
}

/// Removes `dir` and what is below it. rmdir(2) first: as a rule there is nothing below.
pub(crate) fn remove(dir: &Path) -> Result<Removal, CgroupError> {
    for below_removed in [false, true] {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(Removal::Done),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Done),
            Err(error) if error.raw_os_error() != Some(nix::libc::EBUSY) => {
                return Err(failed("rmdir(2)", dir)(error));
            }
            Err(_) if below_removed => {}
            Err(_) => match subdirs(dir) {
                Ok(below) if below.is_empty() => return Ok(Removal::Busy),
                Ok(below) => {
                    for below in below {
                        remove(&below)?;
                    }
                }
                Err(error) if error.is_not_found() => return Ok(Removal::Done),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(Removal::Busy)
}
