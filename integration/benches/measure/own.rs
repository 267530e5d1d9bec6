//! A runtime's own part: shims driven by the bench itself, in containerd's place; and beside them the kernel floor.

use std::fs;

use bulkhead_integration::HarnessError;
use serde_json::{Value, json};

use super::prepare;
use crate::{
    floor::{self, FLOOR},
    inside::STDOUT_BYTES,
    job::{Measured, Step},
    row::{Findings, SUBJECT},
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

const TRUE: [&str; 2] = ["/bin/probe", "true"];

/// Create to delete, and in it the Create call and the processor time.
pub(super) fn own_part(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let program = floor::program()?;
    let mut steps: Vec<(&'static str, Step)> = Vec::new();
    // One round more: the first warms caches, and is not counted.
    let rounds = stage.settings.runs + 1;
    in_turn("own part", rounds, &stage.runtimes, findings, |runtime, run| {
        let turn = prepare::turn(stage, runtime, &format!("own-{}-{run}", runtime.name), &TRUE, as_it_is)?;
        steps.push((runtime.name, Step::Launch(turn)));
        if runtime.name == SUBJECT {
            let id = stage.create(runtime, &format!("floor-{run}"), &TRUE)?;
            let dir = stage.daemon().dir().join("floor").join(run.to_string());
            fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
            let script = floor::script(stage, &id, &dir)?;
            if run == 0 {
                floor::check(stage, &program, &script)?;
            }
            steps.push((FLOOR, Step::Floor { program: program.clone(), script }));
        }
        Ok(())
    })?;
    let measured = taken(stage, &steps)?;
    let (mut own, mut cpu, mut create) = (Series::default(), Series::default(), Series::default());
    for (who, took) in measured.iter().skip(steps.len() / rounds) {
        own.add(who, took.wall_ms - took.waited_ms);
        cpu.add(who, took.cpu_ms);
        if *who != FLOOR {
            create.add(who, took.create_ms);
        }
    }
    own.rows("own-part", "ms", findings);
    cpu.rows("own-cpu", "ms", findings);
    create.rows("create", "ms", findings);
    Ok(())
}

/// All gates on a warm verdict, beside the whole Create that they are part of.
pub(super) fn gates(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let subject = stage.subject()?;
    let mut steps = Vec::new();
    for run in 0..=stage.settings.runs {
        let created = prepare::turn(stage, subject, &format!("created-{run}"), &TRUE, as_it_is)?;
        // What only the last gate looks at: the plan.
        let refused = prepare::turn(stage, subject, &format!("refused-{run}"), &TRUE, |spec| {
            spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
        })?;
        steps.extend([("create", Step::Launch(created)), (SUBJECT, Step::Refused(refused))]);
    }
    let measured = taken(stage, &steps)?;
    let (mut all, mut own) = (Series::default(), Series::default());
    for (who, took) in measured.iter().skip(2) {
        all.add(who, took.create_ms);
        own.add(who, took.create_ms - if *who == SUBJECT { took.waited_ms } else { 0.0 });
    }
    all.rows("gates-warm", "ms", findings);
    own.rows("gates-warm-own", "ms", findings);
    Ok(())
}

/// What comes through standard output.
pub(super) fn throughput(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let mut steps = Vec::new();
    let count = format!("count={}", STDOUT_BYTES >> 16);
    let command = ["/bin/dd", "if=/dev/zero", "bs=65536", &count];
    let rounds = stage.settings.runs.div_ceil(2);
    in_turn("stdio", rounds, &stage.runtimes, findings, |runtime, run| {
        let turn = prepare::turn(stage, runtime, &format!("out-{}-{run}", runtime.name), &command, as_it_is)?;
        steps.push((runtime.name, Step::Throughput(turn)));
        Ok(())
    })?;
    let mut series = Series::default();
    for (who, took) in taken(stage, &steps)? {
        series.add(who, took.megabytes_per_second);
    }
    series.rows("stdio-throughput", "MB/s", findings);
    Ok(())
}

fn as_it_is(_: &mut Value) {}

/// Takes the steps, and says who took what.
fn taken(
    stage: &Stage,
    steps: &[(&'static str, Step)],
) -> Result<Vec<(&'static str, Measured)>, HarnessError> {
    let measured = prepare::take(stage, steps.iter().map(|(_, step)| step.clone()).collect())?;
    if measured.len() != steps.len() {
        return Err(wrong("as many answers as steps", measured.len().to_string()));
    }
    Ok(steps.iter().map(|(who, _)| *who).zip(measured).collect())
}
