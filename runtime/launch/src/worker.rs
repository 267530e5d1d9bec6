//! One job, one process: a worker does what it was sent, answers, and exits. What it changes of itself (working
//! directory, mount namespace, control group, groups) goes with it.

use std::{
    fs::{self, DirBuilder},
    io::Write as _,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use bulkhead_cgroup::{Cgroup, CgroupError, Host, Version};
use bulkhead_model::{ConfineSpec, Credentials};
use nix::unistd::setgroups;

use crate::{
    LaunchError, blind, derive,
    error::chain,
    executor::Confined,
    group_link, hooks, keyring, layers, limits, message, mounts,
    owner::Owner,
    process::{self, Clocked, Parts, Place},
    rootfs, scarcity, sealed, start,
    stdio::{Kept, Opened},
    sys::{self, Forked},
    user_namespace::Inside,
    wire::{Create, Exec, Group, GroupChange, Hooks, Job, Moment, WorkingDir},
    working_dir,
    zygote::die_with,
};

/// What a worker is called, as ps(1) shows it.
const NAME: &std::ffi::CStr = c"bulkhead-worker";

/// Whether `comm`, as /proc has it, is a worker's.
#[must_use]
pub fn is_worker(comm: &str) -> bool {
    NAME.to_str().is_ok_and(|name| comm.trim_end() == name)
}

/// Does the job whose descriptors these are. The exit code says only whether there was an answer.
pub(crate) fn run(fds: Vec<OwnedFd>, host: &Host, server: u32) -> i32 {
    sys::set_name(NAME);
    let mut fds = fds.into_iter();
    let (Some(reply), Some(payload)) = (fds.next(), fds.next()) else {
        tracing::error!("a job without reply socket or payload");
        return 2;
    };
    let reply = Rc::new(reply);
    let rest: Vec<OwnedFd> = fds.collect();
    // A worker that outlived its server would make a control group and a directory behind the back of whoever cleans
    // up after that server.
    let mut task_dir = None;
    let done = die_with(server).and_then(|()| decode(&reply, &payload, &rest)).and_then(|job| {
        task_dir = job.task_dir().map(Path::to_owned);
        match job {
            Job::Create(job) => create(*job, &reply, host, server),
            Job::Exec(job) => exec(*job, &reply, rest.into_iter(), host, server),
            Job::Group(job) => change_group(&job, host),
            Job::Layers(job) => layers::look(*job, rest, host, server).map(|()| (0, Kept::default())),
            Job::Hooks(job) => run_hooks(&job),
        }
    });
    let sent = match done {
        Ok((pid, kept)) => {
            let (letters, fds) = kept.letters();
            let sent = message::send(reply.as_fd(), format!("D{pid} {letters}").as_bytes(), &fds);
            if sent.is_ok() {
                kept.handed_over();
            }
            sent
        }
        Err(error) => {
            let why = scarcity::explained(&error, task_dir.as_deref());
            message::send(reply.as_fd(), &message::failed(None, &why), &[])
        }
    };
    match sent {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the answer could not be sent");
            1
        }
    }
}

/// The job; where its process may be root's, only in a sealed worker.
fn decode(reply: &OwnedFd, payload: &OwnedFd, rest: &[OwnedFd]) -> Result<Job, LaunchError> {
    let copy = payload.try_clone().map_err(LaunchError::io("dup(2)", "job"))?;
    let job = Job::decode(copy)?;
    if job.confine().and_then(ConfineSpec::compatible).is_none() || sealed::is_sealed()? {
        return Ok(job);
    }
    let fds: Vec<&OwnedFd> = [reply, payload].into_iter().chain(rest).collect();
    Err(sealed::start_again(&fds))
}

