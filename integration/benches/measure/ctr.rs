//! What a user of `ctr` waits for: whole commands, client and daemon included.

use std::{thread, time::Instant};

use bulkhead_integration::HarnessError;

use crate::{
    row::Findings,
    runtimes::Runtime,
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

/// `ctr run --rm … true`.
pub(super) fn start(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let mut series = Series::default();
    in_turn("start", stage.settings.runs, &stage.runtimes, findings, |runtime, _| {
        series.add(runtime.name, stage.run_true(runtime, "start")?.took.as_secs_f64() * 1e3);
        Ok(())
    })?;
    series.rows("start", "ms", findings);
    Ok(())
}

/// `ctr task exec … true` in a container that runs.
pub(super) fn exec(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let mut running = Vec::new();
    for runtime in &stage.runtimes {
        running.push((runtime.name, stage.start_pause(runtime, &format!("exec-{}", runtime.name))?));
    }
    let mut series = Series::default();
    in_turn("exec", stage.settings.runs, &stage.runtimes, findings, |runtime, run| {
        let exec = |name: &str| {
            let id = running.iter().find(|(name, _)| *name == runtime.name).map_or("", |(_, id)| id.as_str());
            stage.daemon().ctr(&["task", "exec", "--exec-id", name, id, "/bin/probe", "true"])?.success()
        };
        if run == 0 {
            exec("warm")?;
        }
        series.add(runtime.name, exec(&format!("e{run}"))?.took.as_secs_f64() * 1e3);
        Ok(())
    })?;
    for (_, id) in running {
        stage.bench.remove(&id)?;
    }
    series.rows("exec", "ms", findings);
    Ok(())
}

/// Containers a second, so many at once, each started and removed by `ctr run --rm`.
pub(super) fn rate(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    // Each of these is some dozen starts: fewer rounds say as much.
    let rounds = stage.settings.runs.div_ceil(4);
    for at_once in [1, 4, 8] {
        let mut series = Series::default();
        in_turn(&format!("starts at once: {at_once}"), rounds, &stage.runtimes, findings, |runtime, _| {
            series.add(runtime.name, starts_per_second(stage, runtime, at_once)?);
            Ok(())
        })?;
        series.rows(&format!("starts-per-second-{at_once}"), "1/s", findings);
    }
    Ok(())
}

fn starts_per_second(stage: &Stage, runtime: &Runtime, at_once: usize) -> Result<f64, HarnessError> {
    /// Of each of those at once, one after the other.
    const EACH: usize = 3;
    let began = Instant::now();
    thread::scope(|scope| {
        let one = |lane: usize| {
            move || (0..EACH).try_for_each(|_| stage.run_true(runtime, &format!("rate-{lane}")).map(drop))
        };
        let lanes: Vec<_> = (0..at_once).map(|lane| scope.spawn(one(lane))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| wrong("a thread", "it panicked"))?)
    })?;
    Ok((at_once * EACH) as f64 / began.elapsed().as_secs_f64())
}
