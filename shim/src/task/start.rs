//! Start: the gate opens, the process confines itself, the server looks, the process goes.
//!
//! ```text
//! gate ─release─► confines itself ─"confined"─► server reads /proc/<pid>/status ─┬─ as planned ─► "go" ─► execve(2)
//!                                                                                └─ not so ─► killed, call fails
//! ```
//! The look itself is `bulkhead_launch`'s, inside `try_running`; here is what surrounds it.
//!
//! Invariant: a start that has begun is carried to its end even if the caller goes away.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use bulkhead_launch::{ExecJob, Gate, HookMoment, PendingStart, Running, StartError};
use bulkhead_model::ConfineSpec;
use bulkhead_plan::ExecPlan;
use containerd_shim_protos::events::task::{TaskExecStarted, TaskStart};
use tokio::time::timeout;

use super::{
    Container, Process, TaskError, Tasks,
    container::has_worker,
    create::{kill, readable},
    denied::Teller,
    leftovers, oom,
    process::Waiting,
    stdio::{Addresses, Role, Streams},
};
use crate::server::{Launching, Owner};

/// How long a process may take from its gate to execve(2).
const START_MS: u64 = 60_000;

/// Starts init or an exec and returns its pid.
pub(crate) async fn start(
    tasks: Arc<Tasks>,
    container: Arc<Container>,
    process: Arc<Process>,
) -> Result<u32, TaskError> {
    // In a task of its own: the caller's deadline ends the call, not the start.
    let started = tokio::spawn(async move {
        let _one_change = container.changing.lock().await;
        if !process.is_init() {
            container.takes_execs()?;
        }
        match process.begin_start()? {
            Waiting::Init(gate) => start_init(&tasks, &container, &process, gate).await,
            Waiting::Exec(plan) => start_exec(&tasks, &container, &process, &plan).await,
        }
    });
    started.await.map_err(|error| TaskError::Internal(format!("start: {error}")))?
}

async fn start_init(
    tasks: &Tasks,
    container: &Container,
    process: &Process,
    gate: Gate,
) -> Result<u32, TaskError> {
    let running = match gate.release() {
        Ok(pending) => {
            let confine = container.admitted.plan().confine();
            running(tasks, pending, &mut tasks.reaper().launching(), container, confine).await
        }
        Err(error) => Err(error.into()),
    };
    let pid = process.pid();
    let running = match running {
        Ok(_) => first_hooks(tasks, container, pid).await,
        Err(error) => Err(error),
    };
    let answer = match running {
        Ok(()) => {
            watch_memory(tasks, container);
            let mut event = TaskStart::new();
            event.container_id = container.id.to_string();
            event.pid = pid;
            tasks.publisher().publish(event);
            Ok(pid)
        }
        Err(error) => {
            // It is dead already, or will be by this; its exit is told by the reaper.
            match process.signal(libc::SIGKILL) {
                Ok(()) | Err(TaskError::NotFound(_)) => {}
                Err(error) => tracing::error!(%error, "a process that failed to start could not be killed"),
            }
            Err(failure(&error))
        }
    };
    if let Some(exit) = process.started() {
        tasks.tell_exit(container, process, exit);
    }
    answer
}

/// Runs the hooks that come after Start: if one fails, the start has failed.
async fn first_hooks(tasks: &Tasks, container: &Container, pid: u32) -> Result<(), StartError> {
    let Some(time) = container.admitted.hooks(HookMoment::Started) else { return Ok(()) };
    let ticket = tasks.stages().zygote().poststart(&container.id, &container.task_dir, pid);
    Ok(leftovers::hooks_done(ticket, time).await?)
}

/// A container that cannot be watched runs all the same: the kernel keeps the limit.
fn watch_memory(tasks: &Tasks, container: &Container) {
    match oom::watch(&container.cgroup, container.id.as_str(), &container.ooms, tasks.publisher()) {
        Ok(watch) => container.keep_watch(watch),
        Err(error) => {
            tracing::warn!(%error, id = %container.id, "kills for want of memory are told at exit only")
        }
    }
}

