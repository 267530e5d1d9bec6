//! Puts what became of each test under runc beside what became of it under Bulkhead.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::{lists::Exception, outcome::Outcome};

/// A test, or a part of one, under both.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) test: String,
    pub(crate) runc: Option<Outcome>,
    pub(crate) bulkhead: Option<Outcome>,
    excepted: bool,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// runc passes it, Bulkhead does not.
    Lost,
    /// Bulkhead passes it, and the list says that it cannot.
    NotNeeded,
}

/// One row for each name that either knows.
pub(crate) fn rows(
    runc: &BTreeMap<String, Outcome>,
    bulkhead: &BTreeMap<String, Outcome>,
    exceptions: &BTreeMap<&str, &Exception>,
) -> Vec<Row> {
    let names: std::collections::BTreeSet<&String> = runc.keys().chain(bulkhead.keys()).collect();
    let row = |name: &String| Row {
        test: name.clone(),
        runc: runc.get(name).copied(),
        bulkhead: bulkhead.get(name).copied(),
        // A part that is excepted fails the whole.
        excepted: exceptions.keys().any(|test| *test == name || test.starts_with(&format!("{name}/"))),
    };
    names.into_iter().map(row).collect()
}

/// Exceptions of tests that were run, in a version that has them, and that neither runtime knows as parts of these.
pub(crate) fn without_row<'e>(
    exceptions: &BTreeMap<&'e str, &Exception>,
    rows: &[Row],
    run: &[String],
    version: &str,
) -> Vec<&'e str> {
    let named = exceptions.iter().filter(|(test, exception)| {
        let whole = test.split('/').next();
        let in_version = exception.since.as_deref().is_none_or(|since| since <= version);
        in_version && run.iter().any(|ran| Some(ran.as_str()) == whole)
    });
    named.map(|(test, _)| *test).filter(|test| !rows.iter().any(|row| row.test == *test)).collect()
}

impl Row {
    /// The top-level test that it belongs to.
    pub(crate) fn whole(&self) -> &str {
        self.test.split('/').next().unwrap_or(&self.test)
    }

    pub(crate) fn fault(&self, exceptions: &BTreeMap<&str, &Exception>) -> Option<Fault> {
        let passes = self.bulkhead == Some(Outcome::Passed);
        if exceptions.contains_key(self.test.as_str()) && passes {
            return Some(Fault::NotNeeded);
        }
        (self.runc == Some(Outcome::Passed) && !passes && !self.excepted).then_some(Fault::Lost)
    }

    pub(crate) fn json(&self, suite: &str) -> Value {
        json!({ "suite": suite, "test": self.test, "runc": word(self.runc), "bulkhead": word(self.bulkhead) })
    }
}

fn word(outcome: Option<Outcome>) -> &'static str {
    outcome.map_or("not reached", Outcome::word)
}

/// The rows for people.
pub(crate) fn table(suite: &str, rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.test.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:11}  bulkhead\n", suite, "runc");
    for row in rows {
        let note = if row.excepted { "  (excepted)" } else { "" };
        // Writing to a string does not fail.
        writeln!(text, "{:width$}  {:11}  {}{note}", row.test, word(row.runc), word(row.bulkhead))
            .unwrap_or(());
    }
    text
}

#[test]
fn what_runc_passes_and_bulkhead_does_not_is_lost_unless_it_is_excepted() {
    use Outcome::{Failed, Passed, Skipped};
    let of =
        |all: &[(&str, Outcome)]| all.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect();
    let runc =
        of(&[("A", Passed), ("A/x", Passed), ("B", Passed), ("C", Failed), ("D", Passed), ("E", Skipped)]);
    let bulkhead = of(&[("A", Failed), ("A/x", Failed), ("B", Passed), ("C", Failed), ("E", Skipped)]);
    let exception = |test: &str| Exception {
        suite: String::new(),
        test: test.to_owned(),
        since: None,
        limit: String::new(),
    };
    let (part, wrong) = (exception("A/x"), exception("B"));
    let judge = |exceptions: &BTreeMap<&str, &Exception>| -> Vec<(String, Fault)> {
        let rows = rows(&runc, &bulkhead, exceptions);
        rows.iter().filter_map(|row| Some((row.test.clone(), row.fault(exceptions)?))).collect()
    };
    let lost = |test: &str| (test.to_owned(), Fault::Lost);
    assert_eq!(judge(&BTreeMap::new()), [lost("A"), lost("A/x"), lost("D")]);
    assert_eq!(judge(&[("A/x", &part)].into()), [lost("D")]);
    assert_eq!(
        judge(&[("B", &wrong)].into()),
        [lost("A"), lost("A/x"), ("B".to_owned(), Fault::NotNeeded), lost("D")]
    );
}

#[test]
fn exception_of_a_part_that_is_not_there_is_found_and_one_of_a_newer_version_is_not() {
    let passed: BTreeMap<String, Outcome> =
        ["A", "A/x"].map(|name| (name.to_owned(), Outcome::Passed)).into();
    let exception = |since: Option<&str>| Exception {
        suite: String::new(),
        test: String::new(),
        since: since.map(str::to_owned),
        limit: String::new(),
    };
    let (old, new) = (exception(None), exception(Some("2.4")));
    let exceptions = BTreeMap::from([("A/x", &old), ("A/gone", &old), ("A/new", &new), ("B", &old)]);
    let rows = rows(&passed, &passed, &exceptions);
    let run = ["A".to_owned()];
    assert_eq!(without_row(&exceptions, &rows, &run, "2.1"), ["A/gone"]);
    assert_eq!(without_row(&exceptions, &rows, &run, "2.4"), ["A/gone", "A/new"]);
}
