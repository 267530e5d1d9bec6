//! What a runtime leaves behind: mounts, control groups, processes, sockets, directories.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{Containerd, HarnessError, Result, tag};

/// Mount points of one mount namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mountpoints(BTreeSet<String>);

impl Mountpoints {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/mountinfo");
        let table = fs::read_to_string(&path).map_err(HarnessError::at("read", path))?;
        // Id and mount point: a second mount on the same point is another one.
        let lines = table.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {}", words.first().unwrap_or(&""), words.get(4).unwrap_or(&""))
        });
        Ok(Self(lines.collect()))
    }
}

/// What is there of a daemon's containers. Empty when nothing was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Mounts made since the daemon's start, in its mount namespace or on the host.
    pub mounts: Vec<String>,
    /// Control groups named by a container or a pod of the daemon.
    pub cgroups: Vec<PathBuf>,
    /// Processes that the daemon's shims started: shims, zygotes, judges, containers.
    pub processes: Vec<String>,
    /// Listening sockets of shims.
    pub sockets: Vec<PathBuf>,
    /// Bundles and state of tasks.
    pub directories: Vec<PathBuf>,
}

impl Leftovers {
    /// Whether nothing is there.
    #[must_use]
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// How many things are there.
    #[must_use]
    pub fn count(&self) -> usize {
        let Self { mounts, cgroups, processes, sockets, directories } = self;
        mounts.len() + cgroups.len() + processes.len() + sockets.len() + directories.len()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mounts, cgroups, processes, sockets, directories } = self;
        write!(
            f,
            "mounts {}, cgroups {}, processes {}, sockets {}, directories {}",
            mounts.len(),
            cgroups.len(),
            processes.len(),
            sockets.len(),
            directories.len()
        )?;
        if !self.none() {
            write!(f, "\n{mounts:#?}\n{cgroups:#?}\n{processes:#?}\n{sockets:#?}\n{directories:#?}")?;
        }
        Ok(())
    }
}

impl Containerd {
    /// What is there of this daemon's containers right now.
    pub fn leftovers(&self) -> Result<Leftovers> {
        let now = Mountpoints::of(self.pid())?;
        let mut mounts: Vec<String> = now.0.difference(&self.mounts_at_start.0).cloned().collect();
        mounts.extend(tag::mounts_below(self.dir()).iter().map(|path| format!("host {}", path.display())));
        let inside = PathBuf::from(format!("/proc/{}/root/run/containerd", self.pid()));
        let mut directories = Vec::new();
        // Two levels: namespace, task.
        for place in [
            self.dir().join("state/io.containerd.runtime.v2.task"),
            self.dir().join("root/io.containerd.runtime.v2.task"),
            self.bulkhead_root().join("run/bulkhead/tasks"),
            inside.join("runc"),
        ] {
            directories.extend(children(&place).iter().flat_map(|namespace| children(namespace)));
        }
        // Files that are there while a judge is: its lock, and a verdict that is being written.
        directories.extend(children(&self.bulkhead_root().join("run/bulkhead/judge")));
        let verdicts = children(&self.bulkhead_root().join("var/lib/bulkhead/verdicts"));
        directories
            .extend(verdicts.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "tmp")));
        let parents = self.cgroup_parents();
        Ok(Leftovers {
            mounts,
            cgroups: tag::cgroups(self.tag()).into_iter().filter(|path| !parents(path)).collect(),
            processes: tag::processes(self.tag(), &[self.pid()])
                .into_iter()
                .map(|process| format!("{} {} {}", process.pid, process.name, process.marks))
                .collect(),
            sockets: children(&inside.join("s")),
            directories,
        })
    }

    /// What is there once everything that ends by itself had time to: shims exit after their last task.
    pub fn leftovers_after(&self, within: Duration) -> Result<Leftovers> {
        let deadline = Instant::now() + within;
        loop {
            let left = self.leftovers()?;
            if left.none() || Instant::now() > deadline {
                return Ok(left);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The parents of all containers' groups, `/<containerd namespace>` and the kubelet's: theirs who named them.
    fn cgroup_parents(&self) -> impl Fn(&Path) -> bool {
        let tag = self.tag().to_owned();
        move |path| path.file_name().is_some_and(|name| name.to_string_lossy() == tag)
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
