//! What a container leaves on the host, and how it is removed: processes, control group, directory.
//!
//! Its mounts are in a namespace that ends with its last process.

use std::{fs, io, path::Path, time::Duration};

use bulkhead_cgroup::{Cgroup, CgroupError, CgroupPath, waits};
use bulkhead_launch::{GroupTicket, LaunchError, Zygote};
use tokio::time::{sleep, timeout};

use super::{create::readable, error::chain};

/// How long a worker may take to change a control group: a little more than it gives systemd.
const CHANGE_MS: u64 = 65_000;

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

/// The same for the server, which has others to serve meanwhile. What systemd keeps a worker asks it to forget.
pub(crate) async fn take_back_later(
    zygote: &Zygote,
    path: &CgroupPath,
    cgroup: &Cgroup,
    task_dir: &Path,
) -> Vec<String> {
    let mut problems = Vec::new();
    note(&mut problems, "kill", cgroup.kill_all());
    if cgroup.is_systemds() {
        note(&mut problems, "systemd", group_changed(zygote.release_group(path)).await);
    }
    if note(&mut problems, "cgroup", removed(cgroup).await) {
        remove_dir(&mut problems, task_dir);
    }
    problems
}

/// Waits for a worker that changes a control group.
pub(super) async fn group_changed(ticket: Result<GroupTicket, LaunchError>) -> Result<(), LaunchError> {
    let mut ticket = ticket?;
    let done = async {
        while !ticket.try_done()? {
            readable(&ticket).await?;
        }
        Ok(())
    };
    timeout(Duration::from_millis(CHANGE_MS), done).await.unwrap_or(Err(LaunchError::WorkerGone))
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
