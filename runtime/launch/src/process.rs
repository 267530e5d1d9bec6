//! A process of a container, from its clone to where libcontainer takes over: this crate clones it, brings it into its
//! namespaces, makes its mounts and sets its limits; libcontainer does the rest, and calls the executor.
//!
//! ```text
//! worker ─clone(CLONE_PARENT), pid namespace─► process: net and ipc namespace, mounts, limits
//!    ▲                                            │ where the mounts have landed, or what failed
//!    ├────────────────── pipe ◄───────────────────┤
//!    │                                            ├─► libcontainer: uts, cgroup and mount namespace, /dev, pivot_root,
//!    ├────────────────── channel ◄────────────────┤      masks, ids, capabilities ─► executor: prepared
//! hooks, answer                                   └─► waits for Start
//! ```
//! libcontainer's own way has a process between, which looks for control groups and joins namespaces by paths.
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
    container::{Container, ContainerStatus},
    notify_socket::NotifyListener,
    process::{
        args::{ContainerArgs, ContainerType},
        channel::{InitSender, MainReceiver, init_channel, main_channel},
        init::container_init_process,
    },
    syscall::syscall::{SyscallType, create_syscall},
    validator::Validator,
};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Hooks, LinuxNamespace, PosixRlimit, Spec};

use crate::{
    LaunchError,
    error::{causes, chain},
    executor::Confined,
    hooks::{self, State, Status},
    mounts::{Mounts, Trees},
    namespaces::{CLONE_NEWTIME, Clocks, Entry, Namespaces, ended_or},
    start,
    stdio::Given,
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
    let mut container = Container::new(place.id, ContainerStatus::Creating, None, place.task_dir, &parts.dir)
        .map_err(|error| failed(&error))?;
    container.set_annotations(parts.spec.annotations().clone());
    let state = State::new(&parts.spec, place.id, place.task_dir);
    let all_hooks = parts.spec.hooks().clone();
    // libcontainer stops where hooks of a create belong, and runs none itself.
    let hooks = all_hooks.filter(hooks::stop_create);
    parts.spec.set_hooks(hooks.as_ref().map(|_| Hooks::default()));
    let mut namespaces = Namespaces::of(&parts.spec, place.inside)?;

    let (reader, mut writer) = std::io::pipe().map_err(LaunchError::io("pipe2(2)", "first process"))?;
    let (mounts, root, inside, entered) = (place.mounts, place.root, place.inside, &namespaces);
    let roots = parts.executor.roots();
    let prepare = move || {
        let landed = entered.enter().and_then(|()| mounts.assemble(&mut trees, root, inside));
        if let Ok(landed) = &landed {
            *roots.borrow_mut() = mounts.roots(landed);
        }
        let text = landed.as_ref().map_err(|error| chain(error));
        let text = serde_json::to_vec(&text).map_err(LaunchError::Encode)?;
        writer.write_all(&text).map_err(LaunchError::io("write(2)", "first process"))?;
        landed.map(drop)
    };
    let kind = ContainerType::InitContainer;
    let clocks = namespaces.before_clone()?;
    let ours = Ours { container: Some(&container), pids: namespaces.pid()?, left: namespaces.rest() };
    let mut child = Child::clone(parts, kind, root, ours, prepare)?;
    clocks.map_or(Ok(()), Clocks::undo)?;
    let landed = read_landed(reader)?;
    namespaces.entered()?;
    container.set_pid(child.pid);
    if let Some(hooks) = hooks {
        child.receiver.wait_for_hook_request().map_err(|error| failed(&error))?;
        let state = state.at(Status::Creating, Some(child.pid.cast_unsigned()));
        hooks::run_of_create(&hooks, &state, child.pid, place.inside)?;
        child.sender.hook_done().map_err(|error| failed(&error))?;
    }
    let pid = child.ready()?;
    // Start is given without libcontainer. Whoever cleans up after a server that died looks for the pid.
    container.set_status(ContainerStatus::Running).save().map_err(|error| failed(&error))?;
    Ok((pid, landed))
}

