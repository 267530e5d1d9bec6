//! A process of a container, from its clone to where libcontainer takes over: this crate clones it, brings it into its
//! namespaces, makes its mounts and its root, and sets its limits and groups; libcontainer does the rest, and calls the
//! executor.
//!
//! ```text
//! worker ─clone(CLONE_PARENT), pid namespace─► process: namespaces, mounts
//!    ▲                                            │ where the mounts have landed, or what failed
//!    ├────────────────── pipe ◄───────────────────┤
//!    │                                            ├─► devices, (hooks), pivot_root, masks, limits, groups
//!    ├────────────────── channel ◄────────────────┤
//! hooks, answer                                   ├─► libcontainer: session, streams, ids, capabilities ─► executor: prepared
//!                                                 └─► waits for Start
//! ```
//! libcontainer's own way has a process between, which looks for control groups and joins namespaces by paths; and in the
//! container's process it proves that /proc is /proc, and resolves each device's path, anew for each of them. Here a first
//! process is given to it as one more of a container that is there already, which is what it has become.
//!
//! Invariant: the worker itself stays in the node's namespaces, in which hooks run.

use std::{
    fs::File,
    io::{PipeReader, Read as _, Write as _},
    os::fd::{IntoRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    rc::Rc,
};

use bulkhead_model::MountRoot;
use libcgroups::common::CgroupConfig;
use libcontainer::{
    notify_socket::NotifyListener,
    process::{
        args::{ContainerArgs, ContainerType},
        channel::{InitReceiver, InitSender, MainReceiver, MainSender, init_channel, main_channel},
        init::container_init_process,
    },
    syscall::syscall::{SyscallType, create_syscall},
    validator::Validator,
};
use nix::{
    sched::{CloneFlags, setns},
    unistd::{Gid, setgroups},
};
use oci_spec::runtime::{PosixRlimit, Spec};

use crate::{
    LaunchError,
    error::{causes, chain},
    executor::Confined,
    hooks::{self, State, Status},
    init_pid,
    mounts::{Mounts, Trees},
    namespaces::{CLONE_NEWTIME, Clocks, Entry, Namespaces, ended_or},
    root, start,
    stdio::{Given, terminal},
    sys::{self, Forked},
    user_namespace::Inside,
};

/// What a process of a container is called until its execve(2).
const NAME: &std::ffi::CStr = c"bulkhead-init";

/// What both kinds of process are made of.
pub(crate) struct Parts {
    pub(crate) spec: Spec,
    pub(crate) executor: Confined,
    pub(crate) given: Given,
    /// Where the socket is bound on which it waits.
    pub(crate) dir: PathBuf,
}

/// A container that its first process is made for.
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) task_dir: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) mounts: &'a Mounts,
    pub(crate) inside: Option<&'a Inside>,
}

/// Makes a container's first process, which then waits for Start, and writes its pid down. Says where the mounts have
/// landed.
pub(crate) fn first(
    mut parts: Parts,
    place: &Place<'_>,
    mut trees: Trees,
) -> Result<(i32, Vec<MountRoot>), LaunchError> {
    Validator::validate_spec(&parts.spec).map_err(|error| failed(&error))?;
    let state = State::new(&parts.spec, place.id, place.task_dir);
    let hooks = parts.spec.hooks().clone().filter(hooks::stop_create);
    parts.spec.set_hooks(None);
    let mut namespaces = Namespaces::of(&parts.spec, place.inside)?;

    let (reader, mut writer) = std::io::pipe().map_err(LaunchError::io("pipe2(2)", "first process"))?;
    let (mounts, root, inside, entered) = (place.mounts, place.root, place.inside, &namespaces);
    let stops = hooks.is_some();
    let roots = parts.executor.roots();
    let (spec, terminal) = (parts.spec.clone(), parts.terminal()?);
    let prepare = move |channels: &mut Channels| {
        let landed = entered
            .enter()
            .and_then(|()| match inside.is_some_and(Inside::has_namespaces) {
                true => root::unlock(root),
                false => Ok(()),
            })
            .and_then(|()| mounts.assemble(&mut trees, root, inside));
        if let Ok(landed) = &landed {
            *roots.borrow_mut() = mounts.roots(landed);
        }
        let text = landed.as_ref().map_err(|error| chain(error));
        let text = serde_json::to_vec(&text).map_err(LaunchError::Encode)?;
        writer.write_all(&text).map_err(LaunchError::io("write(2)", "first process"))?;
        drop(writer);
        landed?;
        root::fill(&spec, root)?;
        if stops {
            channels.to_main.hook_request().map_err(|error| failed(&error))?;
            channels.from_main.wait_for_hook_request_done().map_err(|error| failed(&error))?;
        }
        root::enter(&spec, root, || terminal.map(terminal::make).transpose())
    };
    let clocks = namespaces.before_clone()?;
    let mut child = Child::clone(parts, root, namespaces.pid()?, prepare)?;
    clocks.map_or(Ok(()), Clocks::undo)?;
    let landed = read_landed(reader)?;
    namespaces.entered()?;
    if let Some(hooks) = hooks {
        child.receiver.wait_for_hook_request().map_err(|error| failed(&error))?;
        let state = state.at(Status::Creating, Some(child.pid.cast_unsigned()));
        hooks::run_of_create(&hooks, &state, child.pid, place.inside)?;
        child.sender.hook_done().map_err(|error| failed(&error))?;
    }
    let pid = child.ready()?;
    // Whoever cleans up after a server that died looks for it.
    init_pid::write(place.task_dir, pid)?;
    Ok((pid, landed))
}

