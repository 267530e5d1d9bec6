//! A job on its way to the zygote: one byte and descriptors on the socket, the rest as JSON in a memfd, because
//! a seccomp program is longer than what a datagram may carry.

use std::{
    fs::File,
    io::{IoSlice, Read, Seek, SeekFrom, Write},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use bulkhead_cgroup::CgroupPath;
use bulkhead_model::{ConfineSpec, ContainerId, LayersJob, Mount};
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    socket::{ControlMessage, MsgFlags, sendmsg},
};
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use crate::{LaunchError, blind::View, job::Stdio, mounts::Mounts};

/// Longest job, in bytes: three full seccomp programs as decimal numbers are under 1 MiB, config.json under 1 MiB.
pub(crate) const JOB_BYTES_MAX: u64 = 8 << 20;

/// Most descriptors of one job: reply socket, memfd, and init's pidfd or where answers go.
pub(crate) const JOB_FDS_MAX: usize = 3;

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Job {
    /// Create a container.
    Create(Box<Create>),
    /// Run one more process in one.
    Exec(Box<Exec>),
    /// Change the control group of one.
    Group(Box<Group>),
    /// Look at the layers of one that is to be created.
    Layers(Box<Layers>),
    /// Run hooks of one.
    Hooks(Box<Hooks>),
}

/// Create a container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    pub(crate) id: String,
    pub(crate) task_dir: PathBuf,
    /// What is carried out, here or by libcontainer.
    pub(crate) spec: Spec,
    pub(crate) confine: ConfineSpec,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) working_dir: WorkingDir,
    pub(crate) mounts: Mounts,
    pub(crate) cgroup: CgroupPath,
    pub(crate) resources: LinuxResources,
    pub(crate) cgroup_view: Option<View>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) stdio: Stdio,
    /// Where the small init is in the container, if that runs its program.
    pub(crate) init: Option<PathBuf>,
}

/// Where the container's process starts, and who makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum WorkingDir {
    /// In the root file system: made there where it is not.
    InRoot(PathBuf),
    /// At or below a mount of its own, which is there only later.
    InMount(PathBuf),
}

/// Run one more process in a container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exec {
    pub(crate) container: String,
    pub(crate) exec: String,
    pub(crate) task_dir: PathBuf,
    pub(crate) init_pid: u32,
    /// As libcontainer gets it.
    pub(crate) spec: Spec,
    /// For the message when it cannot be entered.
    pub(crate) working_dir: PathBuf,
    pub(crate) confine: ConfineSpec,
    pub(crate) cgroup: CgroupPath,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) stdio: Stdio,
}

/// Change a control group of systemd's, which answers only those who have CAP_SYS_ADMIN: not the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) cgroup: CgroupPath,
    pub(crate) change: GroupChange,
}

/// Look at layers, which the server cannot open.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    pub(crate) job: LayersJob,
    /// Where a judge runs.
    pub(crate) group: Option<JudgeGroup>,
}

/// The control group of a judge.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JudgeGroup {
    pub(crate) cgroup: CgroupPath,
    pub(crate) resources: LinuxResources,
}

/// Run hooks of a container, which the server cannot: it executes nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    pub(crate) id: ContainerId,
    pub(crate) task_dir: PathBuf,
    pub(crate) moment: Moment,
}

/// Which.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Moment {
    /// Those after the start of this process.
    Started(u32),
    /// Those after its end.
    Stopped,
}

/// What is to be done to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum GroupChange {
    /// These limits.
    Update(Box<LinuxResources>),
    /// systemd forgets it.
    Release,
}

impl Job {
    /// What its process confines itself to, if it has one.
    pub(crate) fn confine(&self) -> Option<&ConfineSpec> {
        match self {
            Job::Create(job) => Some(&job.confine),
            Job::Exec(job) => Some(&job.confine),
            Job::Group(_) | Job::Layers(_) | Job::Hooks(_) => None,
        }
    }

    /// The directory of its container, if it has one.
    pub(crate) fn task_dir(&self) -> Option<&Path> {
        match self {
            Job::Create(job) => Some(&job.task_dir),
            Job::Exec(job) => Some(&job.task_dir),
            Job::Group(_) | Job::Layers(_) | Job::Hooks(_) => None,
        }
    }

    /// Writes the job to a memfd of its own.
    pub(crate) fn encode(&self) -> Result<OwnedFd, LaunchError> {
        let text = serde_json::to_vec(self).map_err(LaunchError::Encode)?;
        let memfd = memfd_create("bulkhead-job", MFdFlags::MFD_CLOEXEC)
            .map_err(LaunchError::io("memfd_create(2)", "bulkhead-job"))?;
        let mut file = File::from(memfd);
        file.write_all(&text).map_err(LaunchError::io("write(2)", "bulkhead-job"))?;
        Ok(file.into())
    }

    /// Reads it back.
    pub(crate) fn decode(memfd: OwnedFd) -> Result<Self, LaunchError> {
        let mut file = File::from(memfd);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(JOB_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(LaunchError::io("read(2)", "bulkhead-job"))?;
        if text.len() as u64 > JOB_BYTES_MAX {
            return Err(LaunchError::Plan("job is longer than 8 MiB"));
        }
        serde_json::from_slice(&text).map_err(LaunchError::Encode)
    }
}

/// What the descriptors are: those of a job.
pub(crate) const JOB: u8 = b'j';

/// The one socket of a new zygote.
pub(crate) const SPARE: u8 = b's';

/// Sends descriptors to a zygote.
pub(crate) fn send(socket: BorrowedFd<'_>, what: u8, fds: &[BorrowedFd<'_>]) -> Result<(), LaunchError> {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    match sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&[what])],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    ) {
        Ok(_) => Ok(()),
        Err(nix::Error::EPIPE | nix::Error::ECONNRESET | nix::Error::ENOTCONN) => {
            Err(LaunchError::ZygoteGone)
        }
        Err(error) => Err(LaunchError::io("sendmsg(2)", "zygote")(error)),
    }
}