async fn start_exec(
    tasks: &Tasks,
    container: &Arc<Container>,
    process: &Arc<Process>,
    plan: &ExecPlan,
) -> Result<u32, TaskError> {
    let begun = container.exec_begins();
    let counted = begun.is_ok();
    let launched = match begun {
        Ok(()) => launch_exec(tasks, container, process, plan).await,
        Err(error) => Err(error),
    };
    match launched {
        Ok(pid) => {
            let mut event = TaskExecStarted::new();
            event.container_id = container.id.to_string();
            event.exec_id.clone_from(&process.exec_id);
            event.pid = pid;
            tasks.publisher().publish(event);
            if let Some(exit) = process.started() {
                tasks.tell_exit(container, process, exit);
            }
            Ok(pid)
        }
        Err(error) => {
            process.never_ran();
            if counted {
                tasks.exec_never_ran(container);
            }
            Err(error)
        }
    }
}

async fn launch_exec(
    tasks: &Tasks,
    container: &Arc<Container>,
    process: &Arc<Process>,
    plan: &ExecPlan,
) -> Result<u32, TaskError> {
    let addresses = Addresses::of(&process.paths, tasks.whose_streams(Role::Exec, &process.exec_id))?;
    let exec = process.exec_id.parse().map_err(|error| TaskError::InvalidArgument(format!("id: {error}")))?;
    let init_pidfd = container.init.pidfd()?;
    let mut launching = tasks.reaper().launching();
    let pending = {
        let job = ExecJob {
            container: &container.id,
            exec: &exec,
            task_dir: &container.task_dir,
            init_pid: container.init.pid(),
            init_pidfd: init_pidfd.as_fd(),
            plan,
            cgroup: container.admitted.cgroup_path(),
            stdio: &addresses.stdio,
        };
        tasks.stages().zygote().exec(&job).map_err(|error| TaskError::internal(&error))?
    };
    let running = running(tasks, pending, &mut launching, container, plan.confine()).await;
    let running = running.map_err(|error| failure(&error))?;
    let Some(pidfd) = running.pidfd else {
        return Err(TaskError::Internal("an exec came back without its pidfd".to_owned()));
    };
    let streams =
        Streams::new(running.kept, &addresses, tasks.streams()).inspect_err(|_| kill(pidfd.as_fd()))?;
    process.set_process(running.pid, pidfd, streams);
    container.pins.keep(running.pins);
    let owner = Owner { container: Arc::clone(container), process: Arc::clone(process) };
    if let Some(exit) = launching.claim(running.pid, owner.clone()) {
        tasks.exited(&owner, exit);
    }
    Ok(running.pid)
}

async fn running(
    tasks: &Tasks,
    mut pending: PendingStart,
    launching: &mut Launching<'_>,
    container: &Container,
    confine: &ConfineSpec,
) -> Result<Running, StartError> {
    let run = async {
        loop {
            let running = pending.try_running()?;
            // At once: what is denied before execve(2) waits for an answer too.
            if let (Some(listener), Some(spec)) = (pending.take_listener(), confine.hardened()) {
                let teller = Teller { id: container.id.to_string(), publisher: tasks.publisher().clone() };
                container.denied.serve(listener, spec.seccomp.first().cloned().unwrap_or_default(), teller);
            }
            if let Some(running) = running {
                return Ok(running);
            }
            tokio::select! {
                ready = readable(&pending) => ready?,
                // As at Create: the process holds the reply socket too.
                () = launching.doubts() => if pending.waits_for_worker() && !has_worker(&container.cgroup) {
                    let late = pending.try_running()?;
                    return late.ok_or_else(|| pending.give_up());
                }
            }
        }
    };
    let at_most =
        Duration::from_millis(START_MS) + container.admitted.hooks(HookMoment::Start).unwrap_or_default();
    match timeout(at_most, run).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("not started after {} ms", at_most.as_millis());
            Err(StartError::Exec { errno: None, message })
        }
    }
}

fn failure(error: &StartError) -> TaskError {
    match error {
        StartError::Launch(error) => TaskError::internal(error),
        StartError::NotConfined { .. } | StartError::Exec { .. } => TaskError::Internal(error.to_string()),
    }
}
