//! Bundles as containerd would have made them, and the way into the daemon's mount namespace.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, process::Stdio, time::Duration};

use bulkhead_integration::{HarnessError, run_on};
use serde_json::Value;

use crate::{
    inside,
    job::{Job, Measured, RootMount, Step, Turn},
    runtimes::Runtime,
    stage::Stage,
    wrong,
};

/// How long all steps of a job may take.
const JOB: Duration = Duration::from_secs(600);

/// A container of the allowed image that is created and not started, with its bundle.
pub(super) fn turn(
    stage: &Stage,
    runtime: &Runtime,
    name: &str,
    command: &[&str],
    edit: impl FnOnce(&mut Value),
) -> Result<Turn, HarnessError> {
    let daemon = stage.daemon();
    let id = stage.create(runtime, name, command)?;
    let below =
        |top: &str| daemon.dir().join(top).join("io.containerd.runtime.v2.task").join(daemon.tag()).join(&id);
    let (bundle, work) = (below("state"), below("root"));
    for dir in [&bundle.join("rootfs"), &work] {
        fs::create_dir_all(dir).map_err(HarnessError::at("create", dir))?;
    }
    symlink(&work, bundle.join("work")).map_err(HarnessError::at("symlink", bundle.join("work")))?;
    let mut spec = daemon.spec(&id)?;
    edit(&mut spec);
    let config = bundle.join("config.json");
    fs::write(&config, spec.to_string()).map_err(HarnessError::at("write", &config))?;
    inside::make_log(&bundle)?;
    let rootfs = daemon.tasks()?.mounts(&id)?.into_iter().map(|mount| RootMount {
        kind: mount.r#type,
        source: mount.source,
        options: mount.options,
    });
    let rootfs = rootfs.collect();
    Ok(Turn { shim: runtime.shim.to_owned(), binary: runtime.binary.clone(), id, bundle, rootfs })
}

/// Takes the steps inside, and removes their containers.
pub(super) fn take(stage: &Stage, steps: Vec<Step>) -> Result<Vec<Measured>, HarnessError> {
    let daemon = stage.daemon();
    let proxy = daemon.dir().join("proxy.sock");
    let job =
        Job { namespace: daemon.tag().to_owned(), containerd: daemon.socket(), proxy: proxy.clone(), steps };
    let path = daemon.dir().join("job.json");
    let text = serde_json::to_string(&job).map_err(|error| wrong("JSON", error.to_string()))?;
    fs::write(&path, text).map_err(HarnessError::at("write", &path))?;
    let own: PathBuf = env::current_exe().map_err(HarnessError::at("readlink", "/proc/self/exe"))?;
    let mut command = daemon.as_daemon(&own);
    command.arg(inside::ARGUMENT);
    let input = fs::File::open(&path).map_err(HarnessError::at("open", &path))?;
    let output = run_on(&mut command, Stdio::from(input), JOB)?.success()?;
    fs::remove_file(&proxy).map_err(HarnessError::at("remove", &proxy))?;
    let line = output.stdout.lines().last().unwrap_or_default();
    let measured =
        serde_json::from_str(line).map_err(|error| wrong("what the steps took", error.to_string()))?;
    for step in &job.steps {
        if let Step::Launch(turn) | Step::Refused(turn) | Step::Throughput(turn) = step {
            daemon.ctr(&["container", "delete", &turn.id])?.success()?;
            fs::remove_dir_all(&turn.bundle).map_err(HarnessError::at("remove", &turn.bundle))?;
        }
    }
    Ok(measured)
}
