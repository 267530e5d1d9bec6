//! `make bench`: what Bulkhead costs beside its peers and beside what the kernel alone takes, all in one run.
//!
//! ```text
//! private containerd ─► each measurement, every runtime in turn, again and again ─► pairs ─► medians, ratios
//!                    └► inside its mount namespace: shims without containerd, and the kernel floor
//!                                                     ─► table, target/reports/bench.json, docs/numbers.md, docs/numbers.svg
//! ```
//! `RUNS` is how often (10 is the default of a run of some minutes); `ONLY=start,exec` measures a part and leaves
//! documents and report alone (`bench-part.json`). A peer that cannot be had is named with the reason. Exit 0 unless a measurement failed: whether a
//! target is met is said, and is nobody's exit status.
//!
//! Invariant: what it started is gone when it ends, after Ctrl-C too.

#![forbid(unsafe_code)]

mod compiled;
mod document;
mod floor;
mod inside;
mod interrupt;
mod job;
mod measure;
mod names;
mod plot;
mod row;
mod runtimes;
mod series;
mod stage;
mod table;
mod targets;

use std::process::ExitCode;

use bulkhead_integration::HarnessError;

use row::Findings;
use stage::{Settings, Stage};

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|arg| arg == inside::ARGUMENT) {
        return exit(inside::run());
    }
    exit(interrupt::listen().and_then(|()| run()))
}

fn exit(result: Result<(), HarnessError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if interrupt::came() {
        eprintln!("bench: interrupted; everything that it had started is gone");
        return ExitCode::from(130);
    }
    error.tell("bench");
    ExitCode::FAILURE
}

fn run() -> Result<(), HarnessError> {
    let settings = Settings::of_environment()?;
    let mut findings = Findings::default();
    {
        let stage = Stage::set(&settings, &mut findings)?;
        println!(
            "{} runs each, in turn: {}",
            settings.runs,
            stage.runtimes.iter().map(|runtime| runtime.name).collect::<Vec<_>>().join(", ")
        );
        measure::all(&stage, &mut findings)?;
    }
    measure::in_one_pod(&settings, &mut findings)?;
    let report = findings.write(&settings)?;
    if settings.everything() {
        document::write(&findings)?;
    }
    println!("\n{}\n{}\nWritten to {}", table::of(&findings), targets::of(&findings), report.display());
    match findings.failed.is_empty() {
        true => Ok(()),
        false => Err(wrong("every measurement", findings.failed.join("; "))),
    }
}

/// Something was otherwise than it must be.
pub(crate) fn wrong(what: &'static str, found: impl Into<String>) -> HarnessError {
    HarnessError::Format { what, found: found.into() }
}
