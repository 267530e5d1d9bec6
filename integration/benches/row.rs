//! The rows of the report: the contract's shape.

use std::path::PathBuf;

use bulkhead_integration::{Compared, HarnessError, write_report_of};
use serde_json::{Value, json};

use crate::{runtimes::Versions, stage::Settings};

/// What is measured.
pub(crate) const SUBJECT: &str = "bulkhead";

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) baseline: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) compared: Compared,
}

impl Row {
    fn json(&self) -> Value {
        let Self { name, baseline, unit, compared } = self;
        let Compared { subject_median, baseline_median, ratio, ratio_low, ratio_high, runs } = compared;
        json!({
            "name": name, "subject": SUBJECT, "baseline": baseline, "unit": unit,
            "subject_median": subject_median, "baseline_median": baseline_median,
            "ratio": ratio, "ratio_low": ratio_low, "ratio_high": ratio_high, "runs": runs,
        })
    }
}

/// What could not be measured, and why.
#[derive(Clone, Debug)]
pub(crate) struct Absent {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// All that a run found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) rows: Vec<Row>,
    pub(crate) absent: Vec<Absent>,
    pub(crate) failed: Vec<String>,
    pub(crate) versions: Versions,
}

impl Findings {
    /// The row of a name beside a baseline.
    pub(crate) fn row(&self, name: &str, baseline: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.baseline == baseline)
    }

    /// Says that something could not be measured.
    pub(crate) fn lacks(&mut self, what: impl Into<String>, why: &impl ToString) {
        // An error's first lines say it; what a program printed beside may be long.
        let why: Vec<String> = why.to_string().lines().take(3).map(str::to_owned).collect();
        self.absent.push(Absent { what: what.into(), why: why.join(" / ").chars().take(400).collect() });
    }

    /// Writes target/reports/bench.json; a part has a file of its own, and leaves the whole as it is.
    pub(crate) fn write(&self, settings: &Settings) -> Result<PathBuf, HarnessError> {
        let name = if settings.everything() { "bench" } else { "bench-part" };
        write_report_of(name, self.report(settings))
    }

    fn report(&self, settings: &Settings) -> Value {
        let absent = self.absent.iter().map(|absent| json!({ "what": absent.what, "why": absent.why }));
        json!({
            "versions": self.versions.json(),
            "runs": settings.runs,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "absent": absent.collect::<Vec<_>>(),
            "failed": self.failed,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_has_the_fields_of_the_contract_and_an_absent_peer_has_a_reason() {
        let compared = Compared::of(&[(50.0, 100.0), (60.0, 100.0)]).unwrap();
        let row = Row { name: "start".to_owned(), baseline: "runc", unit: "ms", compared };
        let mut findings = Findings { rows: vec![row], ..Findings::default() };
        findings.lacks("runsc", &"not unpacked");
        let report = findings.report(&Settings { runs: 2, parts: Vec::new() });
        let row = report["rows"][0].as_object().unwrap();
        for field in [
            "name",
            "subject",
            "baseline",
            "unit",
            "subject_median",
            "baseline_median",
            "ratio",
            "ratio_low",
            "ratio_high",
            "runs",
        ] {
            assert!(row.contains_key(field), "{field}");
        }
        assert_eq!(report["absent"][0]["why"], "not unpacked");
    }
}
