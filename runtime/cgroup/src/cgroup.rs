//! One control group: made, joined, limited, frozen, emptied, removed.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
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
    path::Unit,
    stats, systemd,
    tree::{self, Inhabitants, Removal},
    v1, v2,
};

/// How long the kernel may take to freeze or to let go of a group, in milliseconds: a machine that swaps is slow.
pub const SETTLE_MS_MAX: u64 = 10_000;

/// Between two looks at something that takes the kernel a moment, in milliseconds: first, and at most.
const LOOK_MS: (u64, u64) = (1, 20);

/// How often processes are killed that others fork meanwhile.
const KILL_ROUNDS_MAX: u32 = 200;

/// From this round on the group is frozen first, so that nobody forks while others are killed.
const KILL_FROZEN_FROM: u32 = 2;

/// A control group of one container, in every hierarchy of the host.
#[derive(Clone, Debug)]
pub struct Cgroup {
    host: Host,
    dirs: Vec<PathBuf>,
    unit: Option<Unit>,
}

impl Cgroup {
    pub(crate) fn new(host: Host, path: &CgroupPath) -> Self {
        let dirs = host.hierarchies.iter().map(|h| h.mount.join(path.relative())).collect();
        Self { host, dirs, unit: path.unit().cloned() }
    }

    /// Which layout the host has.
    #[must_use]
    pub fn version(&self) -> Version {
        self.host.version
    }

