//! Hooks of a container: programs that are told of its state, at six moments of its life.
//!
//! ```text
//! create   prestart, createRuntime      worker, the node's namespaces; the container's are there, its root not yet entered
//!          createContainer              the container's namespaces, the node's files still: before pivot_root
//! start    startContainer               the container's own process, confined as the program after it
//!          poststart                    worker, the node's namespaces, after execve(2) and before Start is answered
//! delete   poststop                     worker, the node's namespaces, when every process is dead; or containerd's `delete`
//! ```
//! A hook that fails, or is still there after its time, fails the create or start that it belongs to, and no further one
//! runs; of poststop all run, and what fails is said.
//!
//! Invariant: which may run was decided by `bulkhead_plan`; here nothing is added.
//!
//! Source: runtime-spec, config.md#posix-platform-hooks and runtime.md#lifecycle.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_model::ContainerId;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, killpg},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use oci_spec::runtime::{Hook, Hooks, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    LaunchError,
    error::chain,
    sys::{self, Forked},
    user_namespace::Inside,
};

/// How long a hook has that says nothing of it: no longer than Create and Start wait.
const UNSAID_SECONDS: u64 = 50;

/// So much of what a hook printed is told when it fails, in bytes.
const TOLD_BYTES_MAX: u64 = 300;

/// Where the hooks of a container are kept for whoever has to run its last ones without its server: its derived spec.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// What a hook reads on its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    oci_version: String,
    id: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    bundle: PathBuf,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
}

/// Source: runtime-spec, runtime.md#state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Stopped,
}

impl State {
    /// Of the container with that spec. Its bundle is its directory here: there its derived spec lies, and its root.
    pub(crate) fn new(spec: &Spec, id: &str, task_dir: &Path) -> Self {
        Self {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            status: Status::Creating,
            pid: None,
            bundle: task_dir.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        }
    }

    pub(crate) fn at(&self, status: Status, pid: Option<u32>) -> Self {
        Self { status, pid, ..self.clone() }
    }
}

/// A hook with all that it needs, so that nothing but its own start is left to do.
pub(crate) struct Prepared {
    hook: Hook,
    stdin: File,
    output: File,
}

impl Prepared {
    pub(crate) fn new(hook: &Hook, state: &State) -> Result<Self, LaunchError> {
        let text = serde_json::to_vec(state).map_err(LaunchError::Encode)?;
        // A file and no pipe: a hook that reads nothing holds up nobody.
        let mut stdin = memory(c"bulkhead-hook-state")?;
        stdin
            .write_all(&text)
            .and_then(|()| stdin.seek(SeekFrom::Start(0)))
            .map_err(LaunchError::io("write(2)", "state of a hook"))?;
        Ok(Self { hook: hook.clone(), stdin, output: memory(c"bulkhead-hook-output")? })
    }

    /// Runs it. `unsaid` is its environment where it names none.
    pub(crate) fn run(self, unsaid: &[String]) -> Result<(), String> {
        let Self { hook, stdin, mut output } = self;
        let path = hook.path();
        let wrong =
            |what: &str, error: &dyn std::error::Error| format!("{}: {what}: {error}", path.display());
        let copy = |file: &File| file.try_clone().map_err(|error| wrong("dup(2)", &error));
        let mut command = Command::new(path);
        let args = hook.args().as_deref().unwrap_or_default();
        if let Some((name, rest)) = args.split_first() {
            command.arg0(name).args(rest);
        }
        command.env_clear();
        let env = hook.env().as_deref().unwrap_or(unsaid);
        command.envs(env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, ""))));
        command.stdin(stdin).stdout(copy(&output)?).stderr(copy(&output)?);
        // Of a group of its own, which ends with it.
        command.process_group(0);
        let seconds = seconds(&hook);
        let mut child = command.spawn().map_err(|error| wrong("execve(2)", &error))?;
        let ended = ends_within(child.id(), Duration::from_secs(seconds));
        if !matches!(ended, Ok(true)) {
            killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL)
                .map_err(|error| wrong("kill(2)", &error))?;
        }
        let status = child.wait().map_err(|error| wrong("wait4(2)", &error))?;
        match ended {
            Ok(true) if status.success() => Ok(()),
            Ok(true) => Err(format!("{}: {status}{}", path.display(), said(&mut output))),
            Ok(false) => {
                Err(format!("{}: still there after {} s{}", path.display(), seconds, said(&mut output)))
            }
            Err(error) => Err(wrong("poll(2)", &error)),
        }
    }
}

