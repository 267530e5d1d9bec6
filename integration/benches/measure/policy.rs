//! What one line of policy costs a start, beside the same start without it.

use bulkhead_integration::HarnessError;

use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    series::Series,
    stage::Stage,
};

/// A start under a policy that says nothing more.
pub(crate) const WITHOUT: &str = "without";

/// The lines, and how their rows are called.
const LINES: [(&str, &str); 2] =
    [("policy-shifted", "user_namespace = \"shifted\""), ("policy-init", "init = true")];

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
    stage.bench.allow(line)?;
    // Once, to warm what a first start under a line makes.
    stage.run_true(subject, "warm")?;
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
