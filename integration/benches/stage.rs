//! What every measurement stands on: a daemon, the allowed image, the runtimes that work here.

use std::{env, path::Path};

use bulkhead_integration::{
    ALLOWED, Bench, Containerd, Cri, HarnessError, Hierarchies, Output, Release, RunDir, Surroundings,
};

use crate::{
    names,
    row::{Findings, SUBJECT},
    runtimes::{self, Runtime},
    wrong,
};

/// How often each thing is measured.
const RUNS: usize = 10;

/// What the user asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How often each thing is measured.
    pub(crate) runs: usize,
    /// Which parts.
    pub(crate) parts: Vec<&'static str>,
}

impl Settings {
    pub(crate) fn of_environment() -> Result<Self, HarnessError> {
        let runs = match env::var("RUNS") {
            Err(_) => RUNS,
            Ok(text) if text.is_empty() => RUNS,
            Ok(text) => {
                text.parse().ok().filter(|runs| *runs > 0).ok_or_else(|| wrong("RUNS, a number", text))?
            }
        };
        Ok(Self { runs, parts: names::chosen(env::var("ONLY").ok().as_deref())? })
    }

    /// Whether a part was asked for.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.parts.contains(&part)
    }

    /// Whether nothing was left out: only then the documents are written.
    pub(crate) fn everything(&self) -> bool {
        names::PARTS.iter().all(|part| self.wants(part.name))
    }
}

/// The daemon with what it can run.
pub(crate) struct Stage {
    pub(crate) bench: Bench,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) settings: Settings,
}

impl Stage {
    /// Starts it, and runs `true` once under every runtime: one that cannot is left out, with the reason.
    pub(crate) fn set(settings: &Settings, findings: &mut Findings) -> Result<Self, HarnessError> {
        let runtimes = runtimes::find(findings)?;
        let around =
            Surroundings { hierarchies: Hierarchies::V1Only, run: RunDir::Tmpfs, ..Surroundings::default() };
        let bench = Bench::start_in(Release::System, Cri::Off, &around)?;
        let mut stage = Self { bench, runtimes, settings: settings.clone() };
        let mut kept = Vec::new();
        for runtime in std::mem::take(&mut stage.runtimes) {
            // Twice: the first warms caches, and has the judge's verdict kept.
            let tried = (0..2).try_for_each(|_| stage.run_true(&runtime, "try").map(drop));
            match tried {
                Ok(()) => kept.push(runtime),
                Err(error) if runtime.name == SUBJECT => return Err(error),
                Err(error) => {
                    findings.lacks(runtime.name, &error);
                    stage.bench.daemon.ctr(&["container", "delete", &stage.daemon().id("try")])?;
                }
            }
        }
        stage.runtimes = kept;
        Ok(stage)
    }

    pub(crate) fn daemon(&self) -> &Containerd {
        &self.bench.daemon
    }

    /// Bulkhead, which is there or the stage is not.
    pub(crate) fn subject(&self) -> Result<&Runtime, HarnessError> {
        let found = self.runtimes.iter().find(|runtime| runtime.name == SUBJECT);
        found.ok_or_else(|| wrong("a runtime to measure", "none"))
    }

    /// `ctr run --rm … true`.
    pub(crate) fn run_true(&self, runtime: &Runtime, name: &str) -> Result<Output, HarnessError> {
        self.run(runtime, name, &[], &["/bin/probe", "true"])
    }

    /// `ctr run --rm` with more options.
    pub(crate) fn run(
        &self,
        runtime: &Runtime,
        name: &str,
        options: &[&str],
        command: &[&str],
    ) -> Result<Output, HarnessError> {
        let id = self.daemon().id(name);
        let own = runtime.options();
        let mut args = vec!["run", "--rm"];
        args.extend(own.iter().map(String::as_str));
        args.extend(options);
        args.extend([ALLOWED, &id]);
        args.extend(command);
        self.daemon().ctr(&args)?.success()
    }

    /// A container that stays; its id.
    pub(crate) fn start_pause(&self, runtime: &Runtime, name: &str) -> Result<String, HarnessError> {
        let id = self.daemon().id(name);
        let own = runtime.options();
        let mut args = vec!["run", "-d"];
        args.extend(own.iter().map(String::as_str));
        args.extend([ALLOWED, &id, "/bin/probe", "pause"]);
        self.daemon().ctr(&args)?.success()?;
        Ok(id)
    }

    /// A container without a task; its id. Its record does not name the binary that runc's shim is to call.
    pub(crate) fn create(
        &self,
        runtime: &Runtime,
        name: &str,
        command: &[&str],
    ) -> Result<String, HarnessError> {
        let id = self.daemon().id(name);
        let mut args = vec!["container", "create", "--runtime", runtime.kind, ALLOWED, &id];
        args.extend(command);
        self.daemon().ctr(&args)?.success()?;
        Ok(id)
    }
}

/// Handlers of pods for the runtimes that runc's shim calls.
pub(crate) fn handlers(runtimes: &[Runtime]) -> Vec<(&'static str, &Path)> {
    runtimes.iter().filter_map(|runtime| Some((runtime.name, runtime.binary.as_deref()?))).collect()
}