/// How long the hooks of a moment may take, all of them together.
#[must_use]
#[allow(deprecated)] // `prestart` is what the NVIDIA toolkit and others still send.
pub fn hooks_may_take(hooks: Option<&Hooks>, moment: HookMoment) -> Duration {
    let Some(hooks) = hooks else { return Duration::ZERO };
    let lists = match moment {
        HookMoment::Create => [hooks.prestart(), hooks.create_runtime(), hooks.create_container()],
        HookMoment::Start => [hooks.start_container(), &None, &None],
        HookMoment::Started => [hooks.poststart(), &None, &None],
        HookMoment::Stopped => [hooks.poststop(), &None, &None],
    };
    let all = lists.into_iter().flatten().flatten();
    Duration::from_secs(all.map(seconds).fold(0, u64::saturating_add))
}

/// When hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMoment {
    /// On the way to a container that waits for Start.
    Create,
    /// In the container, before its program.
    Start,
    /// After its program has been started.
    Started,
    /// After its end.
    Stopped,
}

/// How long one may take.
fn seconds(hook: &Hook) -> u64 {
    hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(UNSAID_SECONDS)
}

/// Runs hooks one after the other up to the first that fails.
pub(crate) fn run(kind: &str, hooks: Option<&Vec<Hook>>, state: &State) -> Result<(), LaunchError> {
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        Prepared::new(hook, state)?
            .run(&[])
            .map_err(|why| LaunchError::Failed(format!("hooks.{kind}[{index}] {why}")))?;
    }
    Ok(())
}

/// Runs all hooks of a container that has stopped: what failed.
pub(crate) fn run_each(hooks: Option<&Vec<Hook>>, state: &State) -> Vec<String> {
    let each = hooks.into_iter().flatten().enumerate();
    each.filter_map(|(index, hook)| {
        let done = Prepared::new(hook, state).map_err(|error| error.to_string());
        let done = done.and_then(|prepared| prepared.run(&[]));
        done.err().map(|why| format!("hooks.poststop[{index}] {why}"))
    })
    .collect()
}

/// Runs the hooks that come after Start, of the container whose first process that is.
pub(crate) fn run_poststart(task_dir: &Path, id: &str, pid: u32) -> Result<(), LaunchError> {
    let spec =
        read_config(task_dir)?.ok_or(LaunchError::Plan("a container with hooks has no config.json"))?;
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    run("poststart", hooks, &State::new(&spec, id, task_dir).at(Status::Running, Some(pid)))
}

/// Runs the last hooks of a container whose processes are dead: what failed. Once: what says which they are goes with them.
#[must_use]
pub fn run_poststop(task_dir: &Path, id: &ContainerId) -> Vec<String> {
    let spec = match read_config(task_dir) {
        // Only a container with hooks has it.
        Ok(None) => return Vec::new(),
        Ok(Some(spec)) => spec,
        Err(error) => return vec![chain(&error)],
    };
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let state = State::new(&spec, id.as_str(), task_dir).at(Status::Stopped, None);
    let mut problems = run_each(hooks, &state);
    let config = task_dir.join(CONFIG_FILE);
    problems.extend(
        fs::remove_file(&config).err().map(|error| format!("unlink(2) {}: {error}", config.display())),
    );
    problems
}

/// Whether the container of that directory has hooks.
#[must_use]
pub fn has_hooks(task_dir: &Path) -> bool {
    task_dir.join(CONFIG_FILE).exists()
}

