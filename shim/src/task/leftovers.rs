//! What a container leaves on the host, and how it is removed: processes, control group, directory.
//!
//! Its mounts are in a namespace that ends with its last process.

use std::{fs, io, path::Path};

use bulkhead_cgroup::{Cgroup, CgroupError, waits};
use tokio::time::sleep;

use super::error::chain;

/// Kills what is left in the control group, if there is one, and removes it and the directory. Goes on after a failure;
/// says all. The directory goes last: it says where the group is.
///
/// For callers that may block: the group is gone only when the kernel has taken its last process down.
pub(crate) fn take_back(cgroup: Option<&Cgroup>, task_dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(cgroup) = cgroup {
        note(&mut problems, "kill", cgroup.kill_all());
        note(&mut problems, "cgroup", cgroup.remove());
    }
    remove_dir(&mut problems, task_dir);
    problems
}

/// The same for the server, which has others to serve meanwhile.
pub(crate) async fn take_back_later(cgroup: &Cgroup, task_dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    note(&mut problems, "kill", cgroup.kill_all());
    note(&mut problems, "cgroup", removed(cgroup).await);
    remove_dir(&mut problems, task_dir);
    problems
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

fn note(problems: &mut Vec<String>, what: &str, done: Result<(), CgroupError>) {
    if let Err(error) = done {
        problems.push(format!("{what}: {}", chain(&error)));
    }
}

fn remove_dir(problems: &mut Vec<String>, task_dir: &Path) {
    match fs::remove_dir_all(task_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            problems.push(format!("rmdir(2) {}: {error}", task_dir.display()));
        }
        _ => {}
    }
}
