//! The zygote: a small process without threads, forked before anything else happens, whose only work is to make
//! workers.

use std::{
    ffi::CStr,
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bulkhead_cgroup::{CgroupPath, Host};
use bulkhead_model::{ConfineSpec, ContainerId, InitRule, LayersJob};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use oci_spec::runtime::LinuxResources;

use crate::{
    CreateJob, CreateTicket, ExecJob, GroupTicket, LaunchError, PendingStart, Stdio, blind, derive,
    error::chain,
    limits::Ceilings,
    line::{Line, Member},
    message,
    mounts::{Mounts, Sources},
    sys::{self, Forked},
    wire::{self, GroupChange, Job, Moment},
    worker, working_dir,
};

/// What the zygote and its spare are called, as ps(1) shows them.
const WORKING: &CStr = c"bulkhead-zygote";
const SPARE: &CStr = c"bulkhead-spare";

/// The descriptor under which the zygote keeps its socket.
const ZYGOTE_SOCKET: i32 = 3;

/// The server's end of its zygote. Dropping it ends the zygote.
#[derive(Debug)]
pub struct Zygote {
    line: Line,
    host: Host,
    ceilings: Ceilings,
}

impl Zygote {
    /// Forks the zygote. To be called before the first thread; the kernel is asked whether it is so.
    ///
    /// # Errors
    /// Also when the runtime's own executable could be written by others than root: everything that a
    /// container's process does before its execve(2) is this executable, reachable as `/proc/<pid>/exe`
    /// (CVE-2019-5736). What keeps a container from it is that it is not root, that the process is not
    /// dumpable, and the Landlock ruleset; the first of these holds only while root alone may write the file.
    pub fn fork() -> Result<Self, LaunchError> {
        Self::fork_on(Host::detect().map_err(|error| LaunchError::Failed(chain(&error)))?)
    }

    /// The same with control groups that were looked up already.
    pub fn fork_on(host: Host) -> Result<Self, LaunchError> {
        check_no_threads()?;
        check_executable()?;
        let ceilings = Ceilings::read()?;
        let server = std::process::id();
        let line = Line::new(fork_one(&host, server, WORKING)?, fork_one(&host, server, SPARE)?);
        Ok(Self { line, host, ceilings })
    }

    /// Pid of the zygote; 0 when it and its spare are gone and nothing can be launched any more.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.line.pid()
    }

    /// To be told of each child that was reaped and is none of a container's: whether it was the zygote or its spare.
    /// Then another has taken its place.
    pub fn ended(&self, pid: u32) -> bool {
        self.line.ended(pid)
    }

    /// The host's control groups, looked up once.
    #[must_use]
    pub fn cgroups(&self) -> &Host {
        &self.host
    }

    /// Has a container created. The answer comes on the ticket; on failure the server kills and removes the
    /// control group and removes `task_dir`, whatever is left of both.
    pub fn create(&self, job: &CreateJob<'_>) -> Result<CreateTicket, LaunchError> {
        let (spec, confine) = (job.plan.spec(), job.plan.confine());
        check_user(confine)?;
        let process = spec.process().as_ref().ok_or(LaunchError::Plan("no process"))?;
        check_terminal(job.stdio, process.terminal().unwrap_or(false))?;
        let sources = Sources {
            roots: job.plan.source_roots(),
            images: job.plan.image_volumes(),
            copied_up: job.plan.copied_up(),
            identity: job.plan.identity(),
        };
        let wire = Job::Create(Box::new(wire::Create {
            id: job.id.to_string(),
            task_dir: job.task_dir.to_owned(),
            spec: derive::spec(spec, confine, job.task_dir, &self.ceilings)?,
            confine: confine.clone(),
            rootfs: job.rootfs.to_vec(),
            working_dir: working_dir::of(spec).ok_or(LaunchError::Plan("no process"))?,
            mounts: Mounts::of(spec, confine, &sources, job.task_dir)?,
            cgroup: job.cgroup.clone(),
            resources: job.plan.resources().cloned().unwrap_or_default(),
            cgroup_view: blind::is_asked_for(spec, job.task_dir, confine),
            oom_score_adj: process.oom_score_adj(),
            stdio: job.stdio.clone(),
            init: match job.plan.init() {
                InitRule::Program => None,
                InitRule::Small => Some(bulkhead_plan::INIT.into()),
            },
        }));
        let reply = self.send(&wire, &[])?;
        Ok(CreateTicket::new(reply, confine.clone(), job.task_dir.to_owned()))
    }

    /// Has a process run in a container: what comes back is what Start waits on.
    pub fn exec(&self, job: &ExecJob<'_>) -> Result<PendingStart, LaunchError> {
        let (process, confine) = (job.plan.process(), job.plan.confine());
        check_user(confine)?;
        check_terminal(job.stdio, process.terminal().unwrap_or(false))?;
        let wire = Job::Exec(Box::new(wire::Exec {
            container: job.container.to_string(),
            exec: job.exec.to_string(),
            task_dir: job.task_dir.to_owned(),
            init_pid: job.init_pid,
            spec: derive::exec_spec(process, confine, &self.ceilings)?,
            working_dir: process.cwd().clone(),
            confine: confine.clone(),
            cgroup: job.cgroup.clone(),
            oom_score_adj: process.oom_score_adj(),
            stdio: job.stdio.clone(),
        }));
        let reply = self.send(&wire, &[job.init_pidfd])?;
        Ok(PendingStart::of_exec(reply, confine.clone()))
    }

    /// Has new limits set on a control group of systemd's: see [`bulkhead_cgroup::Cgroup::is_systemds`].
    pub fn update_group(
        &self,
        cgroup: &CgroupPath,
        resources: &LinuxResources,
    ) -> Result<GroupTicket, LaunchError> {
        self.change_group(cgroup, GroupChange::Update(Box::new(resources.clone())))
    }

    /// Has systemd forget a control group, whose processes have been killed.
    pub fn release_group(&self, cgroup: &CgroupPath) -> Result<GroupTicket, LaunchError> {
        self.change_group(cgroup, GroupChange::Release)
    }

    /// Has a worker look at layers, and write what it finds to `output`. A judge runs in the control group, which the
    /// caller removes; a generator too, which nobody does.
    pub fn layers(
        &self,
        job: &LayersJob,
        group: Option<(&CgroupPath, LinuxResources)>,
        output: BorrowedFd<'_>,
    ) -> Result<GroupTicket, LaunchError> {
        let group = group.map(|(cgroup, resources)| wire::JudgeGroup { cgroup: cgroup.clone(), resources });
        let wire = Job::Layers(Box::new(wire::Layers { job: job.clone(), group }));
        self.send(&wire, &[output]).map(GroupTicket::new)
    }

    /// Has the hooks run that come after the start of `pid`. To be asked for where there are any.
    pub fn poststart(&self, id: &ContainerId, task_dir: &Path, pid: u32) -> Result<GroupTicket, LaunchError> {
        self.run_hooks(id, task_dir, Moment::Started(pid))
    }

    /// Has the hooks run that come after the end of a container, whose processes have been killed.
    pub fn poststop(&self, id: &ContainerId, task_dir: &Path) -> Result<GroupTicket, LaunchError> {
        self.run_hooks(id, task_dir, Moment::Stopped)
    }

    fn run_hooks(
        &self,
        id: &ContainerId,
        task_dir: &Path,
        moment: Moment,
    ) -> Result<GroupTicket, LaunchError> {
        let wire =
            Job::Hooks(Box::new(wire::Hooks { id: id.clone(), task_dir: task_dir.to_owned(), moment }));
        self.send(&wire, &[]).map(GroupTicket::new)
    }

    fn change_group(&self, cgroup: &CgroupPath, change: GroupChange) -> Result<GroupTicket, LaunchError> {
        let wire = Job::Group(Box::new(wire::Group { cgroup: cgroup.clone(), change }));
        self.send(&wire, &[]).map(GroupTicket::new)
    }

    fn send(&self, job: &Job, fds: &[BorrowedFd<'_>]) -> Result<OwnedFd, LaunchError> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(LaunchError::io("socketpair(2)", "reply socket"))?;
        message::ask_for_credentials(&ours)?;
        let payload = job.encode()?;
        let all: Vec<BorrowedFd<'_>> =
            [theirs.as_fd(), payload.as_fd()].into_iter().chain(fds.iter().copied()).collect();
        self.line.send(&all)?;
        Ok(ours)
    }
}

fn fork_one(host: &Host, server: u32, name: &CStr) -> Result<Member, LaunchError> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(LaunchError::io("socketpair(2)", "zygote"))?;
    match sys::fork().map_err(LaunchError::io("fork(2)", "zygote"))? {
        Forked::Parent(pid) => Ok(Member { socket: ours, pid }),
        Forked::Child => {
            drop(ours);
            let code = match catch_unwind(AssertUnwindSafe(|| serve(theirs, host, server, name))) {
                Ok(Ok(())) => 0,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the zygote failed");
                    1
                }
                Err(_) => 101,
            };
            sys::exit_now(code)
        }
    }
}

