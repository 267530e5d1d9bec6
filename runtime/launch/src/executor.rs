//! The last steps of a container's process, init and exec alike: everything that can fail is prepared, then it
//! waits, confines itself, is looked at from outside, and calls execve(2).

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    rc::Rc,
};

use bulkhead_model::{ConfineSpec, ImageAccess, MountRoots};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::{Hook, Spec};

use crate::{
    confinement::Prepared,
    error::chain,
    hooks::{self, State, Status},
    label,
    lookup::{NoProgram, Program},
    message::{self, CONFINED, GO, LISTENER},
    scarcity::in_container,
    stdio::open_null_for_both,
    sys::{self, terminal},
    user_namespace::Inside,
};

/// What runs in the container's process after libcontainer is done with it. libcontainer wants it cloneable;
/// all clones are the same one.
#[derive(Clone)]
pub(crate) struct Confined {
    confine: Rc<ConfineSpec>,
    reply: Rc<OwnedFd>,
    proc: Option<Rc<OwnedFd>>,
    inside: Option<Inside>,
    hooks: Rc<(Vec<Hook>, Option<State>)>,
    init: Option<PathBuf>,
    /// Whether its standard streams are a terminal that is to be its session's.
    terminal: bool,
    roots: Rc<RefCell<MountRoots>>,
    ready: Rc<RefCell<Option<Ready>>>,
}

/// All that was prepared.
struct Ready {
    confinement: Prepared,
    program: Program,
    hooks: Vec<hooks::Prepared>,
}

/// A failure with errno where there is one.
struct Failure {
    errno: Option<i32>,
    message: String,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { errno: None, message }
    }
}

impl From<NoProgram> for Failure {
    fn from(error: NoProgram) -> Self {
        Self { errno: Some(error.errno), message: error.message }
    }
}

impl Confined {
    pub(crate) fn new(
        confine: ConfineSpec,
        reply: Rc<OwnedFd>,
        proc: Option<Rc<OwnedFd>>,
        inside: Option<Inside>,
    ) -> Self {
        let (hooks, roots, ready) = (Rc::default(), Rc::default(), Rc::default());
        Self {
            confine: Rc::new(confine),
            reply,
            proc,
            inside,
            hooks,
            init: None,
            terminal: false,
            roots,
            ready,
        }
    }

    /// With its program run by the small init at that place, if at one.
    pub(crate) fn under(self, init: Option<PathBuf>) -> Self {
        Self { init, ..self }
    }

    /// With standard streams that are a terminal, which no session has yet.
    pub(crate) fn takes_terminal(&mut self) {
        self.terminal = true;
    }

    /// Where the container's mounts are; to be filled in before libcontainer takes over.
    pub(crate) fn roots(&self) -> Rc<RefCell<MountRoots>> {
        Rc::clone(&self.roots)
    }

    /// With hooks that run right before its program, confined as that.
    pub(crate) fn after(self, hooks: Vec<Hook>, state: State) -> Self {
        Self { hooks: Rc::new((hooks, Some(state))), ..self }
    }

    /// They are told the pid that the process has in its own namespace, as by runc.
    fn prepare_hooks(&self) -> Result<Vec<hooks::Prepared>, String> {
        let (hooks, Some(state)) = &*self.hooks else { return Ok(Vec::new()) };
        let state = state.at(Status::Created, Some(std::process::id()));
        let prepared = hooks.iter().map(|hook| hooks::Prepared::new(hook, &state));
        prepared.collect::<Result<_, _>>().map_err(|error| chain(&error))
    }

    /// Tells the server why; what libcontainer makes of the same error comes later and says less.
    fn report(&self, failure: &Failure) {
        let text = message::failed(failure.errno, &failure.message);
        if let Err(error) = message::send(self.reply.as_fd(), &text, &[]) {
            tracing::error!(%error, "a failure could not be reported");
        }
    }

