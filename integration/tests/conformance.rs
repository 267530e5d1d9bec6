//! containerd's own suites under Bulkhead and under runc, test by test: none is lost.
//!
//! ```text
//! build.sh ─► suites ─► worlds (runc | Bulkhead, at the same time) ─► rows ─► lost? excepted? ─► conformance.json
//! ```
//! A test that a shim which is `exit 1` passes too says nothing of a runtime and does not count; the lists are in
//! `integration/conformance/suites.toml`, and the long tier holds them to what is so.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "conformance/images.rs"]
mod images;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/outcome.rs"]
mod outcome;
#[path = "conformance/validation.rs"]
mod validation;
#[path = "conformance/verdict.rs"]
mod verdict;
#[path = "conformance/world.rs"]
mod world;

use std::{collections::BTreeMap, sync::Mutex};

use bulkhead_integration::merge_report;
use images::Registry;
use lists::{Lists, Tier};
use outcome::Outcome;
use verdict::{Fault, Row};
use world::{Run, Runtime, Suite};

/// containerd's CRI suite.
fn cri(version: &'static str) -> Suite {
    Suite { version, name: "cri" }
}

/// The suite of its Go client: containers, tasks and execs as a program asks for them.
fn client(version: &'static str) -> Suite {
    Suite { version, name: "client" }
}

/// Worlds want the machine for themselves.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn outcomes(
    suite: Suite,
    runtimes: &[Runtime],
    tests: &[String],
    worlds: u32,
    registry: &Registry,
) -> Vec<BTreeMap<String, Outcome>> {
    let start = |runtime: &Runtime| Run::start(suite, *runtime, tests, worlds, registry).unwrap();
    let runs: Vec<Run> = runtimes.iter().map(start).collect();
    runs.into_iter().map(|run| run.outcomes().unwrap()).collect()
}

/// Runs a suite under both, prints and reports what became of each test, and fails on what is lost.
fn none_is_lost(suite: Suite, tier: Tier) {
    // A test that failed before has been told of already.
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lists = Lists::read().unwrap();
    let list = lists.of(suite.name).unwrap();
    let exceptions = lists.exceptions(suite.name);
    let registry = images::registry(&suite.built()).unwrap();
    let mut tests = list.chosen(&suite.tests().unwrap(), tier);
    // For people who look into one test.
    let only = std::env::var("BULKHEAD_CONFORMANCE_ONLY").ok();
    if let Some(only) = &only {
        tests.retain(|test| only.split(',').any(|word| word == test));
    }
    let both = [Runtime::Runc, Runtime::Bulkhead];
    let mut seen = outcomes(suite, &both, &tests, 2, &registry);
    let judge = |seen: &[BTreeMap<String, Outcome>]| -> (Vec<Row>, Vec<(Fault, Row)>) {
        let rows = verdict::rows(&seen[0], &seen[1], &exceptions);
        let faults = rows.iter().filter_map(|row| Some((row.fault(&exceptions)?, row.clone()))).collect();
        (rows, faults)
    };
    // Four worlds on two cores: what is lost is lost only if it is lost again, with the machine to itself.
    let mut again: Vec<String> = judge(&seen).1.iter().map(|(_, row)| row.whole().to_owned()).collect();
    again.dedup();
    if !again.is_empty() {
        println!("once more, alone: {}", again.join(" "));
        for (seen, runtime) in seen.iter_mut().zip(both) {
            seen.extend(outcomes(suite, &[runtime], &again, 1, &registry).remove(0));
        }
    }
    let (rows, faults) = judge(&seen);
    let name = format!("containerd {} {}", suite.version, suite.name);
    println!("{}", verdict::table(&name, &rows));
    let json: Vec<_> = rows.iter().map(|row| row.json(&name)).collect();
    merge_report("conformance", &["suite", "test"], &json).unwrap();
    let missing = verdict::without_row(&exceptions, &rows, &tests, suite.version);
    assert!(
        missing.is_empty(),
        "no such part of a test: remove the exceptions from suites.toml: {missing:?}"
    );
    let of =
        |wanted: Fault| faults.iter().filter(move |(fault, _)| *fault == wanted).map(|(_, row)| &row.test);
    let not_needed: Vec<_> = of(Fault::NotNeeded).collect();
    assert!(
        not_needed.is_empty(),
        "Bulkhead passes these: remove their exceptions from suites.toml: {not_needed:?}"
    );
    let lost: Vec<_> = of(Fault::Lost).collect();
    assert!(
        lost.is_empty(),
        "runc passes these and Bulkhead does not: {lost:#?}\n  see: target/conformance/logs"
    );
    let passed = seen[0].values().filter(|outcome| **outcome == Outcome::Passed).count();
    let least = match (only, tier) {
        (Some(_), _) => 0,
        (None, Tier::Long) => list.long.len() / 2,
        (None, Tier::Short | Tier::All) => list.least,
    };
    assert!(
        passed >= least,
        "runc passes {passed} tests and parts, and {least} at least have to be compared"
    );
}

#[test]
fn no_test_of_containerds_cri_is_lost_against_runc() {
    none_is_lost(cri("2.1"), Tier::Short);
}

#[test]
fn no_test_of_containerds_client_is_lost_against_runc() {
    none_is_lost(client("2.1"), Tier::Short);
}

