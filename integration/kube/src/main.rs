//! Pods under Bulkhead on a real Kubernetes node: each sentence goes through the API server, and a kubelet carries it out.
//!
//! ```text
//! make kube-test ─► build.sh: target/deps/kube (cached) ─► node: network namespace, containerd, control plane, kubelet
//!                                                            ├─ sentences that share the node, four at a time
//!                                                            └─ sentences that want it alone: restarts, what is left
//! ```
//! Invariant: nothing of the node is the machine's own: its network, mounts, directories, control groups and processes end
//! with it. Images are made on the spot and imported; nothing is pulled.
//! Without the built programs, which take too long for CI, every sentence is left out, and that is said.

#![forbid(unsafe_code)]

mod control_plane;
mod kubectl;
mod kubelet;
mod network;
mod node;
mod pod;
mod program;
mod sentences;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use bulkhead_integration::{merge_report, write_report};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

use crate::{
    node::Node,
    sentences::{Sentence, Shares},
};

/// How many sentences share the node at the same time: most of their time they wait for the kubelet.
const AT_ONCE: usize = 4;

/// What became of each sentence: why it failed, or nothing.
type Outcomes = BTreeMap<&'static str, Result<(), String>>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("modules_of_kubernetes_are_pinned_to_one_version", || {
        node::one_version().map_err(Failed::from)
    })];
    match node::built() {
        Ok(true) if arguments.list => {
            trials.extend(sentences::ALL.iter().map(|each| trial(each.name, Ok(()))))
        }
        Ok(true) => trials.extend(observed(&chosen(&arguments))),
        Ok(false) => {
            let needs = "needs the built binaries of Kubernetes: make kube-test";
            println!(
                "---- kubernetes stdout ----\nskipped: {needs}\n{} sentences are left out",
                sentences::ALL.len()
            );
            trials.push(trial("kubernetes", Ok(())));
        }
        Err(error) => trials.push(trial("kubernetes", Err(error.to_string()))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn chosen(arguments: &Arguments) -> Vec<&'static Sentence> {
    let named = |name: &str| match &arguments.filter {
        Some(filter) if arguments.exact => name == filter,
        Some(filter) => name.contains(filter.as_str()),
        None => true,
    };
    let skipped = |name: &str| arguments.skip.iter().any(|word| name.contains(word.as_str()));
    sentences::ALL.iter().filter(|each| named(each.name) && !skipped(each.name)).collect()
}

fn trial(name: &str, outcome: Result<(), String>) -> Trial {
    Trial::test(name, move || outcome.map_err(Failed::from))
}

/// Starts the node, if any sentence wants it, and lets each happen once.
fn observed(chosen: &[&'static Sentence]) -> Vec<Trial> {
    if chosen.is_empty() {
        return Vec::new();
    }
    let outcomes = match Node::start() {
        Ok(mut node) => {
            let mut outcomes = together(&node, chosen);
            outcomes.extend(alone(&mut node, chosen));
            if outcomes.values().any(Result::is_err) {
                node.tell();
            }
            outcomes
        }
        // Each of them is red: a filter must not hide that there is no node.
        Err(error) => chosen.iter().map(|each| (each.name, Err(error.to_string()))).collect(),
    };
    report(&outcomes);
    outcomes.into_iter().map(|(name, outcome)| trial(name, outcome)).collect()
}

/// `target/reports/kubernetes.json`: a row for each sentence.
fn report(outcomes: &Outcomes) {
    let rows: Vec<_> = outcomes
        .iter()
        .map(|(name, outcome)| {
            let outcome = if outcome.is_ok() { "passed" } else { "failed" };
            json!({ "machine": "host", "test": name, "outcome": outcome })
        })
        .collect();
    // A part of the sentences takes the place of their rows alone.
    let written = match outcomes.len() == sentences::ALL.len() {
        true => write_report("kubernetes", &rows),
        false => merge_report("kubernetes", &["test"], &rows),
    };
    if let Err(error) = written {
        eprintln!("harness: {error}");
    }
}

fn together(node: &Node, chosen: &[&'static Sentence]) -> Outcomes {
    let shared = chosen.iter().filter_map(|each| match each.shares {
        Shares::Node(run) => Some((each.name, run)),
        Shares::Nothing(_) => None,
    });
    let queue = Mutex::new(shared.collect::<Vec<_>>().into_iter());
    let outcomes = Mutex::new(Outcomes::new());
    let next = || queue.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, run)) = next() {
                    let outcome = caught(|| run(node));
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.insert(name, outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

fn alone(node: &mut Node, chosen: &[&'static Sentence]) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for each in chosen {
        if let Shares::Nothing(run) = each.shares {
            outcomes.insert(each.name, caught(|| run(node)));
        }
    }
    outcomes
}

/// What a sentence panicked with.
fn caught(run: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}
