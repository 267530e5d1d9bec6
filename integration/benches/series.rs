//! Samples of every runtime, taken in turn, and the rows that they come to.

use std::collections::BTreeMap;

use bulkhead_integration::{Compared, HarnessError};

use crate::{
    interrupt,
    row::{Findings, Row, SUBJECT},
    runtimes::Runtime,
};

/// Samples by who was measured, in the order of the runs.
#[derive(Debug, Default)]
pub(crate) struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    /// Adds a sample.
    pub(crate) fn add(&mut self, of: &'static str, sample: f64) {
        self.0.entry(of).or_default().push(sample);
    }

    /// One row for each baseline.
    pub(crate) fn rows(&self, name: &str, unit: &'static str, findings: &mut Findings) {
        let none = Vec::new();
        let subject = self.0.get(SUBJECT).unwrap_or(&none);
        for (baseline, samples) in self.0.iter().filter(|(who, _)| **who != SUBJECT) {
            let pairs: Vec<(f64, f64)> = subject.iter().copied().zip(samples.iter().copied()).collect();
            match Compared::of(&pairs) {
                Some(compared) => {
                    findings.rows.push(Row { name: name.to_owned(), baseline, unit, compared });
                }
                None => findings.lacks(format!("{name} beside {baseline}"), &"nothing to divide by"),
            }
        }
    }
}

/// Measures every runtime once a round, beginning with another one each round: none is always the first.
///
/// A peer that fails is out from then on, with its reason; Bulkhead that fails is an error.
pub(crate) fn in_turn(
    part: &str,
    runs: usize,
    runtimes: &[Runtime],
    findings: &mut Findings,
    mut once: impl FnMut(&Runtime, usize) -> Result<(), HarnessError>,
) -> Result<(), HarnessError> {
    let mut out: Vec<&str> = Vec::new();
    for round in 0..runs {
        for turn in 0..runtimes.len() {
            let runtime = &runtimes[(round + turn) % runtimes.len()];
            if out.contains(&runtime.name) {
                continue;
            }
            interrupt::check()?;
            match once(runtime, round) {
                Ok(()) => {}
                Err(error) if runtime.name == SUBJECT || interrupt::came() => return Err(error),
                Err(error) => {
                    out.push(runtime.name);
                    findings.lacks(format!("{part} beside {}", runtime.name), &error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_baseline_gets_a_row_and_the_subject_none() {
        let (mut series, mut findings) = (Series::default(), Findings::default());
        for run in 0..3 {
            series.add(SUBJECT, 6.0 + f64::from(run));
            series.add("runc", 10.0);
            series.add("crun", 8.0);
        }
        series.rows("start", "ms", &mut findings);
        let baselines: Vec<&str> = findings.rows.iter().map(|row| row.baseline).collect();
        assert_eq!(baselines, ["crun", "runc"]);
        assert_eq!(findings.row("start", "runc").map(|row| row.compared.ratio), Some(0.7));
    }
}
