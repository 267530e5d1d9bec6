//! `kubectl`: the sentences ask the API as people do.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Output, Result, run, run_on};
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
        run(&mut self.command(words), CALL)
    }

    /// What it prints when it reads that; an error where it fails.
    pub(crate) fn get_with(&self, input: &str, words: &[&str]) -> Result<String> {
        let (read, mut write) = std::io::pipe().map_err(HarnessError::at("pipe(2)", "kubectl"))?;
        // It is far less than a pipe holds.
        write.write_all(input.as_bytes()).map_err(HarnessError::at("write", "kubectl"))?;
        drop(write);
        Ok(run_on(&mut self.command(words), read.into(), CALL)?.success()?.stdout)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display())).arg("--").arg(built_dir().join("kubectl"));
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        command.arg(format!("--cache-dir={}", self.dir.join("cache").display()));
        command.env_clear().env("HOME", &self.dir).env("PATH", "/usr/bin:/bin").args(words);
        command
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
