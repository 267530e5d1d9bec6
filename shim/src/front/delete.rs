//! `delete`: containerd calls it when a server is gone and its container may not be.
//!
//! Invariant: it finds everything by names (namespace, id, bundle), never by a pid that may be another's by now.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bulkhead_cgroup::{Cgroup, CgroupPath, Host};
use bulkhead_model::{ContainerId, Namespace};
use containerd_shim::Flags;
use containerd_shim_protos::api::DeleteResponse;
use oci_spec::runtime::Spec;
use protobuf::{Message, MessageField, well_known_types::timestamp::Timestamp};

use super::{FrontError, remove_if_dead};
use crate::{
    stages,
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
    let bundle = bundle(flags, &id)?;

    let layout = stages::layout();
    let task_dir = layout.task_dir(&namespace, &id);
    let host = Host::detect().map_err(|error| FrontError::Usage(error.to_string()))?;
    let address = fs::read_to_string(bundle.join("address")).ok();
    // The directory is made first and goes last: without it the container never was, or nothing of it is left. What
    // config.json names then may be others' (a create that was refused), and is not to be killed.
    if task_dir.symlink_metadata().is_ok() {
        let cgroup = host.cgroup(&cgroup_path(&bundle, &namespace, &id)?);
        for problem in leftovers::take_back(&cgroup, &task_dir) {
            complain(&problem);
        }
    }
    if let Some(address) = address {
        let socket = super::socket::path(&address);
        match remove_if_dead(&socket) {
            Err(error) => complain(&format!("{address}: {error}")),
            Ok(false) => {}
            // The server is gone, and with it whoever waited for the judge of this container's image.
            Ok(true) => match stages::judge_group_path(&socket, &id) {
                Err(error) => complain(&error.to_string()),
                Ok(path) => remove_group(&host.cgroup(&path)),
            },
        }
    }
    answer()
}

fn remove_group(cgroup: &Cgroup) {
    if let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove()) {
        complain(&chain(&error));
    }
}

/// The flag, else the directory of that id beside the working directory.
fn bundle(flags: &Flags, id: &ContainerId) -> Result<PathBuf, FrontError> {
    if !flags.bundle.is_empty() {
        return Ok(Path::new(&flags.bundle).to_owned());
    }
    let here = std::env::current_dir().map_err(FrontError::io("getcwd(2)", "."))?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(id.as_str()))
}

/// As at Create: config.json may be gone, or never have been read.
fn cgroup_path(bundle: &Path, namespace: &Namespace, id: &ContainerId) -> Result<CgroupPath, FrontError> {
    let spec = stages::read_spec(&bundle.join("config.json")).unwrap_or_else(|error| {
        complain(&error.to_string());
        Spec::default()
    });
    stages::cgroup_path(&spec, namespace, id).map_err(|error| FrontError::Usage(error.to_string()))
}

fn answer() -> Result<(), FrontError> {
    let mut response = DeleteResponse::new();
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
