//! A program of Kubernetes that runs beside the node's containerd, and ends with the harness.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use bulkhead_integration::{Containerd, HarnessError, Result, wait, workspace};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The directory of the built programs.
pub(crate) fn built_dir() -> PathBuf {
    workspace().join("target/deps/kube")
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program of Kubernetes in the namespaces of `daemon`, with its tag; its log is `NAME.log`.
    pub(crate) fn start(daemon: &Containerd, name: &str, words: &[String]) -> Result<Self> {
        Self::start_by(daemon, name, &["setpriv", "--pdeathsig", "KILL", "--"], words)
    }

    /// As [`Self::start`], by other programs that each become the next.
    pub(crate) fn start_by(daemon: &Containerd, name: &str, by: &[&str], words: &[String]) -> Result<Self> {
        let log = daemon.dir().join(format!("{name}.log"));
        let opened = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = opened.map_err(HarnessError::at("open", &log))?;
        let (first, rest) = by.split_first().unwrap_or((&"setpriv", &[]));
        let mut command = daemon.as_daemon(Path::new(first));
        command.args(rest).arg(built_dir().join(name)).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let started = command.spawn();
        let child = started.map_err(|source| HarnessError::Run { program: name.to_owned(), source })?;
        Ok(Self { child, log })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Result<()> {
        match self.child.try_wait().map_err(HarnessError::at("wait for", &self.log))? {
            None => Ok(()),
            Some(status) => Err(HarnessError::Command {
                line: self.log.display().to_string(),
                outcome: format!("{status}\n{}", self.end_of_log()),
            }),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let failed = |source| HarnessError::Run { program: "kill".to_owned(), source };
        kill(pid, Signal::SIGTERM).map_err(|errno| failed(errno.into()))?;
        let within = Duration::from_secs(60);
        match wait(&mut self.child, within).map_err(failed)? {
            Some(_) => Ok(()),
            None => Err(HarnessError::Timeout { what: format!("the end of {}", self.log.display()), within }),
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn end_of_log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(40));
        last.map(|line| format!("{line:.400}\n")).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is waited for all the same.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("harness: {}: {error}", self.log.display());
        }
    }
}