/// Makes one more process in the container of `init`, which then waits for [`start::release`].
pub(crate) fn further(parts: Parts, init: OwnedFd, clocks: Clocked) -> Result<i32, LaunchError> {
    let pids = Entry::Join(init.try_clone().map_err(LaunchError::io("dup(2)", "pidfd"))?);
    let prepare = move || {
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
        setns(&init, all).map_err(ended_or("setns(2)"))
    };
    // Nothing is written to the descriptor that libcontainer's own builder gives here.
    let kind = ContainerType::TenantContainer { exec_notify_fd: -1 };
    let ours = Ours { container: None, pids: Some(pids), left: Vec::new() };
    Child::clone(parts, kind, Path::new("/"), ours, prepare)?.ready()
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

/// What is known of a process before it is cloned.
struct Ours<'a> {
    container: Option<&'a Container>,
    pids: Option<Entry>,
    /// Namespaces that libcontainer enters.
    left: Vec<LinuxNamespace>,
}

/// A process on its way, as its worker sees it.
struct Child {
    pid: i32,
    receiver: MainReceiver,
    sender: InitSender,
}

impl Child {
    /// Clones it; there it does what `prepare` says, and goes on in libcontainer.
    fn clone(
        parts: Parts,
        kind: ContainerType,
        root: &Path,
        ours: Ours<'_>,
        prepare: impl FnOnce() -> Result<(), LaunchError>,
    ) -> Result<Self, LaunchError> {
        let (mut to_main, receiver) = main_channel().map_err(|error| failed(&error))?;
        let (sender, mut from_main) = init_channel().map_err(|error| failed(&error))?;
        let rlimits = parts.spec.process().as_ref().and_then(|process| process.rlimits().clone());
        let Ours { container, pids, left } = ours;
        let arguments = arguments(parts, kind, root, container, left)?;
        match clone_in(pids)? {
            Forked::Parent(pid) => {
                to_main.close().and_then(|()| from_main.close()).map_err(|error| failed(&error))?;
                Ok(Self { pid: pid.cast_signed(), receiver, sender })
            }
            Forked::Child => {
                sys::set_name(NAME);
                let all = AssertUnwindSafe(|| {
                    prepare()?;
                    set_rlimits(rlimits.as_deref().unwrap_or_default())?;
                    receiver.close().and_then(|()| sender.close()).map_err(|error| failed(&error))?;
                    // It lives under the container's own limits: what the node's are does not mend this.
                    container_init_process(&arguments, &mut to_main, &mut from_main)
                        .map_err(|error| LaunchError::Failed(causes(&error)))
                });
                let why = match catch_unwind(all) {
                    Ok(Ok(())) => "libcontainer came back".to_owned(),
                    Ok(Err(error)) => chain(&error),
                    Err(_) => "a panic".to_owned(),
                };
                if let Err(error) = to_main.exec_failed(why) {
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

/// What libcontainer is told, less what was done without it.
fn arguments(
    parts: Parts,
    container_type: ContainerType,
    root: &Path,
    container: Option<&Container>,
    left: Vec<LinuxNamespace>,
) -> Result<ContainerArgs, LaunchError> {
    let Parts { mut spec, executor, given, dir } = parts;
    spec.set_mounts(None);
    let mut linux = spec.linux().clone().ok_or(LaunchError::Plan("no linux section"))?;
    linux.set_namespaces(Some(left)).set_uid_mappings(None).set_gid_mappings(None).set_time_offsets(None);
    spec.set_linux(Some(linux));
    let (streams, console_socket) = match given {
        Given::Streams(streams) => (Some(streams), None),
        Given::Terminal(socket) => (None, Some(socket.into_raw_fd())),
    };
    let [stdin, stdout, stderr] = match streams {
        Some(streams) => streams.map(|stream| Some(stream.into_raw_fd())),
        None => [None; 3],
    };
    Ok(ContainerArgs {
        container_type,
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: root.to_owned(),
        console_socket,
        notify_listener: NotifyListener::new(&dir.join(start::NOTIFY_FILE))
            .map_err(|error| failed(&error))?,
        preserve_fds: 0,
        container: container.cloned(),
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
