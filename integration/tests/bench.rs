//! The bench itself, on its shortest run: no number is judged here, only that there are some and what they stand on.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, process::Command, time::Duration};

use bulkhead_integration::{run, workspace};
use serde_json::Value;

/// The floor is measured only where what runs on it is what runs under Bulkhead: a Plan that makes the kernel do
/// something new fails here until floor.c does it as well.
#[test]
fn own_part_is_measured_beside_runc_and_beside_a_floor_that_confines_alike() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.env("RUNS", "1").env("ONLY", "own,gates");
    let output = run(&mut bench, Duration::from_secs(300)).unwrap().success().unwrap();
    let text = fs::read_to_string(workspace().join("target/reports/bench-part.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for (name, baseline) in [
        ("own-part", "runc"),
        ("own-part", "kernel-floor"),
        ("own-cpu", "runc"),
        ("own-cpu", "kernel-floor"),
        ("gates-warm", "create"),
        ("gates-warm", "digest-only"),
        ("gates-cold-keyed", "warm"),
    ] {
        let row = rows.iter().find(|row| row["name"] == name && row["baseline"] == baseline);
        let row = row.unwrap_or_else(|| panic!("{name} beside {baseline} is missing\n{}", output.stdout));
        assert!(row["subject_median"].as_f64().unwrap() > 0.0 && row["runs"] == 1, "{row}");
    }
    for peer in ["crun", "runsc"] {
        let measured = rows.iter().any(|row| row["baseline"] == peer);
        let mut absent = report["absent"].as_array().unwrap().iter();
        assert!(measured || absent.any(|row| row["what"] == peer), "{peer} is neither measured nor named");
    }
    assert_eq!(report["failed"].as_array().unwrap().len(), 0);
}

#[test]
fn part_that_is_not_known_is_an_error_that_names_those_that_are() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = run(bench.env("ONLY", "strat"), Duration::from_secs(60)).unwrap();
    assert!(!output.ok() && output.stderr.contains("strat; there are: start, exec"), "{}", output.stderr);
}