    fn prepare(&self, spec: &Spec) -> Result<(), Failure> {
        // First: a change of ids takes the death signal back.
        if let Some(inside) = &self.inside {
            inside.enter(self.confine.credentials())?;
        }
        // The server is this process's parent: without it nobody could say go.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _)
            .map_err(|error| format!("prctl(2) PR_SET_PDEATHSIG: {error}"))?;
        // A change of ids sets this to what the sysctl fs.suid_dumpable says.
        sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(|error| format!("prctl(2) PR_SET_DUMPABLE: {error}"))?;
        if let Some(label) = self.confine.selinux_label() {
            let proc = self.proc.as_ref().ok_or_else(|| "the node's /proc is not at hand".to_owned())?;
            label::at_execve(proc, label)?;
        }
        let process = spec.process().as_ref().ok_or_else(|| "no process".to_owned())?;
        if self.terminal {
            // libcontainer has made it the leader of a session.
            terminal::take(std::io::stdin().as_fd())
                .map_err(|error| format!("ioctl(2) TIOCSCTTY: {error}"))?;
        }
        open_null_for_both().map_err(|error| in_container("/dev/null for a standard stream", &error))?;
        let program = match &self.init {
            None => Program::of(process)?,
            Some(init) => Program::of(process)?.under(init)?,
        };
        let mut confinement = Prepared::new(&self.confine, &self.roots.borrow())?;
        let hooks = self.prepare_hooks()?;
        // Everything from 3 on goes at execve(2), whatever libcontainer left open.
        sys::close_on_exec_from(3).map_err(|error| format!("close_range(2): {error}"))?;
        let pidfd = sys::pidfd_open(std::process::id()).map_err(|error| format!("pidfd_open(2): {error}"))?;
        let pins = confinement.take_pins();
        let held: Vec<_> = std::iter::once(&pidfd).chain(&pins).map(AsFd::as_fd).collect();
        message::send(self.reply.as_fd(), b"P", &held).map_err(|error| error.to_string())?;
        *self.ready.borrow_mut() = Some(Ready { confinement, program, hooks });
        Ok(())
    }

    /// Returns only on failure. `socket` is the reply socket.
    fn go(&self, socket: &mut UnixStream) -> Failure {
        let Some(Ready { confinement, program, hooks }) = self.ready.borrow_mut().take() else {
            return "exec before validate".to_owned().into();
        };
        // execve(2) keeps the death signal; a container must not get one from its runtime.
        if let Err(error) = sys::prctl(libc::PR_SET_PDEATHSIG, 0) {
            return format!("prctl(2) PR_SET_PDEATHSIG: {error}").into();
        }
        let listener = |listener: BorrowedFd<'_>| {
            message::send(socket.as_fd(), LISTENER, &[listener]).map_err(std::io::Error::other)
        };
        if let Err(error) = confinement.enforce(listener) {
            return error.into();
        }
        // From here on the process lives under its own profile: write(2), read(2) and execve(2) only.
        if let Err(error) = socket.write_all(CONFINED) {
            return format!("write(2) of reply socket: {error}").into();
        }
        let mut answer = [0; 1];
        match socket.read(&mut answer) {
            Ok(1) if answer == GO => {}
            Ok(_) => return "the server did not agree to the process as it is".to_owned().into(),
            Err(error) => return format!("read(2) of reply socket: {error}").into(),
        }
        if let Err(why) = run_hooks(hooks, &program) {
            return why.into();
        }
        let error = sys::execve(&program.path, &program.argv, &program.envp);
        let name = program.path.to_string_lossy();
        let why = match error.raw_os_error() {
            Some(libc::EACCES) if told_one_by_one(&self.confine) => {
                "permission denied: by landlock.files of the policy only what the command and `exec` need may run"
                    .to_owned()
            }
            Some(libc::EACCES) => "permission denied".to_owned(),
            Some(libc::ENOENT) => "no such file or directory".to_owned(),
            Some(libc::ENOEXEC) => "exec format error".to_owned(),
            _ => error.to_string(),
        };
        Failure { errno: error.raw_os_error(), message: format!("exec {name}: {why}") }
    }
}

/// Programs of the container's own, with its environment where they name none.
fn run_hooks(hooks: Vec<hooks::Prepared>, program: &Program) -> Result<(), String> {
    let environment =
        || program.envp.iter().map(|entry| entry.to_string_lossy().into_owned()).collect::<Vec<_>>();
    for (index, hook) in hooks.into_iter().enumerate() {
        hook.run(&environment()).map_err(|why| format!("hooks.startContainer[{index}] {why}"))?;
    }
    Ok(())
}

fn told_one_by_one(confine: &ConfineSpec) -> bool {
    confine.hardened().is_some_and(|spec| matches!(spec.landlock.image, ImageAccess::Files(_)))
}

impl Executor for Confined {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.prepare(spec).map_err(|failure| {
            self.report(&failure);
            ExecutorValidationError::ArgValidationError(failure.message)
        })
    }

    /// The environment goes straight to execve(2): this process keeps none of it.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let mut socket = match self.reply.try_clone() {
            Ok(socket) => UnixStream::from(socket),
            Err(error) => return Err(ExecutorError::Other(format!("dup(2) of reply socket: {error}"))),
        };
        let failure = self.go(&mut socket);
        // By write(2), not sendmsg(2): the profile may be in force already. Closing would be one call more.
        let sent = socket.write_all(&message::failed(failure.errno, &failure.message));
        std::mem::forget(socket);
        match sent {
            Ok(()) => Err(ExecutorError::Other(failure.message)),
            Err(error) => Err(ExecutorError::Other(format!("{}; not reported: {error}", failure.message))),
        }
    }
}