/// Makes one more process in the container of `init`, which then waits for [`start::release`].
pub(crate) fn further(parts: Parts, init: OwnedFd, clocks: Clocked) -> Result<i32, LaunchError> {
    let pids = Entry::Join(init.try_clone().map_err(LaunchError::io("dup(2)", "pidfd"))?);
    let prepare = move |_: &mut Channels| {
        // All at once, and of the very process that the descriptor stands for. What the container shares with the node is
        // the node's.
        let all = CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWNS;
        let all = match clocks {
            Clocked::AsNode => all,
            Clocked::ByItself => all | CLONE_NEWTIME,
        };
        setns(&init, all).map_err(ended_or("setns(2)")).map(|()| None)
    };
    Child::clone(parts, Path::new("/"), Some(pids), prepare)?.ready()
}

/// Where the mounts have landed, or why they have not.
fn read_landed(mut reader: PipeReader) -> Result<Vec<MountRoot>, LaunchError> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(LaunchError::io("read(2)", "first process"))?;
    if text.is_empty() {
        return Err(LaunchError::ProcessGone);
    }
    let landed: Result<Vec<MountRoot>, String> =
        serde_json::from_slice(&text).map_err(LaunchError::Encode)?;
    landed.map_err(LaunchError::Failed)
}

/// Whether a container has clocks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clocked {
    AsNode,
    ByItself,
}

/// Both ways between a process and its worker, as the process sees them.
struct Channels {
    to_main: MainSender,
    from_main: InitReceiver,
}

/// A process on its way, as its worker sees it.
struct Child {
    pid: i32,
    receiver: MainReceiver,
    sender: InitSender,
}

impl Child {
    /// Clones it; there it does what `prepare` says, which may give it other streams, and goes on in libcontainer.
    fn clone(
        mut parts: Parts,
        root: &Path,
        pids: Option<Entry>,
        prepare: impl FnOnce(&mut Channels) -> Result<Option<[OwnedFd; 3]>, LaunchError>,
    ) -> Result<Self, LaunchError> {
        let (to_main, receiver) = main_channel().map_err(|error| failed(&error))?;
        let (sender, from_main) = init_channel().map_err(|error| failed(&error))?;
        let mut channels = Channels { to_main, from_main };
        let rlimits = parts.spec.process().as_ref().and_then(|process| process.rlimits().clone());
        let groups = parts.take_groups()?;
        let mut arguments = arguments(parts, root)?;
        match clone_in(pids)? {
            Forked::Parent(pid) => {
                let closed = channels.to_main.close().and_then(|()| channels.from_main.close());
                closed.map_err(|error| failed(&error))?;
                Ok(Self { pid: pid.cast_signed(), receiver, sender })
            }
            Forked::Child => {
                sys::set_name(NAME);
                let all = AssertUnwindSafe(|| {
                    // Or it would not see that its worker is gone, which it may wait for in what comes next.
                    receiver.close().and_then(|()| sender.close()).map_err(|error| failed(&error))?;
                    if let Some(streams) = prepare(&mut channels)? {
                        let [stdin, stdout, stderr] = streams.map(|stream| Some(stream.into_raw_fd()));
                        (arguments.stdin, arguments.stdout, arguments.stderr) = (stdin, stdout, stderr);
                    }
                    set_rlimits(rlimits.as_deref().unwrap_or_default())?;
                    // The worker has none.
                    if !groups.is_empty() {
                        setgroups(&groups).map_err(LaunchError::io("setgroups(2)", "process"))?;
                    }
                    // It lives under the container's own limits: what the node's are does not mend this.
                    container_init_process(&arguments, &mut channels.to_main, &mut channels.from_main)
                        .map_err(|error| LaunchError::Failed(causes(&error)))
                });
                let why = match catch_unwind(all) {
                    Ok(Ok(())) => "libcontainer came back".to_owned(),
                    Ok(Err(error)) => chain(&error),
                    Err(_) => "a panic".to_owned(),
                };
                if let Err(error) = channels.to_main.exec_failed(why) {
                    tracing::error!(%error, "a failure could not be reported");
                }
                sys::exit_now(1)
            }
        }
    }

