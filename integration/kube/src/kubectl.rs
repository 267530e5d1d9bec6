//! `kubectl`: the sentences ask the API as people do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Output, Result, run};
use serde_json::Value;

use crate::program::built_dir;

/// How long one call may take; longer than any that waits itself.
const CALL: Duration = Duration::from_secs(300);

/// For how long a call waits for something to become so, on a loaded machine.
pub(crate) const WAIT: &str = "--timeout=180s";

/// kubectl in the node's network.
#[derive(Debug)]
pub(crate) struct Kubectl {
    network: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
    objects: AtomicU32,
}

impl Kubectl {
    pub(crate) fn new(network: &Path, kubeconfig: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir(dir).map_err(HarnessError::at("create", dir))?;
        let (network, kubeconfig, dir) = (network.to_owned(), kubeconfig.to_owned(), dir.to_owned());
        Ok(Self { network, kubeconfig, dir, objects: AtomicU32::new(0) })
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display())).arg("--").arg(built_dir().join("kubectl"));
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        command.arg(format!("--cache-dir={}", self.dir.join("cache").display()));
        command.env_clear().env("HOME", &self.dir).env("PATH", "/usr/bin:/bin").args(words);
        run(&mut command, CALL)
    }

    /// What it prints; an error where it fails.
    pub(crate) fn get(&self, words: &[&str]) -> Result<String> {
        Ok(self.ask(words)?.success()?.stdout)
    }

    /// Sends an object by `create`, `apply` or `replace`, with more words.
    pub(crate) fn send(&self, verb: &str, object: &Value, words: &[&str]) -> Result<()> {
        let number = self.objects.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number}.json"));
        fs::write(&path, object.to_string()).map_err(HarnessError::at("write", &path))?;
        let file = path.display().to_string();
        // A field that it does not know is an error, not a warning.
        self.get(&[&[verb, "--validate=strict", "-f", &file][..], words].concat()).map(drop)
    }
}
