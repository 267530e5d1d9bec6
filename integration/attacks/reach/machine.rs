//! Has the measurement made in a test machine: the same kernel wherever this runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result, run, workspace};

use crate::{LIBRARIES, measured::Measured};

/// Debian 12's own kernel: the newer one names files of /proc/sys by which this gVisor takes any network for the node's.
pub(crate) const KERNEL: &str = "6.1";

/// How long the whole may take on a loaded machine.
const WITHIN: Duration = Duration::from_secs(1200);

/// What this program said in a machine.
pub(crate) fn measured() -> Result<Vec<Measured>> {
    let own = std::env::current_exe().map_err(HarnessError::at("readlink", "/proc/self/exe"))?;
    let mut command = Command::new(workspace().join("target/debug/bulkhead-vm"));
    command.args(["run", KERNEL]);
    for program in [own.clone(), component("runsc/usr/bin/runsc")?].into_iter().chain(nginx()?) {
        command.arg("--with").arg(program);
    }
    command.arg("--").arg(own.file_name().unwrap_or_default()).arg(crate::INSIDE);
    let output = run(&mut command, WITHIN)?.success()?;
    let lines = output.stdout.lines().filter(|line| line.starts_with('{'));
    let rows = lines.map(|line| {
        serde_json::from_str(line).map_err(|_| HarnessError::Format {
            what: "a row of the machine",
            found: line.chars().take(200).collect(),
        })
    });
    rows.collect()
}

/// nginx and its libraries, out of the userland that deps.sh has packed.
fn nginx() -> Result<Vec<PathBuf>> {
    let to = workspace().join("target/deps/reach");
    fs::create_dir_all(&to).map_err(HarnessError::at("mkdir", &to))?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&to).arg("-xf").arg(component("userland/userland.tar")?);
    // A library's name is a link to the file of its version.
    tar.args(["--wildcards", "--transform", "s|.*/||", "./usr/sbin/nginx"]);
    tar.args(LIBRARIES.map(|name| format!("./usr/lib/x86_64-linux-gnu/{name}*")));
    run(&mut tar, Duration::from_secs(60))?.success()?;
    Ok(["nginx"].iter().chain(&LIBRARIES).map(|name| to.join(name)).collect())
}

/// What deps.sh has put below target/deps.
fn component(name: &str) -> Result<PathBuf> {
    let path = workspace().join("target/deps").join(name);
    if Path::exists(&path) {
        return Ok(path);
    }
    Err(HarnessError::Missing { what: path.display().to_string(), fix: "integration/scripts/deps.sh" })
}