    /// Waits until it is prepared. Its pid.
    fn ready(mut self) -> Result<i32, LaunchError> {
        self.sender.close().map_err(|error| failed(&error))?;
        self.receiver.wait_for_init_ready().map_err(|error| failed(&error))?;
        self.receiver.close().map_err(|error| failed(&error))?;
        Ok(self.pid)
    }
}

/// Clones a sibling into a pid namespace. What this process clones or forks later is where it is itself.
fn clone_in(pids: Option<Entry>) -> Result<Forked, LaunchError> {
    let clone = || sys::clone_sibling().map_err(LaunchError::io("clone(2)", "process of the container"));
    let Some(pids) = pids else { return clone() };
    let path = "/proc/self/ns/pid";
    let own = File::open(path).map_err(LaunchError::io("open(2)", path))?;
    pids.enter(CloneFlags::CLONE_NEWPID)?;
    let forked = clone()?;
    if let Forked::Parent(_) = forked {
        setns(&own, CloneFlags::CLONE_NEWPID).map_err(LaunchError::io("setns(2)", path))?;
    }
    Ok(forked)
}

fn set_rlimits(rlimits: &[PosixRlimit]) -> Result<(), LaunchError> {
    let system = create_syscall();
    rlimits.iter().try_for_each(|limit| system.set_rlimit(limit)).map_err(|error| failed(&error))
}

impl Parts {
    /// Where the master of a terminal goes, of a first process, which makes it by itself.
    fn terminal(&mut self) -> Result<Option<OwnedFd>, LaunchError> {
        match &self.given {
            Given::Streams(_) => Ok(None),
            Given::Terminal(_) => match std::mem::replace(&mut self.given, Given::Later) {
                Given::Terminal(socket) => {
                    self.executor.takes_terminal();
                    Ok(Some(socket))
                }
                Given::Streams(_) | Given::Later => Err(LaunchError::Plan("a terminal that was taken")),
            },
            Given::Later => Err(LaunchError::Plan("streams that are not there yet")),
        }
    }

    /// Its additional groups, which libcontainer is not told of: it would prove first that /proc says that it may set them.
    fn take_groups(&mut self) -> Result<Vec<Gid>, LaunchError> {
        let process = self.spec.process_mut().as_mut().ok_or(LaunchError::Plan("no process"))?;
        let groups = process.user().additional_gids().clone().unwrap_or_default();
        process.user_mut().set_additional_gids(None);
        Ok(groups.into_iter().map(Gid::from_raw).collect())
    }
}

/// What libcontainer is told, less what is done without it.
fn arguments(parts: Parts, root: &Path) -> Result<ContainerArgs, LaunchError> {
    let Parts { mut spec, executor, given, dir } = parts;
    spec.set_mounts(None);
    let linux = spec.linux_mut().as_mut().ok_or(LaunchError::Plan("no linux section"))?;
    linux.set_namespaces(None).set_uid_mappings(None).set_gid_mappings(None).set_time_offsets(None);
    let (streams, console_socket) = match given {
        Given::Streams(streams) => (Some(streams), None),
        Given::Terminal(socket) => (None, Some(socket.into_raw_fd())),
        Given::Later => (None, None),
    };
    let [stdin, stdout, stderr] = match streams {
        Some(streams) => streams.map(|stream| Some(stream.into_raw_fd())),
        None => [None; 3],
    };
    Ok(ContainerArgs {
        // Nothing is written to the descriptor that libcontainer's own builder gives here.
        container_type: ContainerType::TenantContainer { exec_notify_fd: -1 },
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: root.to_owned(),
        console_socket,
        notify_listener: NotifyListener::new(&dir.join(start::NOTIFY_FILE))
            .map_err(|error| failed(&error))?,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        // Control groups are `bulkhead_cgroup`'s: nothing looks at these.
        cgroup_config: CgroupConfig {
            cgroup_path: PathBuf::new(),
            systemd_cgroup: false,
            container_name: String::new(),
        },
        detached: true,
        executor: Box::new(executor),
        no_pivot: false,
        stdin,
        stdout,
        stderr,
        as_sibling: true,
        pid_file: None,
    })
}

fn failed(error: &(dyn std::error::Error + 'static)) -> LaunchError {
    LaunchError::Failed(format!("libcontainer: {}", chain(error)))
}
