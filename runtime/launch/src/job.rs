//! What the server asks a worker to do.

use std::{os::fd::BorrowedFd, path::Path};

use bulkhead_cgroup::CgroupPath;
use bulkhead_model::{ContainerId, Mount};
use bulkhead_plan::{ExecPlan, Plan};

/// Create a container: everything up to the point where its first process waits for Start.
#[derive(Clone, Copy, Debug)]
pub struct CreateJob<'a> {
    /// Its id.
    pub id: &'a ContainerId,
    /// A directory of its own for the derived spec and libcontainer's state; made here (0700), removed by the
    /// server after the container is gone.
    pub task_dir: &'a Path,
    /// How it runs.
    pub plan: &'a Plan,
    /// What to mount as its root, lowest first.
    pub rootfs: &'a [Mount],
    /// Its control group, made by the worker and removed by the server.
    pub cgroup: &'a CgroupPath,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
}

/// Run one more process in a container.
#[derive(Clone, Copy, Debug)]
pub struct ExecJob<'a> {
    /// Id of the container.
    pub container: &'a ContainerId,
    /// Id of the exec: names its files in `task_dir`.
    pub exec: &'a ContainerId,
    /// The container's directory, as given at create.
    pub task_dir: &'a Path,
    /// The container's first process.
    pub init_pid: u32,
    /// Its pidfd: proves that `init_pid` still is that process.
    pub init_pidfd: BorrowedFd<'a>,
    /// How the process runs.
    pub plan: &'a ExecPlan,
    /// The container's control group.
    pub cgroup: &'a CgroupPath,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
}

/// Standard streams of a process.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// These; `/dev/null` where there is none.
    Streams {
        /// Standard input.
        stdin: Option<BorrowedFd<'a>>,
        /// Standard output.
        stdout: Option<BorrowedFd<'a>>,
        /// Standard error.
        stderr: Option<BorrowedFd<'a>>,
    },
    /// A new terminal of the container's devpts; its master comes back with the answer. `process.terminal` of
    /// the spec must say the same.
    Terminal,
}
