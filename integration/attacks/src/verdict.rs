//! A test per row: the technique is known to bite, and Bulkhead stops it or its threat model names it.

use libtest_mimic::{Failed, Trial};

use crate::{
    column::{Column, Phase},
    gather::{Cells, Table},
    known::Known,
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
            Outcome::Succeeded(by) | Outcome::Stopped(by) | Outcome::Untried(by) => by.as_str(),
        })
        .collect();
    seen.dedup();
    seen.join(" / ")
}

/// The tests.
pub(crate) fn trials(table: &Table, known: &Known) -> Vec<Trial> {
    table
        .iter()
        .map(|(row, cells)| {
            let (cells, excused) = (cells.clone(), Excused::of(&row.name, known));
            Trial::test(row.name.clone(), move || judge(&cells, excused))
        })
        .collect()
}

/// What known.toml says of a technique.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Excused {
    /// Nothing: it has to bite, and Bulkhead has to stop it.
    No,
    /// Bulkhead does not stop it.
    Bites,
    /// It may have nothing to bite on this kernel.
    Absent,
}

impl Excused {
    fn of(name: &str, known: &Known) -> Self {
        if known.known.contains_key(name) {
            Self::Bites
        } else if known.machines.contains_key(name) || known.nowhere.contains_key(name) {
            Self::Absent
        } else {
            Self::No
        }
    }
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

fn judge(cells: &Cells, excused: Excused) -> std::result::Result<(), Failed> {
    if !bites(cells) {
        return match (absent(cells), excused) {
            (Some(_), Excused::Absent) => Ok(()),
            (Some(what), _) => {
                Err(format!("no {what} on this kernel: say in known.toml where it bites").into())
            }
            (None, _) => Err(format!("it bites nowhere, so that nothing is known by it: {cells:#?}").into()),
        };
    }
    match (bites_us(cells), excused) {
        (true, Excused::No | Excused::Absent) => {
            Err(format!("it bites under Bulkhead: {}", evidence(cells)).into())
        }
        (false, Excused::Bites) => {
            Err("it is stopped: take it out of known.toml and docs/threat-model.md".into())
        }
        (true, Excused::Bites) | (false, Excused::No | Excused::Absent) => Ok(()),
    }
}
