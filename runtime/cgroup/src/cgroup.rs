//! One control group: made, joined, limited, frozen, emptied, removed.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use oci_spec::runtime::LinuxResources;

use crate::{
    CgroupError, CgroupPath, Host, Stats, Version,
    file::{self, failed},
    v1, v2,
};

/// How often something that takes the kernel a moment is tried, a [`PAUSE`] apart.
const TRIES_MAX: u32 = 200;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// A control group of one container, in every hierarchy of the host.
#[derive(Clone, Debug)]
pub struct Cgroup {
    host: Host,
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    pub(crate) fn new(host: Host, path: &CgroupPath) -> Self {
        let dirs = host.hierarchies.iter().map(|h| h.mount.join(path.relative())).collect();
        Self { host, dirs }
    }

    /// Which layout the host has.
    #[must_use]
    pub fn version(&self) -> Version {
        self.host.version
    }

    /// Its directory in each hierarchy, with the hierarchy's controllers (`cpu,cpuacct`; empty on v2).
    pub fn dirs(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.host.hierarchies.iter().zip(&self.dirs).map(|(h, dir)| (h.names.as_str(), dir.as_path()))
    }

    /// Its directory in the hierarchy of `controller`; on v2 the one there is.
    pub(crate) fn dir(&self, controller: &str) -> Option<&Path> {
        let index = match self.host.version {
            Version::V2 => Some(0),
            Version::V1 | Version::Hybrid => self.host.index(controller),
        };
        index.map(|index| self.dirs[index].as_path())
    }

    /// Makes the group and sets its limits. A group that is there already is taken over if nothing lives in it.
    pub fn create(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match self.host.version {
            Version::V1 | Version::Hybrid => {
                for (hierarchy, dir) in self.host.hierarchies.iter().zip(&self.dirs) {
                    let cpuset = hierarchy.names.split(',').any(|name| name == "cpuset");
                    make(dir, &hierarchy.mount, &|dir| {
                        if cpuset { v1::inherit_cpuset(dir) } else { Ok(()) }
                    })?;
                }
                v1::apply(self, resources, v1::When::Create)
            }
            Version::V2 => {
                let settings = v2::settings(resources)?;
                let dir = &self.dirs[0];
                v2::enable_controllers(&self.host.hierarchies[0].mount, dir, &settings)?;
                make(dir, &self.host.hierarchies[0].mount, &|_| Ok(()))?;
                v2::apply(self, resources, v1::When::Create)
            }
        }
    }

