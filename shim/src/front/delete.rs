//! `delete`: containerd calls it when a server is gone and its container may not be.
//!
//! Invariant: it finds everything by names (namespace, id, bundle), never by a pid that may be another's by now:
//! the pid that its answer names is read, not used.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bulkhead_cgroup::Host;
use bulkhead_containerd::remove_stale_files;
use bulkhead_launch::{cgroup_of, has_hooks, init_pid_of, run_poststop};
use bulkhead_model::{ContainerId, Namespace};
use containerd_shim::Flags;
use containerd_shim_protos::api::DeleteResponse;
use protobuf::{Message, MessageField, well_known_types::timestamp::Timestamp};

use super::{FrontError, socket};
use crate::{
    ranges, stages,
    task::{chain, leftovers},
};

/// Exit status of a container whose server is gone: killed by SIGKILL.
const EXIT_STATUS: u32 = 128 + libc::SIGKILL as u32;

/// Kills what is left of the container, removes what it had, and writes a `DeleteResponse` to standard output.
/// What cannot be removed is said on standard error, which containerd logs as a warning.
pub(crate) fn delete(flags: &Flags) -> Result<(), FrontError> {
    let id: ContainerId = flags.id.parse().map_err(|error| FrontError::Usage(format!("id: {error}")))?;
    let namespace: Namespace =
        flags.namespace.parse().map_err(|error| FrontError::Usage(format!("namespace: {error}")))?;
    let layout = stages::layout();
    let task_dir = layout.task_dir(&namespace, &id);
    let host = Host::detect().map_err(|error| FrontError::Usage(error.to_string()))?;
    // Without its directory the container never was, or nothing of it is left; without the link in it, it had no control
    // group yet. What config.json names may be others' (a create that was refused), or be gone.
    let mut problems = Vec::new();
    let cgroup = cgroup_of(&task_dir).unwrap_or_else(|error| {
        problems.push(chain(&error));
        None
    });
    let cgroup = cgroup.map(|path| host.cgroup(&path));
    let pid = init_pid_of(&task_dir);
    // Dead processes first: systemd would wait for those that live.
    if let Some(cgroup) = cgroup.as_ref().filter(|cgroup| cgroup.is_systemds())
        && let Err(error) = cgroup.kill_all().and_then(|()| cgroup.release())
    {
        problems.push(chain(&error));
    }
    // Its last hooks, before the directory goes that says which they are.
    if let Some(cgroup) = cgroup.as_ref().filter(|_| has_hooks(&task_dir))
        && let Err(error) = cgroup.kill_all()
    {
        problems.push(chain(&error));
    }
    for problem in run_poststop(&task_dir, &id) {
        complain(&problem);
    }
    problems.extend(leftovers::take_back(cgroup.as_ref(), &task_dir));
    // Else processes with these ids may be left: no other pod gets them.
    if problems.is_empty()
        && let Err(error) = ranges::release_all(&layout, &namespace, &id)
    {
        problems.push(chain(&error));
    }
    for problem in problems {
        complain(&problem);
    }
    remove_server(flags, &namespace, &id, &host)?;
    for problem in remove_stale_files(&layout) {
        complain(&problem);
    }
    answer(pid)
}

/// Removes the socket and the judge of a server that is gone. Another container's, of the same pod, is removed by the
/// `delete` of the pod's own container.
fn remove_server(
    flags: &Flags,
    namespace: &Namespace,
    id: &ContainerId,
    host: &Host,
) -> Result<(), FrontError> {
    // containerd may have removed the bundle meanwhile.
    let address = fs::read_to_string(bundle(flags, id)?.join("address"))
        .unwrap_or_else(|_| socket::address(None, &flags.address, namespace.as_str(), id.as_str()));
    let path = socket::path(&address);
    match socket::remove_unless_answering(&path) {
        Err(error) => complain(&format!("{address}: {error}")),
        Ok(false) => {}
        // Whoever waited for the judge of this container's image is gone.
        Ok(true) => match stages::judge_group_path(&path, id) {
            Err(error) => complain(&error.to_string()),
            Ok(path) => {
                let cgroup = host.cgroup(&path);
                if let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove()) {
                    complain(&chain(&error));
                }
            }
        },
    }
    Ok(())
}

/// The flag, else the directory of that id beside the working directory.
fn bundle(flags: &Flags, id: &ContainerId) -> Result<PathBuf, FrontError> {
    if !flags.bundle.is_empty() {
        return Ok(Path::new(&flags.bundle).to_owned());
    }
    let here = std::env::current_dir().map_err(FrontError::io("getcwd(2)", "."))?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(id.as_str()))
}

/// containerd tells of the exit with what this says.
fn answer(pid: Option<u32>) -> Result<(), FrontError> {
    let mut response = DeleteResponse::new();
    response.pid = pid.unwrap_or_default();
    response.exit_status = EXIT_STATUS;
    response.exited_at = MessageField::some(Timestamp::from(SystemTime::now()));
    let bytes = response.write_to_bytes()?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(FrontError::io("write(2)", "standard output"))
}

fn complain(problem: &str) {
    eprintln!("{problem}");
}
