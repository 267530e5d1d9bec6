//! What a container leaves on the host, and how it is removed: processes, control group, directory.
//!
//! Its mounts are in a namespace that ends with its last process.

use std::{fs, io, path::Path, time::Duration};

use bulkhead_cgroup::{Cgroup, CgroupError, waits};
use bulkhead_launch::{GroupTicket, HookMoment, LaunchError, Zygote};
use tokio::time::{sleep, timeout};

use super::{create::readable, error::chain};
use crate::stages::Admitted;

/// How long a worker may take to change a control group: a little more than it gives systemd.
const CHANGE_MS: u64 = 65_000;

/// How much longer than its hooks a worker may take.
const HOOKS_MS: u64 = 15_000;

/// Kills what is left in the control group, if there is one, and removes it and the directory. Goes on after a failure;
/// says all. The directory goes last, and stays where the group does: it says to the next `delete` where that is.
///
/// For callers that may block: the group is gone only when the kernel has taken its last process down.
pub(crate) fn take_back(cgroup: Option<&Cgroup>, task_dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut gone = true;
    if let Some(cgroup) = cgroup {
        note(&mut problems, "kill", cgroup.kill_all());
        gone = note(&mut problems, "cgroup", cgroup.remove());
    }
    if gone {
        remove_dir(&mut problems, task_dir);
    }
    problems
}

/// The same for the server, which has others to serve meanwhile. What systemd keeps a worker asks it to forget. Between the
/// end of the last process and that of the directory come the container's last hooks.
pub(crate) async fn take_back_later(
    zygote: &Zygote,
    admitted: &Admitted,
    cgroup: &Cgroup,
    task_dir: &Path,
) -> Vec<String> {
    let mut problems = Vec::new();
    note(&mut problems, "kill", cgroup.kill_all());
    if cgroup.is_systemds() {
        let path = admitted.cgroup_path();
        note(&mut problems, "systemd", group_changed(zygote.release_group(path)).await);
    }
    let removed = note(&mut problems, "cgroup", removed(cgroup).await);
    last_hooks(zygote, admitted, task_dir).await;
    if removed {
        remove_dir(&mut problems, task_dir);
    }
    problems
}

/// Runs the hooks that come last. One that fails changes nothing: what follows goes on as if it had not.
pub(super) async fn last_hooks(zygote: &Zygote, admitted: &Admitted, task_dir: &Path) {
    let Some(time) = admitted.hooks(HookMoment::Stopped) else { return };
    let done = hooks_done(zygote.poststop(admitted.id(), task_dir), time).await;
    if let Err(error) = done {
        tracing::warn!(error = chain(&error), id = %admitted.id(), "a hook of a container that has ended failed");
    }
}

/// Waits for a worker that runs hooks.
pub(super) async fn hooks_done(
    ticket: Result<GroupTicket, LaunchError>,
    time: Duration,
) -> Result<(), LaunchError> {
    answered(ticket, time + Duration::from_millis(HOOKS_MS)).await
}

/// Waits for a worker that changes a control group.
pub(super) async fn group_changed(ticket: Result<GroupTicket, LaunchError>) -> Result<(), LaunchError> {
    answered(ticket, Duration::from_millis(CHANGE_MS)).await
}

async fn answered(ticket: Result<GroupTicket, LaunchError>, at_most: Duration) -> Result<(), LaunchError> {
    let mut ticket = ticket?;
    let done = async {
        while !ticket.try_done()? {
            readable(&ticket).await?;
        }
        Ok(())
    };
    timeout(at_most, done).await.unwrap_or(Err(LaunchError::WorkerGone))
}

async fn removed(cgroup: &Cgroup) -> Result<(), CgroupError> {
    for wait in waits() {
        if cgroup.try_remove()? {
            return Ok(());
        }
        sleep(wait).await;
    }
    Err(cgroup.busy("is not removed"))
}

/// Whether it was done.
fn note<E: std::error::Error>(problems: &mut Vec<String>, what: &str, done: Result<(), E>) -> bool {
    let error = done.err();
    problems.extend(error.as_ref().map(|error| format!("{what}: {}", chain(error))));
    error.is_none()
}

fn remove_dir(problems: &mut Vec<String>, task_dir: &Path) {
    match fs::remove_dir_all(task_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            problems.push(format!("rmdir(2) {}: {error}", task_dir.display()));
        }
        _ => {}
    }
}