/// libcontainer goes by the spec, the streams by the job.
fn check_terminal(stdio: &Stdio, terminal: bool) -> Result<(), LaunchError> {
    match stdio.terminal == terminal {
        true => Ok(()),
        false => Err(LaunchError::Plan("process.terminal and the streams given do not agree")),
    }
}

/// Root could write the runtime's executable: see [`Zygote::fork`]. Where policy lets a process be root's, its worker
/// is a sealed one.
fn check_user(confine: &ConfineSpec) -> Result<(), LaunchError> {
    match confine {
        ConfineSpec::Hardened(spec) if spec.credentials.uid == 0 => {
            Err(LaunchError::Plan("a process of a hardened container must not be root's"))
        }
        ConfineSpec::Hardened(_) | ConfineSpec::Compatible(_) => Ok(()),
    }
}

/// A forked copy of a process with threads may wait for ever on a lock that one of them held.
fn check_no_threads() -> Result<(), LaunchError> {
    let tasks = fs::read_dir("/proc/self/task").map_err(LaunchError::io("open(2)", "/proc/self/task"))?;
    match tasks.count() {
        1 => Ok(()),
        _ => Err(LaunchError::Plan("the zygote must be forked before the first thread")),
    }
}

fn check_executable() -> Result<(), LaunchError> {
    let link = "/proc/self/exe";
    let metadata = fs::metadata(link).map_err(LaunchError::io("stat(2)", link))?;
    let why = match (metadata.uid(), metadata.mode() & 0o022) {
        (0, 0) => return Ok(()),
        (0, _) => "can be written by its group or by others",
        _ => "does not belong to root",
    };
    let path = fs::read_link(link).map_err(LaunchError::io("readlink(2)", link))?;
    Err(LaunchError::Executable { path: path.display().to_string(), why })
}