fn create(job: Create, reply: &Rc<OwnedFd>, host: &Host, server: u32) -> Result<(i32, Kept), LaunchError> {
    let credentials = on_node(&job.confine)?;
    let mut stdio = Opened::new(&job.stdio, credentials.uid, credentials.gid)?;
    own_process(job.oom_score_adj)?;
    make_dirs(&job)?;
    let inside = Inside::open(job.confine.user_namespace())?;

    let cgroup = host.cgroup(&job.cgroup);
    cgroup.create(&job.resources).map_err(cgroup_failed)?;
    // A scope of systemd's is made around the process that asks; on v1 only in systemd's own hierarchy.
    if !(cgroup.is_systemds() && cgroup.version() == Version::V2) {
        enter(&cgroup, server)?;
    }

    // In the node's mount namespace still: a mount may follow or share with the node's.
    let (trees, late) = job.mounts.clone_sources(inside.as_ref())?;
    rootfs::private_namespace()?;
    let root = derive::rootfs_dir(&job.task_dir);
    let attributes = job.confine.hardened().map_or(0, |_| rootfs::HARDENED);
    rootfs::mount_all(&job.rootfs, &root, attributes, inside.as_ref(), &job.task_dir)?;
    if let WorkingDir::InRoot(cwd) = &job.working_dir
        && cwd != Path::new("/")
    {
        let _owner = Owner::become_one(inside.as_ref().and_then(Inside::owner))?;
        working_dir::make(&root, cwd)?;
    }
    if let Some(view) = job.cgroup_view {
        blind::show(&cgroup, view, &job.task_dir)?;
    }

    let hardened = job.confine.hardened().is_some();
    let proc = node_proc_for(&job.confine, &job.id)?;
    let mut executor = Confined::new(job.confine, Rc::clone(reply), proc, inside.clone()).under(job.init);
    let of_start = job.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().clone());
    if let Some(of_start) = of_start.filter(|hooks| !hooks.is_empty()) {
        executor = executor.after(of_start, hooks::State::new(&job.spec, &job.id, &job.task_dir));
    }
    let parts = Parts { spec: job.spec, executor, given: stdio.give()?, dir: job.task_dir.clone() };
    let place = Place {
        id: &job.id,
        task_dir: &job.task_dir,
        root: &root,
        mounts: &job.mounts,
        inside: inside.as_ref(),
    };
    let (pid, landed) =
        process::first(parts, &place, trees).map_err(|error| match (error, &job.working_dir) {
            (LaunchError::Failed(text), WorkingDir::InMount(cwd)) => LaunchError::Failed(format!(
                "{text} (working directory {} is below a mount: is it there?)",
                cwd.display()
            )),
            (error, _) => error,
        })?;
    let kept = stdio.kept()?;
    inside.map_or(Ok(()), |inside| inside.owns_nothing(pid))?;
    if hardened {
        mounts::write_roots(&job.task_dir, &job.mounts.roots(&landed))?;
    }
    job.mounts.finish(pid, late, landed)?;
    Ok((pid, kept))
}

fn exec(
    job: Exec,
    reply: &Rc<OwnedFd>,
    mut fds: impl Iterator<Item = OwnedFd>,
    host: &Host,
    server: u32,
) -> Result<(i32, Kept), LaunchError> {
    let init = fds.next().ok_or(LaunchError::Plan("no pidfd of the container"))?;
    let credentials = on_node(&job.confine)?;
    let mut stdio = Opened::new(&job.stdio, credentials.uid, credentials.gid)?;
    own_process(job.oom_score_adj)?;
    enter(&host.cgroup(&job.cgroup), server)?;
    let files = ExecFiles::make(&job)?;

    let proc = node_proc_for(&job.confine, &job.container)?;
    let inside = Inside::of_init(job.confine.user_namespace(), &init)?;
    let clocks = clocks_of(&job)?;
    let hardened = job.confine.hardened().is_some();
    let executor = Confined::new(job.confine, Rc::clone(reply), proc, inside);
    if hardened {
        *executor.roots().borrow_mut() = mounts::read_roots(&job.task_dir)?;
    }
    let parts = Parts { spec: job.spec, executor, given: stdio.give()?, dir: files.dir.clone() };
    let pid = process::further(parts, init, clocks).map_err(|error| {
        working_dir::why_not(job.init_pid, &job.working_dir).map_or(error, LaunchError::Failed)
    })?;
    // What the process finds is its own before it goes on.
    let kept = stdio.kept()?;
    start::release(&files.dir)?;
    Ok((pid, kept))
}

/// Whether a container has clocks of its own: at the compatible level it may. Its init is known by a pidfd, and its clocks
/// are entered through that.
fn clocks_of(job: &Exec) -> Result<Clocked, LaunchError> {
    if job.confine.compatible().is_none() {
        return Ok(Clocked::AsNode);
    }
    let read = |pid: &str| {
        let path = format!("/proc/{pid}/ns/time");
        match fs::read_link(&path) {
            // A kernel without them, or a container that has ended.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(PathBuf::new()),
            read => read.map_err(LaunchError::io("readlink(2)", path)),
        }
    };
    match read("self")? == read(&job.init_pid.to_string())? {
        true => Ok(Clocked::AsNode),
        false => Ok(Clocked::ByItself),
    }
}

/// The ids of the process as this one counts them.
fn on_node(confine: &ConfineSpec) -> Result<Credentials, LaunchError> {
    confine
        .credentials_on_node()
        .ok_or(LaunchError::Plan("an id of the process is not in its user namespace"))
}

