//! Requests as containerd writes them, and what becomes of each: read in review.
//!
//! `BULKHEAD_BLESS=1 cargo test -p bulkhead-plan --test golden` writes the answers again;
//! `tests/record-ctr.sh` records the requests.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{fmt::Write as _, fs};

use common::{golden_dir, plan_of, spec};
use serde_json::{Value, json};

/// Policies under which each request is planned.
const POLICIES: [(&str, &str); 3] = [
    ("non-root", ""),
    ("force", "user = { force = 65532 }"),
    ("compatible", "level = \"compatible\"\nnamespaces = [\"*\"]"),
];

fn answer(name: &str, keys: &str) -> String {
    let plan = match plan_of(spec(name), keys) {
        Ok(plan) => plan,
        Err(refusal) => return format!("{refusal}\n"),
    };
    let mut confine = serde_json::to_value(plan.confine()).unwrap();
    // The programs themselves are golden files of bulkhead_profiles.
    let level = confine.as_object_mut().unwrap().values_mut().next().unwrap();
    level["seccomp"] = json!(format!("{} programs", plan.confine().seccomp_programs()));
    let mut text = String::new();
    for change in plan.changes() {
        let section = serde_json::to_value(change.section).unwrap();
        writeln!(text, "{}: {}: {}", section.as_str().unwrap(), change.what, change.reason).unwrap();
    }
    for (title, value) in [("confine", confine), ("config.json", serde_json::to_value(plan.spec()).unwrap())]
    {
        writeln!(text, "\n--- {title}\n{}", serde_json::to_string_pretty(&sorted(value)).unwrap()).unwrap();
    }
    text
}

/// The properties of `process.capabilities`.
const CAPABILITY_SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Objects in the order of their keys: oci-spec keeps maps and sets in none. Capabilities are sets as well.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            for (key, value) in &mut entries {
                if CAPABILITY_SETS.contains(&key.as_str())
                    && let Value::Array(list) = value
                {
                    list.sort_by_key(ToString::to_string);
                }
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[test]
fn recorded_requests_come_to_the_plans_and_refusals_that_were_reviewed() {
    let bless = std::env::var_os("BULKHEAD_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut names: Vec<_> = fs::read_dir(golden_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "requests are missing");
    for name in &names {
        for (policy, keys) in POLICIES {
            let path = golden_dir().join(name).join(format!("{policy}.txt"));
            let answer = answer(name, keys);
            if bless {
                fs::write(&path, answer).unwrap();
            } else if fs::read_to_string(&path).ok() != Some(answer) {
                wrong.push(path.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "differs; BULKHEAD_BLESS=1 writes it again: {wrong:#?}");
}
