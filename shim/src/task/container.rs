//! A container, and what belongs to it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bulkhead_cgroup::Cgroup;
use bulkhead_model::ContainerId;
use containerd_shim_protos::{
    api::Status,
    protobuf::{MessageField, well_known_types::timestamp::Timestamp},
};

use super::{
    Process, TaskError,
    denied::Denied,
    oom::{OomCount, OomWatch},
    pins::Pins,
};
use crate::{
    server::{Exit, Publisher},
    stages::Admitted,
};

/// A container that was created.
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Its bundle, as containerd named it.
    pub(crate) bundle: String,
    /// What the stages made of it.
    pub(crate) admitted: Admitted,
    /// Its control group.
    pub(crate) cgroup: Cgroup,
    /// Its derived files.
    pub(crate) task_dir: PathBuf,
    /// Its first process.
    pub(crate) init: Arc<Process>,
    /// One change of state at a time: start, exec, pause, update, delete.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Calls that it was denied.
    pub(crate) denied: Arc<Denied>,
    /// Files that the Landlock rules of its processes are for.
    pub(crate) pins: Pins,
    /// Kills for want of memory that were told.
    pub(crate) ooms: Arc<OomCount>,
    oom_watch: Mutex<Option<OomWatch>>,
    lifecycle: Mutex<Lifecycle>,
}

#[derive(Default)]
struct Lifecycle {
    execs: HashMap<String, Arc<Process>>,
    /// Execs that were started and have not ended.
    running_execs: usize,
    /// The end of init, while execs are still to end.
    init_exit: Option<Exit>,
    /// Whether init has been reaped: no exec may start any more.
    init_gone: bool,
    paused: bool,
    /// Whether init was sent SIGKILL: it may not be frozen any more, or it would not die on cgroup v1.
    doomed: bool,
}

impl Container {
    /// A container whose init waits for Start.
    pub(crate) fn new(
        id: ContainerId,
        bundle: String,
        admitted: Admitted,
        cgroup: Cgroup,
        task_dir: PathBuf,
        init: Arc<Process>,
    ) -> Self {
        let denied = Arc::new(Denied::new(admitted.denied_file(), &task_dir));
        Self {
            id,
            bundle,
            admitted,
            cgroup,
            task_dir,
            init,
            changing: tokio::sync::Mutex::default(),
            denied,
            pins: Pins::default(),
            ooms: Arc::default(),
            oom_watch: Mutex::default(),
            lifecycle: Mutex::default(),
        }
    }