    /// Changes limits; those that `resources` leaves out stay.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match self.host.version {
            Version::V1 | Version::Hybrid => v1::apply(self, resources, v1::When::Update),
            Version::V2 => v2::apply(self, resources, v1::When::Update),
        }
    }

    /// Moves the calling process, which must have no other thread, into the group.
    ///
    /// On v1 by `tasks`: a move of one thread does not take the lock for which `cgroup.procs` waits until every
    /// CPU has passed a grace period of RCU.
    pub fn join_self(&self) -> Result<(), CgroupError> {
        let name = match self.host.version {
            Version::V1 | Version::Hybrid => "tasks",
            Version::V2 => "cgroup.procs",
        };
        self.dirs.iter().try_for_each(|dir| file::write(&dir.join(name), "0"))
    }

    /// Moves a process, with all its threads, into the group.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        self.dirs.iter().try_for_each(|dir| file::write(&dir.join("cgroup.procs"), &pid))
    }

    /// What was used.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match self.host.version {
            Version::V1 | Version::Hybrid => v1::stats(self),
            Version::V2 => v2::stats(self),
        }
    }

    /// How many processes the kernel has killed here for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let (Some(dir), name) = (self.dir("memory"), self.pick("memory.oom_control", "memory.events")) else {
            return Ok(0);
        };
        let path = dir.join(name);
        let Some(text) = file::read_if_there(&path)? else { return Ok(0) };
        Ok(file::row(&file::rows(&path, &text)?, "oom_kill").unwrap_or(0))
    }

    /// Stops every process, and returns when all have stopped.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let dir = self.need("freezer", "pause")?;
        match self.host.version {
            Version::V1 | Version::Hybrid => {
                let state = dir.join("freezer.state");
                for _ in 0..TRIES_MAX {
                    // Written again each time: a process that forks meanwhile can keep it FREEZING.
                    file::write(&state, "FROZEN")?;
                    if file::read(&state)?.trim() == "FROZEN" {
                        return Ok(());
                    }
                    thread::sleep(PAUSE);
                }
            }
            Version::V2 => {
                file::write(&dir.join("cgroup.freeze"), "1")?;
                let events = dir.join("cgroup.events");
                for _ in 0..TRIES_MAX {
                    if file::row(&file::rows(&events, &file::read(&events)?)?, "frozen") == Some(1) {
                        return Ok(());
                    }
                    thread::sleep(PAUSE);
                }
            }
        }
        let error = CgroupError::Busy { path: dir.to_owned(), what: "not frozen", tries: TRIES_MAX };
        self.thaw()?;
        Err(error)
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let dir = self.need("freezer", "resume")?;
        match self.host.version {
            Version::V1 | Version::Hybrid => file::write(&dir.join("freezer.state"), "THAWED"),
            Version::V2 => file::write(&dir.join("cgroup.freeze"), "0"),
        }
    }

    /// Every process in the group and the groups below it. None when it is gone.
    pub fn procs(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        match self.dirs.first().map(|_| collect(self.representative(), &mut pids)) {
            Some(Err(error)) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to every process in the group and below, until none is left that could still fork.
    /// Their parents have yet to reap them.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if self.host.version == Version::V2 {
            match file::write(&self.dirs[0].join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                // cgroup.kill came with Linux 5.14.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let mut killed: Vec<u32> = Vec::new();
        for _ in 0..TRIES_MAX {
            let pids = self.procs()?;
            let new: Vec<u32> = pids.into_iter().filter(|pid| !killed.contains(pid)).collect();
            if new.is_empty() {
                // A frozen process dies only when it is thawed.
                return match self.thaw() {
                    Err(error) if error.is_not_found() => Ok(()),
                    other => other,
                };
            }
            for pid in new {
                match kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => killed.push(pid),
                    Err(errno) => return Err(failed("kill(2)", self.representative())(errno.into())),
                }
            }
        }
        Err(CgroupError::Busy {
            path: self.representative().to_owned(),
            what: "still forks",
            tries: TRIES_MAX,
        })
    }

    /// Removes the group and those below it. Waits, within bounds, for processes that are still being taken
    /// down; a group that is not there is removed already.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut left: Vec<&Path> = self.dirs.iter().map(PathBuf::as_path).collect();
        for _ in 0..TRIES_MAX {
            let mut still = Vec::new();
            for dir in left {
                if remove_tree(dir)? == Removal::Busy {
                    still.push(dir);
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            left = still;
            thread::sleep(PAUSE);
        }
        let path = left.first().map_or_else(PathBuf::new, |dir| (*dir).to_owned());
        Err(CgroupError::Busy { path, what: "not removed", tries: TRIES_MAX })
    }

    /// The hierarchy that processes are listed by: all have the same.
    fn representative(&self) -> &Path {
        self.dir("pids").or_else(|| self.dir("freezer")).unwrap_or(&self.dirs[0])
    }

    pub(crate) fn need(&self, controller: &'static str, field: &'static str) -> Result<&Path, CgroupError> {
        self.dir(controller).ok_or(CgroupError::NoController { field, controller })
    }

    fn pick<'a>(&self, v1: &'a str, v2: &'a str) -> &'a str {
        if self.host.version == Version::V2 { v2 } else { v1 }
    }
}

/// Makes `dir` and what is missing above it, below `mount`; `prepare` sees each directory that was made.
fn make(
    dir: &Path,
    mount: &Path,
    prepare: &dyn Fn(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    for _ in 0..TRIES_MAX {
        match mkdir(dir) {
            Ok(()) => return prepare(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return match file::read(&dir.join("cgroup.procs"))?.trim().is_empty() {
                    true => prepare(dir),
                    false => {
                        let what = "has processes already";
                        Err(CgroupError::Busy { path: dir.to_owned(), what, tries: 1 })
                    }
                };
            }
            // Whoever cleans up may remove the parent again before the group is in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_above(dir, mount, prepare)?,
            Err(error) => return Err(failed("mkdir(2)", dir)(error)),
        }
    }
    Err(CgroupError::Busy { path: dir.to_owned(), what: "not made", tries: TRIES_MAX })
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

fn collect(dir: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.procs");
    for line in file::read(&path)?.lines() {
        pids.push(file::number(&path, line)? as u32);
    }
    for below in subdirs(dir)? {
        match collect(&below, pids) {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// What became of an attempt to remove a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Done,
    Busy,
}

/// rmdir(2) first: as a rule there is nothing below.
fn remove_tree(dir: &Path) -> Result<Removal, CgroupError> {
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
                        remove_tree(&below)?;
                    }
                }
                Err(error) if error.is_not_found() => return Ok(Removal::Done),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(Removal::Busy)
}
