//! A seccomp profile of OCI's or Docker's as one of ours.
//!
//! Ours names calls; of which arguments, the baseline says. So a file is taken where nothing else than that is left of it
//! under the baseline: a call that it allows for some arguments has to be allowed wherever the baseline allows it. Arguments
//! that the baseline compares by 32 bits, as the kernel reads them, are compared by these. What cannot be kept exactly is an
//! [`ImportError`] that names it; the errno of a denial is not kept (here it is ENOSYS).
//!
//! Invariant: pure, and what comes out allows no call that the file or the baseline denies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bulkhead_profiles::{
    Condition, Row as BaselineRow, Test, Width, baseline_hash, is_elsewhere, rows, syscall_number,
};

use super::{FORMAT, Key, Profile, Row, Site, baseline_numbers, file, runtime_needs};
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
        let (mut kept, mut taken, mut narrowed) = (BTreeSet::new(), Vec::new(), Vec::new());
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
            if !rules.allow.is_empty() && !covers(of_call, &rules.allow) {
                return Err(ImportError::Arguments(short(name)));
            }
            let every = [Vec::new()];
            let rules = if rules.allow.is_empty() { &every[..] } else { &rules.allow };
            if !rules.iter().all(|rule| is_within(rule, of_call)) {
                narrowed.push(name.to_owned());
            }
            kept.insert(name.to_owned());
        }
        let lacking: BTreeSet<&str> =
            runtime_needs().into_iter().map(|(name, _)| name).filter(|name| !kept.contains(*name)).collect();
        if !lacking.is_empty() {
            let lacking: Vec<&str> = lacking.into_iter().collect();
            notes.push(format!("lacks what the start of every container calls: {}", lacking.join(", ")));
        }
        let numbers: BTreeSet<u32> = kept.iter().filter_map(|name| syscall_number(name)).collect();
        let widened = baseline_numbers()
            .is_subset(&numbers)
            .then(|| "the imported file allows every call of the baseline".to_owned());
        let site =
            Site { function: "imported".to_owned(), file: from.to_owned(), at: 0, callers: Vec::new() };
        let row = |name: String| (name, Row { reasons: vec![site.clone()], args: BTreeMap::new() });
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

/// Whether one of the rules allows a call wherever the baseline's rows of it do.
fn covers(of_call: &[&BaselineRow], rules: &[Vec<Condition>]) -> bool {
    of_call.iter().enumerate().filter(|(_, row)| row.then.runs()).all(|(at, row)| {
        let denied: Vec<&[Condition]> =
            of_call[..at].iter().filter(|before| !before.then.runs()).map(|before| before.args).collect();
        rules.iter().any(|rule| rule.iter().all(|wanted| holds_where(wanted, row.args, &denied)))
    })
}

/// Whether the baseline allows a call wherever a rule does.
fn is_within(rule: &[Condition], of_call: &[&BaselineRow]) -> bool {
    of_call.iter().enumerate().filter(|(_, row)| row.then.runs()).any(|(at, row)| {
        let inside =
            |wanted: &Condition| rule.iter().any(|given| given.arg == wanted.arg && implies(given, wanted));
        let denies = of_call[..at].iter().filter(|before| !before.then.runs());
        row.args.iter().all(inside)
            && denies.into_iter().all(|before| {
                before.args.iter().any(|denied| rule.iter().any(|given| excludes(given, denied)))
            })
    })
}

/// Whether a condition of a file's leaves out what a condition of the baseline's wants.
fn excludes(given: &Condition, denied: &Condition) -> bool {
    given.arg == denied.arg
        && match (given.test, denied.test) {
            (Test::Eq(value), denied) => !test(denied, value),
            (Test::Ne(value), Test::Eq(other)) => value == other,
            (Test::MaskedEq { mask, value }, Test::Eq(other)) => other & mask != value & mask,
            (Test::MaskedEq { mask, value }, Test::MaskedEq { mask: also, value: other }) => {
                (value ^ other) & mask & also != 0
            }
            _ => false,
        }
}

/// Whether a condition holds wherever all of `given` do and none of `denied` does.
fn holds_where(wanted: &Condition, given: &[Condition], denied: &[&[Condition]]) -> bool {
    if given.iter().any(|given| given.arg == wanted.arg && implies(given, wanted)) {
        return true;
    }
    let Test::Ne(value) = wanted.test else { return false };
    denied.iter().any(|denied| match denied {
        [one] if one.arg == wanted.arg => readable(one.width, wanted) && test(one.test, value),
        _ => false,
    })
}

fn implies(given: &Condition, wanted: &Condition) -> bool {
    readable(given.width, wanted)
        && match (given.test, wanted.test) {
            (Test::Eq(value), wanted) => test(wanted, value),
            (Test::MaskedEq { mask, value }, Test::MaskedEq { mask: less, value: other }) => {
                less & !mask == 0 && value & less == other & less
            }
            (Test::MaskedEq { mask, value }, Test::Ne(other)) => other & mask != value & mask,
            (given, wanted) => given == wanted,
        }
}

/// Whether a condition says nothing of bits that the baseline does not look at.
fn readable(width: Width, condition: &Condition) -> bool {
    let fits = |value: u64| value <= u64::from(u32::MAX);
    width == Width::Bits64
        || match condition.test {
            Test::MaskedEq { mask, value } => fits(mask) && fits(value),
            Test::Eq(value)
            | Test::Ne(value)
            | Test::Lt(value)
            | Test::Le(value)
            | Test::Gt(value)
            | Test::Ge(value) => fits(value),
        }
}

fn test(test: Test, arg: u64) -> bool {
    match test {
        Test::Eq(value) => arg == value,
        Test::Ne(value) => arg != value,
        Test::Lt(value) => arg < value,
        Test::Le(value) => arg <= value,
        Test::Gt(value) => arg > value,
        Test::Ge(value) => arg >= value,
        Test::MaskedEq { mask, value } => arg & mask == value & mask,
    }
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
