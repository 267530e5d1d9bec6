//! Takes the table: every technique in every column, as init and as exec.

use std::{
    collections::BTreeMap,
    iter,
    sync::{Mutex, PoisonError},
    thread,
};

use bulkhead_integration::{HarnessError, Result, run};

use crate::{
    OUTSIDE,
    arena::Arena,
    attacker,
    column::{Column, Phase},
    technique::{Listed, Outcome, Row, Said, reason},
};

/// What came of a technique, by column and phase.
pub(crate) type Cells = BTreeMap<(Column, Phase), Outcome>;

/// What came of each.
pub(crate) type Table = BTreeMap<Row, Cells>;

/// Takes it. Two columns at a time: there are two cores.
pub(crate) fn table() -> Result<Table> {
    let arena = Arena::start()?;
    let listed = list(&arena)?;
    let queue = Mutex::new(Column::ALL.into_iter());
    // A panic of the other thread left the queue whole.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<Table>> {
        iter::from_fn(next).map(|taken| column(&arena, &listed, taken)).collect()
    };
    let taken = thread::scope(|scope| {
        let other = scope.spawn(work);
        [work(), other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
    });
    let mut table = Table::new();
    for tables in taken {
        for (row, cells) in tables?.into_iter().flatten() {
            table.entry(row).or_default().extend(cells);
        }
    }
    if only().is_some() {
        println!("{table:#?}");
    }
    arena.bench.assert_nothing_left();
    Ok(table)
}

fn column(arena: &Arena, listed: &[Listed], column: Column) -> Result<Table> {
    let mut table = Table::new();
    let mut put = |row, phase, outcome| drop(table.entry(row).or_default().insert((column, phase), outcome));
    for phase in Phase::ALL {
        for (row, outcome) in inside(arena, listed, column, phase)? {
            put(row, phase, outcome);
        }
        for (name, technique) in
            OUTSIDE.iter().filter(|(name, technique)| technique.phases.contains(&phase) && wanted(name))
        {
            let outcome = (technique.attempt)(arena, column, phase)?;
            put(Row::of(name, technique.source, technique.tries), phase, outcome);
        }
    }
    Ok(table)
}

/// What the attacker knows: asked here, where listing harms nobody.
fn list(arena: &Arena) -> Result<Vec<Listed>> {
    let mut command = std::process::Command::new(&arena.program);
    let output = run(command.arg("list"), std::time::Duration::from_secs(60))?.success()?;
    let mut listed: Vec<Listed> = attacker::lines(&output.stdout)?;
    listed.retain(|listed| wanted(&listed.name));
    Ok(listed)
}

/// The techniques that `ONLY` names, by spaces; without it all.
pub(crate) fn only() -> Option<Vec<String>> {
    let names = std::env::var("ONLY").ok()?;
    Some(names.split_whitespace().map(str::to_owned).collect())
}

fn wanted(name: &str) -> bool {
    only().is_none_or(|names| names.iter().any(|wanted| wanted == name))
}

/// Those that disturb nobody in one container, each of the others in its own.
fn inside(arena: &Arena, listed: &[Listed], column: Column, phase: Phase) -> Result<Vec<(Row, Outcome)>> {
    let (alone, together): (Vec<&Listed>, Vec<&Listed>) =
        listed.iter().partition(|listed| listed.alone == "yes");
    let mut groups: Vec<Vec<&Listed>> = [together].into_iter().filter(|group| !group.is_empty()).collect();
    groups.extend(alone.into_iter().map(|listed| vec![listed]));
    let mut outcomes = Vec::new();
    for group in groups {
        let mut command = vec!["/bin/attacker", "run"];
        command.extend(group.iter().map(|listed| listed.name.as_str()));
        let output = arena.run(column, phase, &command)?;
        let mut said: BTreeMap<String, Outcome> = attacker::lines::<Said>(&output.stdout)?
            .into_iter()
            .map(|said| (said.name.clone(), said.into()))
            .collect();
        let lone = group.len() == 1;
        for listed in group {
            let row = Row::of(&listed.name, &listed.source, &listed.tries);
            let outcome = match said.remove(&listed.name) {
                Some(outcome) => outcome,
                // A technique may take its whole container down with it: that is what stopped it.
                None if lone => Outcome::Stopped(format!("the container ended: {}", reason(&output))),
                None => {
                    let what = "an answer of the attacker";
                    return Err(HarnessError::Format { what, found: format!("{}: {output:?}", listed.name) });
                }
            };
            outcomes.push((row, outcome));
        }
    }
    Ok(outcomes)
}
