//! What a container leaves on the host, and how it is removed: processes, control group, directory.
//!
//! Its mounts are in a namespace that ends with its last process.

use std::{fs, io, path::Path};

use bulkhead_cgroup::Cgroup;

use super::error::chain;

/// Kills what is left in the control group, if there is one, and removes it and the directory. Goes on after a failure;
/// says all. The directory goes last: it says where the group is.
pub(crate) fn take_back(cgroup: Option<&Cgroup>, task_dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(Err(error)) = cgroup.map(Cgroup::kill_all) {
        problems.push(format!("kill: {}", chain(&error)));
    }
    if let Some(Err(error)) = cgroup.map(Cgroup::remove) {
        problems.push(format!("cgroup: {}", chain(&error)));
    }
    match fs::remove_dir_all(task_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            problems.push(format!("rmdir(2) {}: {error}", task_dir.display()));
        }
        _ => {}
    }
    problems
}