#[test]
#[ignore = "long"]
fn no_long_test_of_containerds_cri_is_lost_against_runc() {
    none_is_lost(cri("2.1"), Tier::Long);
}

#[test]
#[ignore = "long"]
fn no_long_test_of_containerds_client_is_lost_against_runc() {
    none_is_lost(client("2.1"), Tier::Long);
}

#[test]
#[ignore = "long"]
fn no_test_of_the_cri_of_containerd_2_4_is_lost_against_runc() {
    world::build("2.4").unwrap();
    none_is_lost(cri("2.4"), Tier::All);
}

#[test]
#[ignore = "long"]
fn no_test_of_the_client_of_containerd_2_4_is_lost_against_runc() {
    world::build("2.4").unwrap();
    none_is_lost(client("2.4"), Tier::All);
}

/// The OCI project's validation of runtimes: both at the same time, each on a containerd of its own.
#[test]
#[ignore = "long"]
fn no_assertion_of_the_oci_validation_is_lost_against_runc() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    validation::build().unwrap();
    let lists = Lists::read().unwrap();
    let list = lists.of("oci").unwrap();
    let exceptions = lists.exceptions("oci");
    let tests = list.chosen(&validation::tests().unwrap(), Tier::All);
    let both = |tests: &[String]| {
        let of = |runtime| move || validation::outcomes(runtime, tests).unwrap();
        std::thread::scope(|scope| {
            [Runtime::Runc, Runtime::Bulkhead]
                .map(|runtime| scope.spawn(of(runtime)))
                .map(|run| run.join().unwrap())
        })
    };
    let [mut runc, mut ours] = both(&tests);
    let lost = |row: &Row| row.fault(&exceptions).is_some();
    let mut again: Vec<String> = Vec::new();
    for row in verdict::rows(&runc, &ours, &exceptions).iter().filter(|row| lost(row)) {
        again.push(row.whole().to_owned());
    }
    again.dedup();
    if !again.is_empty() {
        println!("once more: {}", again.join(" "));
        for (seen, new) in [&mut runc, &mut ours].into_iter().zip(both(&again)) {
            seen.extend(new);
        }
    }
    let rows = verdict::rows(&runc, &ours, &exceptions);
    println!("{}", verdict::table("runtime-tools 0.9.0", &rows));
    let json: Vec<_> = rows.iter().map(|row| row.json("runtime-tools 0.9.0")).collect();
    merge_report("conformance", &["suite", "test"], &json).unwrap();
    let missing = verdict::without_row(&exceptions, &rows, &tests, "0.9.0");
    assert!(missing.is_empty(), "no such assertion: remove the exceptions from suites.toml: {missing:?}");
    let faults: Vec<_> = rows.iter().filter_map(|row| Some((row.fault(&exceptions)?, &row.test))).collect();
    assert!(faults.is_empty(), "{faults:#?}\n  see: target/conformance/logs/oci");
    let passed = runc.values().filter(|outcome| **outcome == Outcome::Passed).count();
    assert!(passed >= list.least, "runc passes {passed}, and {} at least have to be compared", list.least);
}

/// The negative control.
#[test]
#[ignore = "long"]
fn tests_that_count_fail_without_a_runtime_and_those_that_do_not_pass() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lists = Lists::read().unwrap();
    for suite in [cri("2.1"), client("2.1")] {
        let list = lists.of(suite.name).unwrap();
        let registry = images::registry(&suite.built()).unwrap();
        let mut tests = list.chosen(&suite.tests().unwrap(), Tier::All);
        tests.extend(list.blind.iter().cloned());
        let seen = outcomes(suite, &[Runtime::Broken], &tests, 2, &registry).remove(0);
        let passes = |test: &&String| seen.get(*test) == Some(&Outcome::Passed);
        let counted: Vec<&String> =
            tests.iter().filter(|test| !list.blind.contains(test)).filter(passes).collect();
        assert!(counted.is_empty(), "{}: these pass without a runtime: {counted:?}", suite.name);
        let seeing: Vec<&String> = list.blind.iter().filter(|test| !passes(test)).collect();
        assert!(seeing.is_empty(), "{}: these count, they fail without a runtime: {seeing:?}", suite.name);
    }
}

#[test]
fn every_test_in_a_list_is_one_that_the_suite_has_and_in_no_other_list() {
    let lists = Lists::read().unwrap();
    for suite in [cri("2.1"), client("2.1")] {
        let list = lists.of(suite.name).unwrap();
        let all = suite.tests().unwrap();
        assert!(!all.is_empty());
        let names = || list.blind.iter().chain(&list.long).chain(list.left_out.keys());
        let unknown: Vec<_> = names().filter(|name| !all.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: no such test: {unknown:?}", suite.name);
        let twice: Vec<_> =
            names().filter(|name| names().filter(|other| other == name).count() > 1).collect();
        assert!(twice.is_empty(), "{}: in two lists: {twice:?}", suite.name);
        for (test, exception) in lists.exceptions(suite.name) {
            let whole = test.split('/').next().unwrap();
            let there = all.iter().any(|name| name == whole);
            let newer = exception.since.is_some();
            assert_ne!(there, newer, "{test}: in containerd {}: {there}, `since`: {newer}", suite.version);
            assert!(exception.limit.len() > 20, "{test}: name the limit");
        }
    }
}
