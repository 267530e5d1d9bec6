//! The measurements, one file for each thing that is measured alike.

mod contents;
mod ctr;
mod memory;
mod own;
mod pods;
mod policy;
mod prepare;
mod profiles;
mod served;
mod syscalls;
mod task;
mod warm;

use bulkhead_integration::HarnessError;

use crate::{
    interrupt,
    row::Findings,
    stage::{Settings, Stage},
};

/// A measurement.
type Measure = fn(&Stage, &mut Findings) -> Result<(), HarnessError>;

const MEASURES: [(&str, Measure); 17] = [
    ("start", ctr::start),
    ("exec", ctr::exec),
    ("task", task::kill_and_delete),
    ("own", own::own_part),
    ("gates", own::gates),
    ("gates", warm::gates),
    ("gates", warm::cold),
    ("contents", contents::looks),
    ("policy", policy::lines),
    ("stdio", own::throughput),
    ("rate", ctr::rate),
    ("syscalls", syscalls::cost),
    ("profiles", profiles::calls),
    ("profiles", profiles::stored),
    ("profiles", profiles::cold),
    ("served", served::load),
    ("memory", memory::one_pod_each),
];

/// All that one daemon without pods can be asked. One that fails does not keep the others from being measured.
pub(crate) fn all(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    for (part, measure) in MEASURES {
        if stage.settings.wants(part) {
            one(part, findings, |findings| measure(stage, findings))?;
        }
    }
    Ok(())
}

/// Containers in one pod.
pub(crate) fn in_one_pod(settings: &Settings, findings: &mut Findings) -> Result<(), HarnessError> {
    if settings.wants("pods") {
        one("pods", findings, pods::in_one_pod)?;
    }
    Ok(())
}

fn one(
    part: &str,
    findings: &mut Findings,
    measure: impl FnOnce(&mut Findings) -> Result<(), HarnessError>,
) -> Result<(), HarnessError> {
    let began = std::time::Instant::now();
    let result = measure(findings);
    interrupt::check()?;
    match result {
        Ok(()) => println!("  {part}: {:.0} s", began.elapsed().as_secs_f64()),
        Err(error) => {
            eprintln!("  {part}: failed: {error}");
            findings.failed.push(format!("{part}: {error}"));
        }
    }
    Ok(())
}