/// No process comes of it: pid 0 in the answer.
fn change_group(job: &Group, host: &Host) -> Result<(i32, Kept), LaunchError> {
    let cgroup = host.cgroup(&job.cgroup);
    match &job.change {
        GroupChange::Update(resources) => cgroup.update(resources),
        GroupChange::Release => cgroup.release(),
    }
    .map(|()| (0, Kept::default()))
    .map_err(cgroup_failed)
}

/// No process comes of it either.
fn run_hooks(job: &Hooks) -> Result<(i32, Kept), LaunchError> {
    own_process(None)?;
    match job.moment {
        Moment::Started(pid) => hooks::run_poststart(&job.task_dir, job.id.as_str(), pid)?,
        Moment::Stopped => {
            let problems = hooks::run_poststop(&job.task_dir, &job.id);
            if !problems.is_empty() {
                return Err(LaunchError::Failed(problems.join("; ")));
            }
        }
    }
    Ok((0, Kept::default()))
}

/// What every worker does to itself: no additional group of the server's is inherited (libcontainer sets none
/// where the spec has none), and new files are root's alone.
fn own_process(oom_score_adj: Option<i32>) -> Result<(), LaunchError> {
    setgroups(&[]).map_err(LaunchError::io("setgroups(2)", "worker"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match oom_score_adj {
        Some(score) => limits::set_oom_score(score),
        None => Ok(()),
    }
}

/// The node's /proc, where a label is to be written through it; and, at the compatible level, a keyring of its own.
fn node_proc_for(confine: &ConfineSpec, container: &str) -> Result<Option<Rc<OwnedFd>>, LaunchError> {
    if confine.selinux_label().is_none() && confine.compatible().is_none() {
        return Ok(None);
    }
    let proc = node_proc()?;
    if confine.compatible().is_some() {
        keyring::join(container, &proc, confine.selinux_label())?;
    }
    // A process of the container's might reach the node by it until its execve: it is handed on only where it is needed.
    Ok(confine.selinux_label().is_some().then(|| Rc::new(proc)))
}

fn node_proc() -> Result<OwnedFd, LaunchError> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open("/proc")
        .map(OwnedFd::from)
        .map_err(LaunchError::io("open(2)", "/proc"))
}

/// Goes on inside the control group. On v2 a second worker is born there and the first one ends: a move by
/// `cgroup.procs` would wait for a grace period of RCU.
pub(crate) fn enter(cgroup: &Cgroup, server: u32) -> Result<(), LaunchError> {
    if cgroup.version() != Version::V2 {
        return cgroup.join_self().map_err(cgroup_failed);
    }
    for (_, path) in cgroup.dirs() {
        let shown = path.display().to_string();
        let dir = fs::File::open(path).map_err(LaunchError::io("open(2)", shown.clone()))?;
        match sys::clone_sibling_into(dir.as_fd()).map_err(LaunchError::io("clone3(2)", shown))? {
            Forked::Parent(_) => sys::exit_now(0),
            Forked::Child => die_with(server)?,
        }
    }
    Ok(())
}

fn make_dirs(job: &Create) -> Result<(), LaunchError> {
    let make = |path: &Path, mode: u32| {
        DirBuilder::new()
            .recursive(mode == 0o700)
            .mode(mode)
            .create(path)
            .map_err(LaunchError::io("mkdir(2)", path.display().to_string()))
    };
    make(&job.task_dir, 0o700)?;
    group_link::write(&job.task_dir, &job.cgroup)?;
    make(&derive::rootfs_dir(&job.task_dir), 0o711)?;
    if job.cgroup_view.is_some() {
        make(&blind::cgroup_view(&job.task_dir), 0o711)?;
    }
    if job.spec.hooks().is_some() {
        // What a hook is told of its container.
        let text = serde_json::to_string(&job.spec).map_err(LaunchError::Encode)?;
        write_private(&job.task_dir.join(hooks::CONFIG_FILE), &text)?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<(), LaunchError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(LaunchError::io("write(2)", path.display().to_string()))
}

fn cgroup_failed(error: CgroupError) -> LaunchError {
    LaunchError::Failed(chain(&error))
}

/// Files of one exec; gone with the worker.
struct ExecFiles {
    dir: PathBuf,
}

impl ExecFiles {
    fn make(job: &Exec) -> Result<Self, LaunchError> {
        let files = Self { dir: job.task_dir.join(format!("exec-{}", job.exec)) };
        DirBuilder::new()
            .mode(0o700)
            .create(&files.dir)
            .map_err(LaunchError::io("mkdir(2)", files.dir.display().to_string()))?;
        Ok(files)
    }
}

impl Drop for ExecFiles {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, path = %self.dir.display(), "files of an exec are left behind");
        }
    }
}
