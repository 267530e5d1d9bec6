//! Create: the stages, then a process that waits at its gate.
//!
//! Invariant: whatever fails, nothing is left: the reservation, the control group, the directory and the process
//! are taken back before the error is answered.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bulkhead_cgroup::Cgroup;
use bulkhead_launch::{CreateJob, CreateTicket, Created, HookMoment, LaunchError, Stdio};
use bulkhead_model::{ContainerId, Mount};
use containerd_shim_protos::{
    api::CreateTaskRequest,
    events::task::{TaskCreate, TaskIO},
    protobuf::MessageField,
};
use tokio::{io::Interest, sync::oneshot, time::timeout};

use super::{
    Container, Process, TaskError, Tasks,
    container::has_worker,
    leftovers, lifecycle,
    process::{StdioPaths, Waiting},
    stdio::{Addresses, Role, Streams},
};
use crate::{
    server::{Launching, Owner},
    stages::{Admitted, Asked},
    sys,
};

/// How long a worker may take.
const CREATE_MS: u64 = 60_000;

/// Creates the container and returns the pid of its init.
///
/// In a task of its own: a caller that goes away must not leave a worker that makes things behind the back of whoever
/// takes them back. What is done when nobody is there to be told is taken back as a whole.
pub(crate) async fn create(tasks: &Arc<Tasks>, request: CreateTaskRequest) -> Result<u32, TaskError> {
    let (answer, answered) = oneshot::channel();
    let (tasks, id) = (Arc::clone(tasks), request.id.clone());
    tokio::spawn(async move {
        let created = create_to_the_end(&tasks, request).await;
        if let Err(Ok(_)) = answer.send(created) {
            abandon(&tasks, &id).await;
        }
    });
    answered.await.map_err(|error| TaskError::Internal(format!("create: {error}")))?
}

/// Takes a container back that nobody knows of.
async fn abandon(tasks: &Tasks, id: &str) {
    let gone = match tasks.get(id) {
        Ok(container) => lifecycle::delete(tasks, &container, "").await.map(drop),
        // It was found and deleted meanwhile.
        Err(_) => Ok(()),
    };
    if let Err(error) = gone {
        tracing::error!(%error, id, "a container that nobody asks for any more is left");
    }
}

async fn create_to_the_end(tasks: &Arc<Tasks>, request: CreateTaskRequest) -> Result<u32, TaskError> {
    let id: ContainerId =
        request.id.parse().map_err(|error| TaskError::InvalidArgument(format!("id: {error}")))?;
    if !request.checkpoint.is_empty() {
        return Err(TaskError::Unimplemented("restore from a checkpoint".to_owned()));
    }
    let reservation = tasks.reserve(&id)?;
    let paths = StdioPaths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let addresses = Addresses::of(&paths, tasks.whose_streams(Role::Init, id.as_str()))?;
    let admitted = tasks.stages().admit(asked(&id, &request), tasks.pod()).await?;

    let mut launching = tasks.reaper().launching();
    let unfinished = Unfinished::new(tasks, &admitted)?;
    let created = match launch(tasks, &admitted, &unfinished, &addresses.stdio, &mut launching).await {
        Ok(created) => created,
        Err(error) => {
            unfinished.stopped(tasks).await;
            return Err(error);
        }
    };
    let streams = Streams::new(created.kept, &addresses, tasks.streams())
        .inspect_err(|_| kill(created.pidfd.as_fd()))?;
    let (cgroup, task_dir) = unfinished.finish();

    let pid = created.pid;
    let init = Arc::new(Process::new(String::new(), paths, Waiting::Init(created.gate)));
    init.set_process(pid, created.pidfd, streams);
    let container =
        Arc::new(Container::new(id, request.bundle.clone(), admitted, cgroup, task_dir, Arc::clone(&init)));
    container.pins.keep(created.pins);
    reservation.fill(Arc::clone(&container), event(request, pid));
    let owner = Owner { container: Arc::clone(&container), process: init };
    if let Some(exit) = launching.claim(pid, owner.clone()) {
        tasks.exited(&owner, exit);
    }
    Ok(pid)
}

fn asked(id: &ContainerId, request: &CreateTaskRequest) -> Asked {
    let mount = |mount: &containerd_shim_protos::api::Mount| Mount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        target: PathBuf::from(&mount.target),
        options: mount.options.clone(),
    };
    Asked {
        id: id.clone(),
        bundle: PathBuf::from(&request.bundle),
        rootfs: request.rootfs.iter().map(mount).collect(),
        options: request.options.clone().into_option(),
    }
}

