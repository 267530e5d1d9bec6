//! A test per row: the technique is known to bite, and Bulkhead stops it or its threat model names it.

use std::collections::BTreeMap;

use bulkhead_integration::workspace;
use libtest_mimic::{Failed, Trial};

use crate::{
    column::{Column, Phase},
    gather::{Cells, Table},
    technique::Outcome,
};

/// Whether it bites under Bulkhead's defaults.
pub(crate) fn bites_us(cells: &Cells) -> bool {
    cells.iter().any(|((column, _), outcome)| column.is_ours() && matches!(outcome, Outcome::Succeeded(_)))
}

/// What was observed under Bulkhead.
pub(crate) fn evidence(cells: &Cells) -> String {
    let mut seen: Vec<&str> = cells
        .iter()
        .filter(|((column, _), _)| column.is_ours())
        .map(|(_, outcome)| match outcome {
            Outcome::Succeeded(by) | Outcome::Stopped(by) => by.as_str(),
        })
        .collect();
    seen.dedup();
    seen.join(" / ")
}

/// The tests.
pub(crate) fn trials(table: &Table) -> Vec<Trial> {
    let known = known();
    table
        .iter()
        .map(|(row, cells)| {
            let (cells, reason) = (cells.clone(), known.get(&row.name).cloned());
            Trial::test(row.name.clone(), move || judge(&cells, reason.as_deref()))
        })
        .collect()
}

/// What this kernel has for nobody, where a technique asks for it: even the first column is told so.
fn absent(cells: &Cells) -> Option<&str> {
    match cells.get(&(Column::RuncPrivileged, Phase::Init)) {
        Some(Outcome::Stopped(by)) => by.split_once(" (no ")?.1.strip_suffix(')'),
        _ => None,
    }
}

/// A technique that this kernel cannot try is a skip, which run-tests.sh judges by integration/skips.toml.
pub(crate) fn print_skips(table: &Table) {
    for (row, cells) in table {
        if let (Some(what), false) = (absent(cells), bites(cells)) {
            println!("---- {} stdout ----\nskipped: needs a kernel that has {what}", row.name);
        }
    }
}

/// Whether it bites in any column.
pub(crate) fn bites(cells: &Cells) -> bool {
    cells.values().any(|outcome| matches!(outcome, Outcome::Succeeded(_)))
}

fn judge(cells: &Cells, known: Option<&str>) -> std::result::Result<(), Failed> {
    if absent(cells).is_some() && !bites(cells) {
        return Ok(());
    }
    if !bites(cells) {
        return Err(format!("it bites nowhere, so that nothing is known by it: {cells:#?}").into());
    }
    match (bites_us(cells), known) {
        (true, None) => Err(format!("it bites under Bulkhead: {}", evidence(cells)).into()),
        (false, Some(_)) => Err("it is stopped: take it out of known.toml and docs/threat-model.md".into()),
        (true, Some(_)) | (false, None) => Ok(()),
    }
}

/// known.toml; without it every bite is red.
fn known() -> BTreeMap<String, String> {
    let text =
        std::fs::read_to_string(workspace().join("integration/attacks/known.toml")).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let entries = table.get("known").and_then(toml::Value::as_table).into_iter().flatten();
    entries.filter_map(|(name, reason)| Some((name.clone(), reason.as_str()?.to_owned()))).collect()
}
