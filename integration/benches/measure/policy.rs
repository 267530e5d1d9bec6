//! What one line of policy costs a start, beside the same start without it.

use std::time::{Duration, Instant};

use bulkhead_integration::HarnessError;

use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    series::Series,
    stage::Stage,
    wrong,
};

/// A start under a policy that says nothing more.
pub(crate) const WITHOUT: &str = "without";

/// How long the first start under a line may take: a profile has to be worked out.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The lines, and how their rows are called.
const LINES: [(&str, &str); 3] = [
    ("policy-shifted", "user_namespace = \"shifted\""),
    ("policy-init", "init = true"),
    ("policy-generated", "seccomp = \"generated\""),
];

/// `ctr run --rm … true` with and without each line, in turn.
pub(super) fn lines(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    for (row, line) in LINES {
        let measured = one(stage, row, line, findings);
        stage.bench.allow("exec = [\"*\"]")?;
        if let Err(error) = measured {
            interrupt::check()?;
            findings.lacks(row, &error);
        }
    }
    Ok(())
}

fn one(stage: &Stage, row: &str, line: &str, findings: &mut Findings) -> Result<(), HarnessError> {
    let subject = stage.subject()?;
    // Without `exec`: what a star means no profile can be told of.
    stage.bench.allow(line)?;
    until_ready(stage, &["/bin/probe", "true"])?;
    let mut series = Series::default();
    for round in 0..stage.settings.runs {
        let mut turns = [(SUBJECT, line), (WITHOUT, "")];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (who, lines) in turns {
            interrupt::check()?;
            stage.bench.allow(lines)?;
            series.add(who, stage.run_true(subject, &format!("line{round}"))?.took.as_secs_f64() * 1e3);
        }
    }
    series.rows(row, "ms", findings);
    Ok(())
}

/// Runs a command until its profile is there.
pub(super) fn until_ready(stage: &Stage, command: &[&str]) -> Result<(), HarnessError> {
    let began = Instant::now();
    loop {
        interrupt::check()?;
        let Err(error) = stage.run(stage.subject()?, "warm", &[], command) else { return Ok(()) };
        // `ctr` leaves the container of a task that was not made.
        stage.daemon().ctr(&["container", "delete", &stage.daemon().id("warm")])?;
        if !error.to_string().contains("is being worked out") {
            return Err(error);
        }
        if began.elapsed() > READY_WITHIN {
            return Err(wrong("a profile that is ready", error.to_string()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