async fn launch(
    tasks: &Tasks,
    admitted: &Admitted,
    unfinished: &Unfinished<'_>,
    stdio: &Stdio,
    launching: &mut Launching<'_>,
) -> Result<Created, TaskError> {
    let job = CreateJob {
        id: admitted.id(),
        task_dir: unfinished.task_dir(),
        plan: admitted.plan(),
        rootfs: admitted.rootfs(),
        cgroup: admitted.cgroup_path(),
        stdio,
    };
    let ticket = tasks.stages().zygote().create(&job).map_err(|error| TaskError::internal(&error))?;
    let at_most = Duration::from_millis(CREATE_MS) + admitted.hooks(HookMoment::Create).unwrap_or_default();
    let answer = timeout(at_most, created(ticket, launching, unfinished)).await;
    match answer {
        Ok(Ok(created)) => Ok(created),
        Ok(Err(error)) => Err(TaskError::internal(&error)),
        Err(_) => Err(TaskError::Internal(format!("no container after {} ms", at_most.as_millis()))),
    }
}

async fn created(
    mut ticket: CreateTicket,
    launching: &mut Launching<'_>,
    unfinished: &Unfinished<'_>,
) -> Result<Created, LaunchError> {
    loop {
        if let Some(created) = ticket.try_created()? {
            return Ok(created);
        }
        tokio::select! {
            ready = readable(&ticket) => ready?,
            // The container's process holds the reply socket too: a worker that is killed closes nothing.
            () = launching.doubts() => if ticket.waits_for_worker() && unfinished.has_no_worker() {
                return ticket.try_created()?.ok_or(LaunchError::WorkerGone);
            }
        }
    }
}

/// Waits until `reply` can be read.
pub(crate) async fn readable(reply: &impl AsFd) -> Result<(), LaunchError> {
    let wrong = |source| LaunchError::Io { call: "epoll(7)", subject: "reply socket".to_owned(), source };
    let fd = reply.as_fd().try_clone_to_owned().map_err(wrong)?;
    let ready = sys::watch(File::from(fd), Interest::READABLE).map_err(wrong)?;
    ready.readable().await.map_err(wrong)?.retain_ready();
    Ok(())
}

/// Ends a process that nobody will know of.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) {
    if let Err(error) = sys::send_signal(pidfd, libc::SIGKILL) {
        tracing::error!(%error, "a process that failed to launch could not be killed");
    }
}

fn event(request: CreateTaskRequest, pid: u32) -> TaskCreate {
    let mut io = TaskIO::new();
    io.stdin = request.stdin;
    io.stdout = request.stdout;
    io.stderr = request.stderr;
    io.terminal = request.terminal;
    let mut event = TaskCreate::new();
    event.container_id = request.id;
    event.bundle = request.bundle;
    event.rootfs = request.rootfs;
    event.io = MessageField::some(io);
    event.pid = pid;
    event
}

/// What a Create has made so far; dropped unfinished, it is taken back.
struct Unfinished<'a> {
    admitted: &'a Admitted,
    parts: Option<(Cgroup, PathBuf)>,
}

impl<'a> Unfinished<'a> {
    /// Refuses a control group in which processes of others live: it is killed and removed with the container.
    fn new(tasks: &Tasks, admitted: &'a Admitted) -> Result<Self, TaskError> {
        let host = tasks.stages().zygote().cgroups();
        let cgroup = host.cgroup(admitted.cgroup_path());
        let others = cgroup.procs().map_err(|error| TaskError::internal(&error))?;
        if !others.is_empty() {
            return Err(TaskError::FailedPrecondition(format!(
                "linux.cgroupsPath names a control group in which {} processes run already: a container gets one of its \
                 own, which ends with it",
                others.len()
            )));
        }
        Ok(Self { admitted, parts: Some((cgroup, admitted.task_dir().to_owned())) })
    }

    fn task_dir(&self) -> &Path {
        self.parts.as_ref().map_or(Path::new(""), |(_, task_dir)| task_dir)
    }

    fn has_no_worker(&self) -> bool {
        self.parts.as_ref().is_some_and(|(cgroup, _)| !has_worker(cgroup))
    }

    /// It has come to nothing, and its last hooks are told so.
    async fn stopped(&self, tasks: &Tasks) {
        let Some((cgroup, task_dir)) = &self.parts else { return };
        if self.admitted.hooks(HookMoment::Stopped).is_some() {
            if let Err(error) = cgroup.kill_all() {
                tracing::error!(error = super::error::chain(&error), "processes of a failed create are left");
            }
            leftovers::last_hooks(tasks.stages().zygote(), self.admitted, task_dir).await;
        }
    }

    fn finish(mut self) -> (Cgroup, PathBuf) {
        self.parts.take().expect("an Unfinished is finished once")
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some((cgroup, task_dir)) = self.parts.take() {
            let problems = leftovers::take_back(Some(&cgroup), &task_dir);
            self.admitted.release_ids(problems.is_empty());
            for problem in problems {
                tracing::error!(problem, "a failed create leaves something behind");
            }
        }
    }
}
