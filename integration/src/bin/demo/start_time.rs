//! `ctr run --rm … true` on one containerd, Bulkhead and runc's shim in turn: a taste of what `make bench` measures.

use std::time::Duration;

use bulkhead_integration::{BULKHEAD, Compared, HarnessError, RUNC};

use crate::{APP, Stage, wrong};

/// Counted runs of each runtime.
const RUNS: usize = 15;

pub(crate) fn show(stage: &Stage) -> Result<(), HarnessError> {
    let once = |runtime: &str, run: usize| -> Result<Duration, HarnessError> {
        let id = stage.daemon.id(&format!("t{run}"));
        let args = ["run", "--rm", "--runtime", runtime, APP, &id, "/bin/probe", "true"];
        Ok(stage.daemon.ctr(&args)?.success()?.took)
    };
    // Warms caches, and has the judge's verdict kept.
    for runtime in [BULKHEAD, RUNC] {
        once(runtime, 0)?;
    }
    let mut pairs = Vec::with_capacity(RUNS);
    for run in 0..RUNS {
        pairs.push((millis(once(BULKHEAD, run)?), millis(once(RUNC, run)?)));
    }
    let compared = Compared::of(&pairs).ok_or_else(|| wrong("times to compare", "none"))?;
    let Compared { subject_median, baseline_median, ratio, ratio_low, ratio_high, runs: _ } = compared;
    println!(
        "`ctr run --rm … true`, {RUNS} runs each in turn, median: Bulkhead {subject_median:.1} ms, runc's shim \
         {baseline_median:.1} ms"
    );
    println!("Ratio of the pairs: {ratio:.2} (95 % interval {ratio_low:.2} to {ratio_high:.2})\n");
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
