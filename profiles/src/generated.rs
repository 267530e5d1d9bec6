//! A profile worked out from an image, on top of the baseline: what it has not is denied, and told. So is a call of its own
//! with a value of an argument that it has not: with the errno of [`crate::narrowings`].
//!
//! ```text
//! baseline, EPERM ─► told ─┐
//! names, values ─► allowed, else told ─┤ intersection ─┐
//! request's own ───────────────────────┘               ├─► main      loaded with a listener
//!                                                      └─► closing   what main allowed for the listener's sake
//! ```
//! The process hands its listener over after `main` is in force, by sendmsg(2), and loads `closing` by seccomp(2): `main`
//! allows both whatever the profile says, and `closing` takes them away again where it does not.
//!
//! Told are the calls that a profile lacks, and those that the baseline denies with EPERM: what only an attacker or a
//! mistake calls. Its other errnos are what a libc probes for, often, and are answered by the kernel alone.

use std::collections::BTreeSet;

use bulkhead_model::{CallArguments, MemfdRule};
use oci_spec::runtime::LinuxSeccomp;

use crate::{
    Action, ProfileError,
    arguments::{VALUES_MAX, narrowing},
    baseline::{self, ENOSYS},
    compile::{self, USER_NOTIF},
    names::{numbers_end, syscall_number},
    request,
    rules::{Answer, OneOf, Table},
};

/// `EPERM`. Source: include/uapi/asm-generic/errno-base.h.
const EPERM: u16 = 1;

/// What the process calls between the two programs.
const BETWEEN: [&str; 2] = ["sendmsg", "seccomp"];

/// The programs for one process: the profile's calls, of these the values of arguments that it names, the baseline and the
/// request's own section, the strictest of all for each call. The first is to be loaded with a listener, the second (if there is one) after that is handed over.
///
/// # Errors
/// As [`crate::program`]; or values of an argument that profiles do not name, or none or too many of one.
pub fn generated_programs(
    memfd: MemfdRule,
    calls: &BTreeSet<String>,
    arguments: &CallArguments,
    request: Option<&LinuxSeccomp>,
) -> Result<Vec<Vec<u64>>, ProfileError> {
    let mut main = told(baseline::table(memfd)).intersect(&table(calls, arguments)?);
    if let Some(section) = request {
        main = main.intersect(&request::table(section)?);
    }
    let mut closing =
        Table { numbers: vec![Answer::always(Action::Allow); main.numbers.len()], beyond: Action::Allow };
    let mut closes = false;
    for number in BETWEEN.into_iter().filter_map(syscall_number) {
        let (Some(answer), Some(after)) =
            (main.numbers.get_mut(number as usize), closing.numbers.get_mut(number as usize))
        else {
            continue;
        };
        let allowed = Answer::always(Action::Allow);
        if *answer != allowed {
            // No listener is behind the second program.
            *after = untold(std::mem::replace(answer, allowed));
            closes = true;
        }
    }
    let mut programs = vec![compile::program(&main)?];
    if closes {
        programs.push(compile::program(&closing)?);
    }
    Ok(programs)
}

/// The errno of a call that `program` has told: what its listener answers. `None`: the program does not tell it.
#[must_use]
pub fn told_errno(program: &[u64], call: &Call) -> Option<u16> {
    let answer = run(program, call)?;
    (answer & !0xffff == USER_NOTIF).then_some((answer & 0xffff) as u16)
}

/// `struct seccomp_data` without the instruction pointer. Source: include/uapi/linux/seccomp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The syscall.
    pub number: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

fn table(calls: &BTreeSet<String>, arguments: &CallArguments) -> Result<Table, ProfileError> {
    let mut numbers = vec![Answer::always(Action::Told(ENOSYS)); numbers_end() as usize];
    for name in calls {
        let number = syscall_number(name).and_then(|number| numbers.get_mut(number as usize));
        if let Some(answer) = number {
            answer.otherwise = Action::Allow;
            answer.only = only(name, arguments)?;
        }
    }
    Ok(Table { numbers, beyond: Action::Errno(ENOSYS) })
}

fn only(call: &str, arguments: &CallArguments) -> Result<Vec<OneOf>, ProfileError> {
    let named = arguments.get(call).into_iter().flatten();
    let only = named.map(|(arg, values)| {
        let known = narrowing(call, *arg).filter(|_| (1..=VALUES_MAX).contains(&values.len()));
        let Some(known) = known else {
            return Err(ProfileError::Values { syscall: call.to_owned(), arg: *arg });
        };
        let else_then = Action::Told(known.errno);
        Ok(OneOf { arg: *arg, mask: known.mask, values: values.iter().copied().collect(), else_then })
    });
    only.collect()
}

fn told(table: Table) -> Table {
    map(table, |action| if action == Action::Errno(EPERM) { Action::Told(EPERM) } else { action })
}

fn untold(answer: Answer) -> Answer {
    map_answer(answer, |action| match action {
        Action::Told(errno) => Action::Errno(errno),
        other => other,
    })
}

fn map(table: Table, to: impl Fn(Action) -> Action + Copy) -> Table {
    let numbers = table.numbers.into_iter().map(|answer| map_answer(answer, to)).collect();
    Table { numbers, beyond: to(table.beyond) }
}

fn map_answer(mut answer: Answer, to: impl Fn(Action) -> Action) -> Answer {
    for rule in &mut answer.rules {
        rule.then = to(rule.then);
    }
    for only in &mut answer.only {
        only.else_then = to(only.else_then);
    }
    answer.otherwise = to(answer.otherwise);
    answer
}

/// What the kernel would answer. The instructions are those that `compile` and seccompiler write; another, or a jump out
/// of the program, is none of ours.
fn run(program: &[u64], call: &Call) -> Option<u32> {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    // Jumps only lead on: as many steps as instructions.
    for _ in 0..program.len() {
        let instruction = *program.get(at)?;
        let [code, _, jt, jf, ..] = instruction.to_le_bytes();
        let (jt, jf, k) = (usize::from(jt), usize::from(jf), (instruction >> 32) as u32);
        at += 1;
        let choose = |yes: bool| if yes { jt } else { jf };
        match code {
            0x20 => accumulator = word(call, k)?,
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += choose(accumulator == k),
            0x25 => at += choose(accumulator > k),
            0x35 => at += choose(accumulator >= k),
            0x06 => return Some(k),
            _ => return None,
        }
    }
    None
}

#[allow(clippy::cast_possible_truncation, reason = "a word is half of an argument")]
fn word(call: &Call, offset: u32) -> Option<u32> {
    match offset {
        0 => Some(call.number),
        4 => Some(call.arch),
        16..64 => {
            let arg = call.args.get((offset as usize - 16) / 8)?;
            Some(if offset.is_multiple_of(8) { *arg as u32 } else { (*arg >> 32) as u32 })
        }
        _ => None,
    }
}
