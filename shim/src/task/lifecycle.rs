//! What is done to a container that is there: signals, pause, update, delete.

use std::time::Duration;

use bulkhead_cgroup::{Cgroup, CgroupError, waits};
use containerd_shim_protos::{
    api::{DeleteResponse, KillRequest, Status, UpdateTaskRequest},
    events::task::{TaskDelete, TaskPaused, TaskResumed},
};
use tokio::time::{sleep, timeout};

use super::{Container, Process, TaskError, Tasks, container::timestamp, error::chain, leftovers};
use crate::server::Exit;

/// How long a container that was never started may take to die.
const KILL_MS: u64 = 10_000;

/// Sends a signal to one process, or to all of the container.
pub(crate) async fn kill(container: &Container, request: &KillRequest) -> Result<(), TaskError> {
    let signal = i32::try_from(request.signal)
        .map_err(|_| TaskError::InvalidArgument(format!("signal {}", request.signal)))?;
    let process = container.process(&request.exec_id)?;
    if signal == libc::SIGKILL && process.is_init() {
        // Before it is sent: a pause that is under way sees it.
        container.set_doomed();
    }
    if request.all && process.is_init() {
        return kill_all(container, signal);
    }
    process.signal(signal)?;
    // A frozen process of cgroup v1 dies only when it is thawed.
    if signal == libc::SIGKILL && process.is_init() && container.is_paused() {
        container.cgroup.thaw().map_err(|error| TaskError::internal(&error))?;
        container.set_paused(false);
    }
    Ok(())
}

/// To every process of the control group.
fn kill_all(container: &Container, signal: i32) -> Result<(), TaskError> {
    if signal == libc::SIGKILL {
        return container.cgroup.kill_all().map_err(|error| TaskError::internal(&error));
    }
    for pid in container.cgroup.procs().map_err(|error| TaskError::internal(&error))? {
        crate::sys::send_signal_to(pid, signal).map_err(|error| TaskError::internal(&error))?;
    }
    Ok(())
}

/// Freezes the container.
pub(crate) async fn pause(tasks: &Tasks, container: &Container) -> Result<(), TaskError> {
    let _one_change = container.changing.lock().await;
    match container.init.status(container.is_paused()) {
        Status::RUNNING => {}
        Status::PAUSED => {
            return Err(TaskError::FailedPrecondition("container is already paused".to_owned()));
        }
        _ => return Err(not_running()),
    }
    if container.is_doomed() {
        return Err(not_running());
    }
    freeze(&container.cgroup).await.map_err(|error| TaskError::internal(&error))?;
    if container.is_doomed() {
        // Killed meanwhile.
        container.cgroup.thaw().map_err(|error| TaskError::internal(&error))?;
        return Err(not_running());
    }
    container.set_paused(true);
    let mut event = TaskPaused::new();
    event.container_id = container.id.to_string();
    tasks.publisher().publish(event);
    Ok(())
}

fn not_running() -> TaskError {
    TaskError::FailedPrecondition("container is not running".to_owned())
}

/// Waits until every process stands still; if one does not, all go on.
async fn freeze(cgroup: &Cgroup) -> Result<(), CgroupError> {
    for wait in waits() {
        if cgroup.try_freeze()? {
            return Ok(());
        }
        sleep(wait).await;
    }
    cgroup.thaw()?;
    Err(cgroup.busy("does not freeze"))
}

/// Thaws it.
pub(crate) async fn resume(tasks: &Tasks, container: &Container) -> Result<(), TaskError> {
    let _one_change = container.changing.lock().await;
    if container.init.status(container.is_paused()) != Status::PAUSED {
        return Err(TaskError::FailedPrecondition("container is not paused".to_owned()));
    }
    container.cgroup.thaw().map_err(|error| TaskError::internal(&error))?;
    container.set_paused(false);
    let mut event = TaskResumed::new();
    event.container_id = container.id.to_string();
    tasks.publisher().publish(event);
    Ok(())
}

