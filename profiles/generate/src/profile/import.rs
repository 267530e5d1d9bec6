//! A seccomp profile of OCI's or Docker's as one of ours.
//!
//! Ours names calls, and values of some arguments; of the others, the baseline says. So a file is taken where nothing else
//! than that is left of it under the baseline: a call that it allows for some arguments has to be allowed wherever the
//! baseline allows it, or wherever some arguments have one of some values. Arguments that are compared by 32 bits, as the
//! kernel reads them, are compared by these. What cannot be kept exactly is an
//! [`ImportError`] that names it; the errno of a denial is not kept (here it is ENOSYS).
//!
//! Invariant: pure, and what comes out allows no call that the file or the baseline denies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bulkhead_profiles::{
    Condition, Narrowing, Row as BaselineRow, Test, VALUES_MAX, baseline_hash, is_elsewhere, narrowings,
    rows, syscall_number,
};

use super::{
    FORMAT, Key, Profile, Row, Site, baseline_numbers,
    conditions::{self, Arguments, covers, is_within},
    file, runtime_needs,
};
use crate::{Command, Landlock};

pub use super::file::ImportError;

/// A profile, and what the baseline has taken of the file that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The profile.
    pub profile: Profile,
    /// Calls that the file allows and the baseline denies.
    pub taken: Vec<String>,
    /// Calls that the file allows for more arguments than the baseline does.
    pub narrowed: Vec<String>,
}

impl Profile {
    /// A profile of the seccomp section of OCI's runtime specification, or of Docker's file. `from` is where it was.
    ///
    /// # Errors
    /// It is none, or cannot be kept exactly.
    pub fn import(text: &[u8], from: &Path) -> Result<Imported, ImportError> {
        let file = file::File::read(text)?;
        let mut notes = file.notes;
        let (mut kept, mut taken, mut narrowed) = (BTreeMap::new(), Vec::new(), Vec::new());
        for name in file.rules.keys().filter(|name| syscall_number(name).is_none()) {
            if !is_elsewhere(name) {
                return Err(ImportError::Syscall(short(name)));
            }
        }
        let all: BTreeMap<&str, Vec<&BaselineRow>> =
            rows().iter().filter(|row| !row.needs_memfd).fold(BTreeMap::new(), |mut all, row| {
                all.entry(row.syscall).or_insert_with(Vec::new).push(row);
                all
            });
        let nothing = file::Rules::default();
        let names = all.keys().copied().chain(file.rules.keys().map(String::as_str)).collect::<BTreeSet<_>>();
        for name in names {
            if syscall_number(name).is_none() {
                continue;
            }
            let of_call = all.get(name).map_or(&[][..], Vec::as_slice);
            let rules = file.rules.get(name).unwrap_or(&nothing);
            if !allows(name, rules, file.otherwise)? {
                continue;
            }
            if !of_call.iter().any(|row| row.then.runs()) {
                // By default it allows all, and that is no call of its own.
                if file.rules.contains_key(name) {
                    taken.push(name.to_owned());
                }
                continue;
            }
            let mut arguments = Arguments::new();
            if !rules.allow.is_empty() && !covers(of_call, &[Vec::new()], &rules.allow) {
                let said = values_of(name, of_call, &rules.allow);
                arguments = said.ok_or_else(|| ImportError::Arguments(short(name)))?;
            }
            let every = [Vec::new()];
            let rules = if rules.allow.is_empty() { &every[..] } else { &rules.allow };
            if !rules.iter().all(|rule| is_within(rule, of_call)) {
                narrowed.push(name.to_owned());
            }
            kept.insert(name.to_owned(), arguments);
        }
        let lacking: BTreeSet<&str> = runtime_needs()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !kept.contains_key(*name))
            .collect();
        if !lacking.is_empty() {
            let lacking: Vec<&str> = lacking.into_iter().collect();
            notes.push(format!("lacks what the start of every container calls: {}", lacking.join(", ")));
        }
        let whole = kept.iter().filter(|(_, arguments)| arguments.is_empty());
        let numbers: BTreeSet<u32> = whole.filter_map(|(name, _)| syscall_number(name)).collect();
        let widened = baseline_numbers()
            .is_subset(&numbers)
            .then(|| "the imported file allows every call of the baseline".to_owned());
        let site =
            Site { function: "imported".to_owned(), file: from.to_owned(), at: 0, callers: Vec::new() };
        let row = |(name, args): (String, Arguments)| (name, Row { reasons: vec![site.clone()], args });
        let profile = Profile {
            format: FORMAT,
            key: Key {
                image: None,
                command: nobody(),
                generator: "import".to_owned(),
                baseline: baseline_hash().to_string(),
            },
            rows: kept.into_iter().map(row).collect(),
            denied_by_baseline: taken.clone(),
            unresolved: Vec::new(),
            widened,
            notes,
            members: Vec::new(),
            landlock: Landlock::whole_image("the profile was imported, and says nothing of files"),
            elf_bytes: 0,
        };
        Ok(Imported { profile, taken, narrowed })
    }
}

fn nobody() -> Command {
    Command {
        argv: Vec::new(),
        path: Vec::new(),
        cwd: PathBuf::from("/").display().to_string(),
        loader_environment: BTreeMap::new(),
        exec: Vec::new(),
    }
}

/// Whether a file allows a call at all.
fn allows(name: &str, rules: &file::Rules, otherwise: file::Otherwise) -> Result<bool, ImportError> {
    let file::Rules { allow, deny } = rules;
    match otherwise {
        _ if !allow.is_empty() && !deny.is_empty() => Err(ImportError::Both(short(name))),
        file::Otherwise::Deny => Ok(!allow.is_empty()),
        file::Otherwise::Allow if deny.is_empty() => Ok(true),
        file::Otherwise::Allow if deny.iter().any(Vec::is_empty) => Ok(false),
        file::Otherwise::Allow => Err(ImportError::Arguments(short(name))),
    }
}

/// Values of arguments that say the same as a call's rules, under the baseline, if any do.
fn values_of(call: &str, of_call: &[&BaselineRow], rules: &[Vec<Condition>]) -> Option<Arguments> {
    let known = narrowings().iter().filter(|known| known.syscall == call);
    let said = known.filter_map(|known| {
        let values = rules.iter().map(|rule| value_of(known, rule)).collect::<Option<BTreeSet<u32>>>()?;
        (1..=VALUES_MAX).contains(&values.len()).then_some((known.arg, values))
    });
    let arguments: Arguments = said.collect();
    let pieces = conditions::pieces(call, &arguments)?;
    (!arguments.is_empty() && covers(of_call, &pieces, rules)).then_some(arguments)
}

/// The one value of an argument that a rule allows.
fn value_of(known: &Narrowing, rule: &[Condition]) -> Option<u32> {
    let whole = u64::from(known.mask);
    match rule.iter().find(|condition| condition.arg == known.arg)?.test {
        Test::Eq(value) => u32::try_from(value).ok().map(|value| value & known.mask),
        Test::MaskedEq { mask, value } if mask == whole => u32::try_from(value & mask).ok(),
        _ => None,
    }
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
