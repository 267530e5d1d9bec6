//! Each parser with its corpus, as it is and damaged: every input is answered.

#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use bulkhead_fuzz::{Dice, TARGETS, damaged};

/// Damaged copies for each target, over all files of its corpus.
const COPIES: usize = 600;

#[test]
fn every_parser_answers_its_corpus_and_damaged_copies_of_it() {
    for target in TARGETS {
        let corpus: Vec<Vec<u8>> =
            target.corpus().unwrap().iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        let mut dice = Dice(1);
        for whole in &corpus {
            (target.run)(whole);
            for _ in 0..COPIES / corpus.len() {
                (target.run)(&damaged(whole, &mut dice));
            }
        }
        println!("{}: {} files, {COPIES} damaged copies", target.name, corpus.len());
    }
}

/// libFuzzer, a minute each: `integration/scripts/fuzz.sh 60`. What it finds is in target/fuzz/found.
#[test]
#[ignore = "long"]
fn a_minute_of_libfuzzer_finds_nothing_in_any_parser() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/fuzz.sh");
    let status = Command::new(script).arg("60").status().unwrap();
    assert!(status.success(), "{status}: see target/fuzz");
}