/// Changes its limits.
pub(crate) async fn update(
    tasks: &Tasks,
    container: &Container,
    request: &UpdateTaskRequest,
) -> Result<(), TaskError> {
    let _one_change = container.changing.lock().await;
    if container.init.status(container.is_paused()) == Status::STOPPED {
        return Err(not_running());
    }
    // An object: serde takes a list for a struct as well.
    let resources = serde_json::from_slice::<serde_json::Map<_, _>>(&request.resources.value)
        .and_then(|fields| serde_json::from_value::<oci_spec::runtime::LinuxResources>(fields.into()))
        .map_err(|error| TaskError::InvalidArgument(format!("resources: {error}")))?;
    let resources = container.admitted.admit_update(&resources)?;
    if container.cgroup.is_systemds() {
        let (zygote, path) = (tasks.stages().zygote(), container.admitted.cgroup_path());
        let done = leftovers::group_changed(zygote.update_group(path, &resources)).await;
        return done.map_err(|error| TaskError::internal(&error));
    }
    container.cgroup.update(&resources).map_err(|error| match error {
        // Values of the caller's that this host or the kernel cannot take: the text says which and what to do.
        CgroupError::Refused { .. } | CgroupError::Unsupported { .. } | CgroupError::NoController { .. } => {
            TaskError::InvalidArgument(chain(&error))
        }
        broken => TaskError::internal(&broken),
    })
}

/// Deletes an exec that is not running, or the container.
pub(crate) async fn delete(
    tasks: &Tasks,
    container: &Container,
    exec_id: &str,
) -> Result<DeleteResponse, TaskError> {
    let process = container.process(exec_id)?;
    // The reader of an exec that has ended may be slow: nothing else of the container waits for it.
    if !process.is_init() && process.status(container.is_paused()) == Status::STOPPED {
        process.take_rest().drain().await;
    }
    let _one_change = container.changing.lock().await;
    if process.is_init() {
        return delete_container(tasks, container).await;
    }
    if matches!(process.status(container.is_paused()), Status::RUNNING | Status::PAUSED) {
        return Err(running());
    }
    // Where it ended while this waited for its turn.
    process.take_rest().drain().await;
    container.remove_exec(&process);
    Ok(response(&process, process.exited()))
}

async fn delete_container(tasks: &Tasks, container: &Container) -> Result<DeleteResponse, TaskError> {
    let init = &container.init;
    let exit = match init.status(container.is_paused()) {
        Status::STOPPED => init.exited(),
        Status::CREATED => Some(never_started(init).await?),
        _ => return Err(running()),
    };
    init.take_rest().drain().await;
    container.keep_watch(None);
    let (zygote, admitted) = (tasks.stages().zygote(), &container.admitted);
    let problems = leftovers::take_back_later(zygote, admitted, &container.cgroup, &container.task_dir).await;
    container.admitted.release_ids(problems.is_empty());
    for problem in problems {
        tracing::error!(problem, id = %container.id, "a container leaves something behind");
    }
    tasks.remove(container.id.as_str());
    let response = response(init, exit);
    let mut event = TaskDelete::new();
    event.container_id = container.id.to_string();
    event.pid = response.pid;
    event.exit_status = response.exit_status;
    event.exited_at = response.exited_at.clone();
    tasks.publisher().publish(event);
    Ok(response)
}

/// Ends a process that waits at its gate.
async fn never_started(init: &Process) -> Result<Exit, TaskError> {
    match init.signal(libc::SIGKILL) {
        Ok(()) | Err(TaskError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    match timeout(Duration::from_millis(KILL_MS), init.wait()).await {
        Ok(Some(exit)) => Ok(exit),
        Ok(None) | Err(_) => Err(TaskError::Internal(format!("process {} does not die", init.pid()))),
    }
}

fn running() -> TaskError {
    TaskError::FailedPrecondition("cannot delete a running process".to_owned())
}

fn response(process: &Process, exit: Option<Exit>) -> DeleteResponse {
    let mut response = DeleteResponse::new();
    response.pid = process.pid();
    if let Some(exit) = exit {
        response.exit_status = exit.status;
        response.exited_at = timestamp(exit.at);
    }
    response
}
