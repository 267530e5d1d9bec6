//! Exec: one more process for a container, through the same gates, waiting for its Start.

use bulkhead_model::{ContainerId, ExecRequest, Interaction};
use containerd_shim_protos::{api::ExecProcessRequest, events::task::TaskExecAdded};

use super::{
    Container, Process, TaskError, Tasks,
    process::{StdioPaths, Waiting},
    stdio::{Addresses, Role},
};

/// Largest process document accepted, in bytes: what containerd accepts as a message.
///
/// Source: `messageLengthMax`, containerd/ttrpc channel.go.
const PROCESS_BYTES_MAX: usize = 4 << 20;

/// Adds the exec.
pub(crate) async fn exec(
    tasks: &Tasks,
    container: &Container,
    request: ExecProcessRequest,
) -> Result<(), TaskError> {
    let exec: ContainerId =
        request.exec_id.parse().map_err(|error| TaskError::InvalidArgument(format!("exec id: {error}")))?;
    if container.has_exec(exec.as_str()) {
        return Err(TaskError::AlreadyExists(format!("id {exec}")));
    }
    container.takes_execs()?;
    let spec = request.spec.into_option().unwrap_or_default();
    if spec.value.len() > PROCESS_BYTES_MAX {
        return Err(TaskError::InvalidArgument(
            "process document has over 4194304 bytes; fix: shorten its args or env".to_owned(),
        ));
    }
    let mut process: oci_spec::runtime::Process = serde_json::from_slice(&spec.value)
        .map_err(|error| TaskError::InvalidArgument(format!(
                "process document: {error}; fix: use a client that writes a process of the OCI runtime specification 1.x"
            )))?;
    process.set_terminal(Some(request.terminal));

    let interaction = Interaction { stdin: !request.stdin.is_empty(), tty: request.terminal };
    let asked = ExecRequest { container: container.id.clone(), exec, process, interaction };
    let plan = container.admitted.admit_exec(tasks.stages(), &asked).await?;
    // A judge may have been asked: meanwhile the container may have stopped.
    container.takes_execs()?;
    let paths = StdioPaths {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    };
    // Malformed ones are refused here, before Start.
    Addresses::of(&paths, tasks.whose_streams(Role::Exec, &request.exec_id))?;
    let waiting = Waiting::Exec(Box::new(plan));
    container.add_exec(Process::new(request.exec_id.clone(), paths, waiting))?;

    let mut event = TaskExecAdded::new();
    event.container_id = container.id.to_string();
    event.exec_id = request.exec_id;
    tasks.publisher().publish(event);
    Ok(())
}