fn read_config(task_dir: &Path) -> Result<Option<Spec>, LaunchError> {
    let config = task_dir.join(CONFIG_FILE);
    match fs::read(&config) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(LaunchError::Encode),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LaunchError::io("read(2)", config.display().to_string())(error)),
    }
}

fn memory(name: &std::ffi::CStr) -> Result<File, LaunchError> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(LaunchError::io("memfd_create(2)", "hook"))
}

/// Whether this process's child ends in that time.
fn ends_within(pid: u32, at_most: Duration) -> std::io::Result<bool> {
    let pidfd = sys::pidfd_open(pid)?;
    let deadline = std::time::Instant::now() + at_most;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The beginning of what it printed, on one line.
fn said(output: &mut File) -> String {
    let mut text = Vec::new();
    let read =
        output.seek(SeekFrom::Start(0)).and_then(|_| output.take(TOLD_BYTES_MAX).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match (read, text.trim()) {
        (Err(error), _) => format!("; what it said is lost: {error}"),
        (Ok(_), "") => String::new(),
        (Ok(_), said) => format!(": {}", said.escape_debug()),
    }
}

/// Whether hooks of a create are among them: those for which the first process stops on its way.
#[allow(deprecated)] // `prestart` is what the NVIDIA toolkit and others still send.
pub(crate) fn stop_create(hooks: &Hooks) -> bool {
    [hooks.prestart(), hooks.create_runtime(), hooks.create_container()]
        .into_iter()
        .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}

/// Runs those of a create, of a container whose first process waits for them in its namespaces, not yet in its root.
#[allow(deprecated)] // As above.
pub(crate) fn run_of_create(
    hooks: &Hooks,
    state: &State,
    pid: i32,
    inside: Option<&Inside>,
) -> Result<(), LaunchError> {
    run("prestart", hooks.prestart().as_ref(), state)?;
    run("createRuntime", hooks.create_runtime().as_ref(), state)?;
    match hooks.create_container().as_ref().filter(|list| !list.is_empty()) {
        Some(list) => run_inside(pid, || {
            // Where its namespaces belong to that of its users, it is their root.
            if let Some(inside) = inside.filter(|inside| inside.has_namespaces()) {
                inside.become_root().map_err(LaunchError::Failed)?;
            }
            run("createContainer", Some(list), state)
        }),
        None => Ok(()),
    }
}

/// Does something in the namespaces of a process, in a child that ends with it: this one stays where it is.
fn run_inside(pid: i32, work: impl FnOnce() -> Result<(), LaunchError>) -> Result<(), LaunchError> {
    let target =
        sys::pidfd_open(pid.cast_unsigned()).map_err(LaunchError::io("pidfd_open(2)", "first process"))?;
    let (mut reader, mut writer) = std::io::pipe().map_err(LaunchError::io("pipe2(2)", "hooks"))?;
    match sys::fork().map_err(LaunchError::io("fork(2)", "hooks"))? {
        Forked::Child => {
            drop(reader);
            let done =
                setns(&target, INSIDE).map_err(LaunchError::io("setns(2)", "hooks")).and_then(|()| work());
            let said = done.err().map_or(Ok(()), |error| writer.write_all(chain(&error).as_bytes()));
            sys::exit_now(i32::from(said.is_err()))
        }
        Forked::Parent(child) => {
            drop(writer);
            let mut why = String::new();
            let read = reader.read_to_string(&mut why);
            let ended = waitpid(Pid::from_raw(child.cast_signed()), None);
            read.map_err(LaunchError::io("read(2)", "hooks"))?;
            match ended.map_err(LaunchError::io("waitpid(2)", "hooks"))? {
                WaitStatus::Exited(_, 0) if why.is_empty() => Ok(()),
                WaitStatus::Exited(_, 0) => Err(LaunchError::Failed(why)),
                ended => Err(LaunchError::Failed(format!("hooks.createContainer: {ended:?}"))),
            }
        }
    }
}

/// All but the user namespace, which a container's process enters last.
const INSIDE: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP)
    .union(CloneFlags::CLONE_NEWPID);
