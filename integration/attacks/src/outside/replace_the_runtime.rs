//! A program whose interpreter is /proc/self/exe: the node's exec of it makes the runtime execute itself in the container,
//! where its file can be opened by /proc/PID/exe and written to as soon as nothing runs it any more. Every runc and runsc
//! is a copy: the file that is written to is not the node's.
//!
//! Source: CVE-2019-5736.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::{HarnessError, Result, bulkhead_dir, copy_program};

use crate::{
    arena::{self, Arena},
    column::{Column, Phase},
    technique::{Outcome, Outside, reason},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2019-5736",
    tries: "have the runtime execute itself in the container, and write into its file",
    // Somebody has to be there already, to look at it.
    phases: &[Phase::Exec],
    attempt,
};

/// A runtime that lives too short to be held is looked for again.
const TIMES: u32 = 5;

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let (file, mut options) = runtime(arena, column)?;
    let before = length(&file)?;
    let id = arena.bench.daemon.id(&format!("replaces-{}", arena.next()));
    let image = arena.image(column);
    options.splice(0..0, ["run".to_owned(), "-d".to_owned()]);
    let mut arguments: Vec<&str> = options.iter().map(String::as_str).collect();
    arguments.extend(column.options());
    arguments.extend([image.as_str(), &id, "/bin/attacker", "await-runtime"]);
    arena.bench.daemon.ctr(&arguments)?.success()?;
    let exec = |command: &[&str]| {
        let name = format!("e{}", arena.next());
        arena.bench.daemon.ctr(&[&["task", "exec", "--exec-id", &name, &id], command].concat())
    };
    let mut last = exec(&["/bin/hostile"])?;
    for _ in 1..TIMES {
        last = exec(&["/bin/hostile"])?;
    }
    let said = exec(&["/bin/attacker", "runtime-written"])?;
    arena.bench.remove(&id)?;
    Ok(if length(&file)? != before {
        Outcome::Succeeded(format!("{} of the node ends with what the container wrote", name(&file)))
    } else if said.ok() {
        Outcome::Stopped(format!("{}; {}", said.stdout.trim(), reason(&last)))
    } else {
        Outcome::Stopped(reason(&said))
    })
}

/// The file that runs in the container's stead, and what `ctr run` is given so that it does.
fn runtime(arena: &Arena, column: Column) -> Result<(PathBuf, Vec<String>)> {
    let original = match column {
        Column::Bulkhead | Column::BulkheadCompatible => bulkhead_dir()?.join("containerd-shim-bulkhead-v2"),
        Column::Runsc => arena::component("runsc/usr/bin/runsc")?,
        Column::RuncOld => arena::component("runc-first/runc")?,
        Column::RuncPrivileged | Column::RuncNoSeccomp | Column::Runc | Column::RuncNonRoot => {
            on_path("runc")?
        }
    };
    let mut options = vec!["--runtime".to_owned(), column.runtime().to_owned()];
    if column.runtime() == bulkhead_integration::BULKHEAD {
        return Ok((original, options));
    }
    let dir = arena.fresh_directory("runtime")?;
    let copy = dir.join(name(&original));
    copy_program(&original, &copy)?;
    let program = match column {
        Column::Runsc => arena::runsc(&dir, &copy)?,
        _ => copy.display().to_string(),
    };
    options.extend(["--runc-binary".to_owned(), program]);
    Ok((copy, options))
}

fn on_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.ok_or(HarnessError::Missing { what: program.to_owned(), fix: "integration/scripts/deps.sh" })
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn length(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).map_err(HarnessError::at("stat", file))?.len())
}