    /// Whether systemd makes and keeps it: [`create`](Self::create), [`update`](Self::update) and
    /// [`release`](Self::release) then ask systemd, which answers only those who have CAP_SYS_ADMIN.
    #[must_use]
    pub fn is_systemds(&self) -> bool {
        self.unit.is_some()
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
    ///
    /// systemd moves the caller into the group that it makes: a scope without a process is none.
    pub fn create(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let inhabitants = match &self.unit {
            None => Inhabitants::None,
            Some(unit) => {
                systemd::start(unit, self.host.version, resources)?;
                Inhabitants::Caller
            }
        };
        match self.host.version {
            Version::V1 | Version::Hybrid => {
                for (hierarchy, dir) in self.host.hierarchies.iter().zip(&self.dirs) {
                    let cpuset = hierarchy.names.split(',').any(|name| name == "cpuset");
                    tree::make(dir, &hierarchy.mount, inhabitants, &|dir| {
                        if cpuset { v1::inherit_cpuset(dir) } else { Ok(()) }
                    })?;
                }
                v1::apply(self, resources)
            }
            Version::V2 => {
                let settings = v2::settings(resources, v2::InForce::default())?;
                let (dir, mount) = (&self.dirs[0], &self.host.hierarchies[0].mount);
                v2::enable_controllers(mount, dir, &settings)?;
                tree::make(dir, mount, inhabitants, &|_| Ok(()))?;
                v2::apply(dir, resources, &settings)
            }
        }
    }

    /// Changes limits; those that `resources` leaves out stay.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let in_force = match self.host.version {
            Version::V1 | Version::Hybrid => v1::in_force(self)?,
            Version::V2 => v2::InForce::read(&self.dirs[0])?,
        };
        if let Some(unit) = &self.unit {
            systemd::update(unit, self.host.version, resources, in_force)?;
        }
        match self.host.version {
            Version::V1 | Version::Hybrid => v1::apply(self, resources),
            Version::V2 => v2::apply(&self.dirs[0], resources, &v2::settings(resources, in_force)?),
        }
    }

    /// Moves the calling process, which must have no other thread, into the group.
    ///
    /// On v1 by `tasks`: a move of one thread does not take the lock for which `cgroup.procs` waits until every
    /// CPU has passed a grace period of RCU.
    pub fn join_self(&self) -> Result<(), CgroupError> {
        self.join_files().try_for_each(|file| file::write(&file, "0"))
    }

    /// The files into which a process writes `0` to move itself as [`join_self`](Self::join_self) does.
    pub fn join_files(&self) -> impl Iterator<Item = PathBuf> {
        let name = match self.host.version {
            Version::V1 | Version::Hybrid => "tasks",
            Version::V2 => "cgroup.procs",
        };
        self.dirs.iter().map(move |dir| dir.join(name))
    }

    /// Moves a process, with all its threads, into the group.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        self.dirs.iter().try_for_each(|dir| file::write(&dir.join("cgroup.procs"), &pid))
    }

    /// What was used.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match self.host.version {
            Version::V1 | Version::Hybrid => stats::v1::stats(self),
            Version::V2 => stats::v2::stats(&self.dirs[0]),
        }
    }

    /// How many processes the kernel has killed here for want of memory; none where nobody counts, or where the group is
    /// gone.
    pub fn oom_kills(&self) -> Result<Option<u64>, CgroupError> {
        self.dir("memory").map_or(Ok(None), |dir| self.oom_kills_of(dir))
    }

    /// The same of the group above, which counts those of all groups below it: on v2 alone.
    pub fn oom_kills_above(&self) -> Result<Option<u64>, CgroupError> {
        match (self.host.version, self.dirs[0].parent()) {
            (Version::V2, Some(above)) => self.oom_kills_of(above),
            _ => Ok(None),
        }
    }

    fn oom_kills_of(&self, dir: &Path) -> Result<Option<u64>, CgroupError> {
        let path = dir.join(self.pick("memory.oom_control", "memory.events"));
        match file::read_if_there(&path) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => Ok(file::row(&file::rows(&path, &text)?, "oom_kill")),
            // Removed between open(2) and read(2).
            Err(error) if file::is(&error, nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stops every process, and returns when all have stopped.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let frozen = settle(|| self.try_freeze())?;
        match frozen {
            true => Ok(()),
            false => {
                self.thaw()?;
                Err(self.busy("does not freeze"))
            }
        }
    }

    /// Asks every process to stop, and says whether all have. To be asked again until they have, or thawed.
    pub fn try_freeze(&self) -> Result<bool, CgroupError> {
        let dir = self.need("freezer", "pause")?;
        match self.host.version {
            Version::V1 | Version::Hybrid => {
                let state = dir.join("freezer.state");
                // Written again each time: a process that forks meanwhile can keep it FREEZING.
                file::write(&state, "FROZEN")?;
                Ok(file::read(&state)?.trim() == "FROZEN")
            }
            Version::V2 => {
                file::write(&dir.join("cgroup.freeze"), "1")?;
                let events = dir.join("cgroup.events");
                Ok(file::row(&file::rows(&events, &file::read(&events)?)?, "frozen") == Some(1))
            }
        }
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
        match self.dirs.first().map(|_| tree::processes(self.representative(), &mut pids)) {
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
        for round in 0..KILL_ROUNDS_MAX {
            if round >= KILL_FROZEN_FROM {
                // A fork bomb: what is frozen, or about to be, has not forked when it is killed.
                unless_gone(self.try_freeze().map(drop))?;
            }
            let pids = self.procs()?;
            let new: Vec<u32> = pids.into_iter().filter(|pid| !killed.contains(pid)).collect();
            if new.is_empty() {
                // A frozen process of v1 dies only when it is thawed.
                return unless_gone(self.thaw());
            }
            for pid in new {
                match kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => killed.push(pid),
                    Err(errno) => return Err(failed("kill(2)", self.representative())(errno.into())),
                }
            }
        }
        unless_gone(self.thaw())?;
        Err(self.busy("still forks"))
    }

    /// Removes the group and those below it. Waits, within bounds, for processes that are still being taken
    /// down; a group that is not there is removed already.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if settle(|| self.try_remove())? { Ok(()) } else { Err(self.busy("is not removed")) }
    }

    /// Removes what is empty of the group and those below it, and says whether all is gone. To be asked again
    /// while processes are still being taken down.
    pub fn try_remove(&self) -> Result<bool, CgroupError> {
        let mut gone = true;
        for dir in &self.dirs {
            gone &= tree::remove(dir)? == Removal::Done;
        }
        Ok(gone)
    }

    /// Has systemd forget a group of its own, whose processes have been killed: before [`remove`](Self::remove).
    pub fn release(&self) -> Result<(), CgroupError> {
        self.unit.as_ref().map_or(Ok(()), systemd::stop)
    }

    /// The error for a group that did not settle in time.
    #[must_use]
    pub fn busy(&self, what: &'static str) -> CgroupError {
        CgroupError::Busy { path: self.representative().to_owned(), what, waited_ms: SETTLE_MS_MAX }
    }

    /// The hierarchy that processes are listed by: all have the same.
    fn representative(&self) -> &Path {
        self.dir("pids").or_else(|| self.dir("freezer")).unwrap_or(&self.dirs[0])
    }

    pub(crate) fn need(&self, controller: &'static str, field: &str) -> Result<&Path, CgroupError> {
        self.dir(controller).ok_or_else(|| CgroupError::NoController { field: field.to_owned(), controller })
    }

    fn pick<'a>(&self, v1: &'a str, v2: &'a str) -> &'a str {
        if self.host.version == Version::V2 { v2 } else { v1 }
    }
}

/// A look at something that takes the kernel a moment, with the waits between two: `for wait in waits()`.
pub fn waits() -> impl Iterator<Item = Duration> {
    let deadline = Instant::now() + Duration::from_millis(SETTLE_MS_MAX);
    let (first, most) = LOOK_MS;
    std::iter::successors(Some(first), move |ms| Some((ms * 2).min(most)))
        .map(Duration::from_millis)
        .take_while(move |_| Instant::now() < deadline)
}

/// Looks until `done`, or for as long as is bearable; whether it was done.
fn settle(mut done: impl FnMut() -> Result<bool, CgroupError>) -> Result<bool, CgroupError> {
    for wait in waits() {
        if done()? {
            return Ok(true);
        }
        thread::sleep(wait);
    }
    done()
}

fn unless_gone(done: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
