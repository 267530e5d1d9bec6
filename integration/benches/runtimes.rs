//! Who is compared: where each runtime is, and why one is not there.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{BULKHEAD, HarnessError, RUNC, bulkhead_dir, run, workspace};
use serde_json::{Value, json};

use crate::row::{Findings, SUBJECT};

/// How gVisor is run: without a control group of its own (it knows v1 and v2, not this machine's mixture) and without
/// its network stack.
const RUNSC_OPTIONS: &str = "--ignore-cgroups --network=none --platform=systrap";

/// A runtime.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// As baseline or subject.
    pub(crate) name: &'static str,
    /// containerd's runtime type.
    pub(crate) kind: &'static str,
    /// The shim's file name.
    pub(crate) shim: &'static str,
    /// What runc's shim calls in place of runc.
    pub(crate) binary: Option<PathBuf>,
}

impl Runtime {
    /// Options of `ctr run`.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = vec!["--runtime".to_owned(), self.kind.to_owned()];
        if let Some(binary) = &self.binary {
            options.extend(["--runc-binary".to_owned(), binary.display().to_string()]);
        }
        options
    }

    /// The handler of pods.
    pub(crate) fn handler(&self) -> &'static str {
        self.name
    }
}

/// Versions of everything, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(pub(crate) BTreeMap<String, String>);

impl Versions {
    /// Asks a program.
    fn ask(&mut self, name: &str, program: &Path) {
        let output = run(Command::new(program).arg("--version"), Duration::from_secs(20));
        if let Some(line) = output.ok().as_ref().and_then(|output| output.stdout.lines().next()) {
            self.0.insert(name.to_owned(), line.trim().to_owned());
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!(self.0)
    }
}

/// Bulkhead and its peers, as far as they are here.
pub(crate) fn find(findings: &mut Findings) -> Result<Vec<Runtime>, HarnessError> {
    let runc_shim = "containerd-shim-runc-v2";
    let mut found = vec![
        Runtime { name: SUBJECT, kind: BULKHEAD, shim: "containerd-shim-bulkhead-v2", binary: None },
        Runtime { name: "runc", kind: RUNC, shim: runc_shim, binary: None },
    ];
    let peer = |name, binary| Runtime { name, kind: RUNC, shim: runc_shim, binary: Some(binary) };
    let fix = "integration/scripts/deps.sh --bench says why it is not here";
    let crun =
        ["/usr/bin/crun", "/usr/local/bin/crun"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let runsc = workspace().join("target/deps/runsc/usr/bin/runsc");
    let versions = &mut findings.versions;
    versions.ask("containerd", Path::new("containerd"));
    let newer = workspace().join("target/deps/containerd-1.7/usr/bin/containerd");
    versions.ask("containerd, for pods", &newer);
    versions.ask("runc", Path::new("runc"));
    versions.ask("rustc", Path::new("rustc"));
    let binaries = bulkhead_dir()?;
    let binaries = binaries.strip_prefix(workspace()).unwrap_or(&binaries).display().to_string();
    versions.0.insert(SUBJECT.to_owned(), format!("{}, {binaries}", commit()));
    match crun {
        Some(crun) => {
            versions.ask("crun", &crun);
            found.push(peer("crun", crun));
        }
        None => findings.lacks("crun", &fix),
    }
    if runsc.exists() {
        findings.versions.ask("runsc", &runsc);
        found.push(peer("runsc", wrapper(&runsc)?));
    } else {
        findings.lacks("runsc", &fix);
    }
    Ok(found)
}

/// Version and commit of this tree; whether it was changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = run(Command::new("git").arg("-C").arg(workspace()).args(args), Duration::from_secs(20));
        output.ok().filter(|output| output.ok()).map(|output| output.stdout.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    format!("{} {commit}{}", env!("CARGO_PKG_VERSION"), if changed { ", with changes" } else { "" })
}

/// runsc with its options: runc's shim can give none.
fn wrapper(runsc: &Path) -> Result<PathBuf, HarnessError> {
    let path = workspace().join("target/deps/runsc/runsc-for-bench");
    let text = format!("#!/bin/sh\nexec {} {RUNSC_OPTIONS} \"$@\"\n", runsc.display());
    fs::write(&path, text).map_err(HarnessError::at("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(HarnessError::at("chmod", &path))?;
    Ok(path)
}