/// Ends this process when its parent, the server, dies, or at once if that has happened.
pub(crate) fn die_with(server: u32) -> Result<(), LaunchError> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _)
        .map_err(LaunchError::io("prctl(2)", "PR_SET_PDEATHSIG"))?;
    if std::os::unix::process::parent_id() != server {
        sys::exit_now(1);
    }
    Ok(())
}

/// The zygote's life.
fn serve(socket: OwnedFd, host: &Host, server: u32, name: &CStr) -> Result<(), LaunchError> {
    die_with(server)?;
    // Inherited by every worker and by every process of a container until its execve(2): nobody without
    // CAP_SYS_PTRACE in the host's user namespace can trace them or follow their /proc/<pid>/{exe,fd,root}.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(LaunchError::io("prctl(2)", "PR_SET_DUMPABLE"))?;
    sys::set_name(name);
    let mut is_spare = name == SPARE;
    sys::reset_signals().map_err(LaunchError::io("sigprocmask(2)", "zygote"))?;
    sys::clear_environment().map_err(LaunchError::io("clearenv(3)", "zygote"))?;
    std::env::set_current_dir("/").map_err(LaunchError::io("chdir(2)", "/"))?;
    let mut socket = keep(socket)?;
    // Dropped at each turn: the parent's copies of a job's descriptors must not outlive the clone, or the
    // server would never see the end of a reply socket.
    while let Some((what, fds)) = message::receive_job(socket.as_fd())? {
        if is_spare {
            sys::set_name(WORKING);
            is_spare = false;
        }
        match sys::clone_sibling() {
            Ok(Forked::Parent(_)) => {}
            Ok(Forked::Child) if what == wire::SPARE => {
                sys::set_name(SPARE);
                is_spare = true;
                die_with(server)?;
                let own = fds.into_iter().next().ok_or(LaunchError::Protocol("a spare without a socket"))?;
                // The descriptor stays the same: what is there is closed.
                std::mem::forget(socket);
                socket = keep(own)?;
                message::send(socket.as_fd(), message::HELLO, &[])?;
            }
            Ok(Forked::Child) => {
                let code = catch_unwind(AssertUnwindSafe(|| worker::run(fds, host, server))).unwrap_or(101);
                sys::exit_now(code)
            }
            Err(error) if what == wire::SPARE => tracing::error!(%error, "clone(2) of a spare failed"),
            Err(error) => {
                tracing::error!(%error, "clone(2) of a worker failed");
                if let Some(reply) = fds.first() {
                    let why = chain(&LaunchError::io("clone(2)", "worker")(error));
                    let text = message::failed(None, &why);
                    if let Err(error) = message::send(reply.as_fd(), &text, &[]) {
                        tracing::error!(%error, "and could not be reported");
                    }
                }
            }
        }
    }
    Ok(())
}

/// The zygote's socket under its own number, and nothing else but the standard streams.
fn keep(socket: OwnedFd) -> Result<OwnedFd, LaunchError> {
    sys::move_fd(socket, ZYGOTE_SOCKET).map_err(LaunchError::io("dup2(2)", "zygote"))?;
    sys::close_from(ZYGOTE_SOCKET + 1).map_err(LaunchError::io("close_range(2)", "zygote"))?;
    Ok(sys::adopt(ZYGOTE_SOCKET))
}