    /// Init where `exec_id` is empty, else that exec.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>, TaskError> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        let lifecycle = self.lifecycle();
        let process = lifecycle.execs.get(exec_id);
        process.cloned().ok_or_else(|| TaskError::NotFound(format!("process {exec_id} does not exist")))
    }

    /// Adds an exec.
    pub(crate) fn add_exec(&self, process: Process) -> Result<(), TaskError> {
        let mut lifecycle = self.lifecycle();
        if lifecycle.execs.contains_key(&process.exec_id) {
            return Err(TaskError::AlreadyExists(format!("id {}", process.exec_id)));
        }
        lifecycle.execs.insert(process.exec_id.clone(), Arc::new(process));
        Ok(())
    }

    /// Whether that exec is there.
    pub(crate) fn has_exec(&self, exec_id: &str) -> bool {
        self.lifecycle().execs.contains_key(exec_id)
    }

    /// Forgets an exec; not another of the same id, which may be there after a second Delete at the same time.
    pub(crate) fn remove_exec(&self, process: &Arc<Process>) {
        let mut lifecycle = self.lifecycle();
        if lifecycle.execs.get(&process.exec_id).is_some_and(|found| Arc::ptr_eq(found, process)) {
            lifecycle.execs.remove(&process.exec_id);
        }
    }

    /// Its processes. A worker is in the control group too while it launches one, and until it is gone: a child of
    /// this server that is neither init nor an exec is none of the container's.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, TaskError> {
        let mut pids = self.cgroup.procs().map_err(|error| TaskError::internal(&error))?;
        let server = std::process::id();
        pids.retain(|pid| {
            *pid == self.init.pid() || self.exec_of_pid(*pid).is_some() || parent_of(*pid) != Some(server)
        });
        Ok(pids)
    }

    /// The execs, by pid.
    pub(crate) fn exec_of_pid(&self, pid: u32) -> Option<String> {
        let lifecycle = self.lifecycle();
        lifecycle.execs.values().find(|process| process.pid() == pid).map(|process| process.exec_id.clone())
    }

    /// Whether an exec may be added or started now: one that joined a frozen control group would never answer.
    ///
    /// Source of the words: runc's shim, cmd/containerd-shim-runc-v2/process/init_state.go.
    pub(crate) fn takes_execs(&self) -> Result<(), TaskError> {
        let state = match self.init.status(self.is_paused()) {
            Status::PAUSED => "paused",
            Status::STOPPED => "stopped",
            _ => return Ok(()),
        };
        Err(TaskError::FailedPrecondition(format!("cannot exec in a {state} state")))
    }

    /// Counts an exec as running, unless init is gone.
    pub(crate) fn exec_begins(&self) -> Result<(), TaskError> {
        let mut lifecycle = self.lifecycle();
        if lifecycle.init_gone {
            let text = format!("container {} init process is not running", self.id);
            return Err(TaskError::FailedPrecondition(text));
        }
        lifecycle.running_execs += 1;
        Ok(())
    }

    /// An exec has ended, or never ran: the end of init, if it is to be told now.
    #[must_use]
    pub(crate) fn exec_ended(&self) -> Option<Exit> {
        let mut lifecycle = self.lifecycle();
        lifecycle.running_execs -= 1;
        if lifecycle.running_execs == 0 { lifecycle.init_exit.take() } else { None }
    }

    /// Init has ended: whether that is to be told now. If not, [`Self::exec_ended`] says when.
    #[must_use]
    pub(super) fn init_ended(&self, exit: Exit) -> bool {
        let mut lifecycle = self.lifecycle();
        let now = lifecycle.running_execs == 0;
        if !now {
            lifecycle.init_exit = Some(exit);
        }
        now
    }

    pub(super) fn init_is_gone(&self) {
        self.lifecycle().init_gone = true;
    }

    /// Watches it for as long as it is there.
    pub(crate) fn keep_watch(&self, watch: Option<OomWatch>) {
        *self.oom_watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    pub(super) fn check_ooms(&self, publisher: &Publisher) {
        let watch = self.oom_watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.ooms.check_after_end(&self.cgroup, self.id.as_str(), publisher, watch.as_ref());
    }

    /// Whether it is frozen.
    pub(crate) fn is_paused(&self) -> bool {
        self.lifecycle().paused
    }

    /// Notes that it is frozen, or no more.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.lifecycle().paused = paused;
    }

    /// Whether its init was sent SIGKILL.
    pub(crate) fn is_doomed(&self) -> bool {
        self.lifecycle().doomed
    }

    /// Notes that its init was sent SIGKILL.
    pub(crate) fn set_doomed(&self) {
        self.lifecycle().doomed = true;
    }

    fn lifecycle(&self) -> MutexGuard<'_, Lifecycle> {
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the worker of a launch is still in this group. One launch at a time is under way in a container.
pub(crate) fn has_worker(cgroup: &Cgroup) -> bool {
    let server = std::process::id();
    let worker = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| bulkhead_launch::is_worker(&comm))
            && parent_of(*pid) == Some(server)
    };
    // A group that cannot be read is no proof.
    cgroup.procs().map_or(true, |pids| pids.iter().any(worker))
}

/// The parent of a process; none when it is gone.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A point in time in the protocol's form.
pub(crate) fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(at))
}
