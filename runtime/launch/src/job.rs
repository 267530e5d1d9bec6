//! What the server asks a worker to do.

use std::{
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use bulkhead_cgroup::CgroupPath;
use bulkhead_model::{ContainerId, Mount};
use bulkhead_plan::{ExecPlan, Plan};
use serde::{Deserialize, Serialize};

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
    pub stdio: &'a Stdio,
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
    pub stdio: &'a Stdio,
}

/// Where the standard streams of a process lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// Whether the process gets a new terminal of the container's devpts; its master comes back with the answer, and
    /// the streams lead to and from it. `process.terminal` of the spec must say the same.
    pub terminal: bool,
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// What a stream of the kind [`Stream::Log`] leads to.
    pub log: Option<Log>,
}

/// Where one stream leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// To `/dev/null`.
    Null,
    /// To a FIFO that containerd's client has made.
    Fifo(PathBuf),
    /// To the server, who gets the other end of a pipe and the FIFO to copy into; of standard output and error only.
    Copied(PathBuf),
    /// To the server, who gets the other end of a pipe.
    Pipe,
    /// To the log; of standard output and error only.
    Log,
}

/// Who writes a process's output down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// Appended to this file, which is made where it is not there.
    File(PathBuf),
    /// This program.
    Program(LogProgram),
}

/// A program that takes a process's output on its descriptors 3 and 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogProgram {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Id of the container or exec: `CONTAINER_ID` in its environment.
    pub id: String,
    /// containerd's namespace: `CONTAINER_NAMESPACE`.
    pub namespace: String,
    /// When it is ready.
    pub ready: Ready,
}

/// What a logger does with its descriptor 5 when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// Writes to it: `binary-v2`.
    Said,
    /// Writes to it, or closes it and lives on: `binary`.
    SaidOrClosed,
}

impl Stdio {
    /// All three lead to `/dev/null`.
    pub const NULL: Self =
        Self { terminal: false, stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null, log: None };
}
