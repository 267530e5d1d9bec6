//! What became of a test of a Go suite.

use std::collections::BTreeMap;

/// What `go test -v` says of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    /// As the report spells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        }
    }
}

/// The outcomes of `test` and of its parts, by name, in what its program wrote.
///
/// A test that panics or takes too long says nothing of itself: it has failed.
pub(crate) fn read(test: &str, log: &str) -> BTreeMap<String, Outcome> {
    let mut found: BTreeMap<String, Outcome> = log.lines().filter_map(line).collect();
    let whole = found.entry(test.to_owned()).or_insert(Outcome::Failed);
    if *whole == Outcome::Passed && !log.lines().any(|line| line == "exit: 0") {
        *whole = Outcome::Failed;
    }
    found
}

/// `    --- PASS: TestA/part (0.10s)`, also behind what a test wrote without a newline.
fn line(text: &str) -> Option<(String, Outcome)> {
    let (_, rest) = text.split_once("--- ")?;
    let (word, rest) = rest.split_once(": ")?;
    let outcome = match word {
        "PASS" => Outcome::Passed,
        "FAIL" => Outcome::Failed,
        "SKIP" => Outcome::Skipped,
        _ => return None,
    };
    let (name, took) = rest.rsplit_once(" (")?;
    took.ends_with("s)").then(|| (name.to_owned(), outcome))
}

#[test]
fn outcome_of_a_test_and_its_parts_is_read_and_silence_is_failure() {
    let log = "=== RUN TestA\n    --- PASS: TestA/one (0.10s)\nnoise    --- SKIP: TestA/two (0.00s)\n--- PASS: TestA (1.00s)\nPASS\nexit: 0\n";
    let found = read("TestA", log);
    assert_eq!(found.get("TestA"), Some(&Outcome::Passed));
    assert_eq!(found.get("TestA/one"), Some(&Outcome::Passed));
    assert_eq!(found.get("TestA/two"), Some(&Outcome::Skipped));
    assert_eq!(read("TestA", "panic: nil\nexit: 2\n").get("TestA"), Some(&Outcome::Failed));
    assert_eq!(read("TestA", &log.replace("exit: 0", "exit: 1")).get("TestA"), Some(&Outcome::Failed));
}
