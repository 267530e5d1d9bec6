//! A request's `linux.seccomp` to a table.
//!
//! As runc and libseccomp read it, with three differences, all of them stricter: entry as another architecture
//! kills, whatever `architectures` lists; where rules of different actions match the same call, the strictest
//! wins, whatever their order; SPEC_ALLOW is left out, so that speculation mitigations stay as the kernel has them.
//! As runc does since 1.0: numbers above the greatest that the section names get ENOSYS where its default is an
//! errno, so that a libc newer than the profile falls back (runc#2151).

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

use crate::{
    Action, Condition, Test, Width,
    baseline::ENOSYS,
    names::{is_elsewhere, numbers_end, syscall_number},
    rules::{Answer, Rule, Table},
};

/// Greatest errno that a filter can return. Source: `MAX_ERRNO`, kernel/seccomp.c caps at it.
const ERRNO_MAX: u32 = 4095;

/// The request's seccomp section cannot be translated exactly.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// SCMP_ACT_NOTIFY, `listenerPath` or `listenerMetadata`.
    #[error("linux.seccomp brings its own notifier (SCMP_ACT_NOTIFY or listenerPath)")]
    Notifier,
    /// SCMP_ACT_TRACE.
    #[error("linux.seccomp uses SCMP_ACT_TRACE: nothing traces a container")]
    Trace,
    /// A flag with an effect that a program cannot have.
    #[error("linux.seccomp.flags has {0}")]
    Flag(&'static str),
    /// `errnoRet` with an action that returns no errno.
    #[error("linux.seccomp gives an errnoRet with {action}, which returns none")]
    ErrnoWithout {
        /// The action.
        action: LinuxSeccompAction,
    },
    /// `errnoRet` beyond 4095.
    #[error("linux.seccomp has errnoRet {0}, more than 4095")]
    Errno(u32),
    /// A rule that restricts a syscall of no kernel known here.
    #[error("linux.seccomp restricts {0:?}, a syscall that is not known here")]
    Syscall(String),
    /// No argument of this index.
    #[error("linux.seccomp compares argument {index} of {syscall}; there are 0 to 5")]
    ArgIndex {
        /// The syscall.
        syscall: String,
        /// The index.
        index: usize,
    },
    /// Values of an argument that a generated profile cannot name.
    #[error("the generated profile has values of argument {arg} of {syscall} that it cannot have")]
    Values {
        /// The syscall.
        syscall: String,
        /// The argument.
        arg: u8,
    },
    /// More than the kernel takes.
    #[error("the seccomp program has {instructions} instructions; the kernel takes 4096")]
    TooLong {
        /// How many.
        instructions: usize,
    },
    /// seccompiler refused a rule.
    #[error("seccompiler refused a rule")]
    Compiler(#[source] seccompiler::BackendError),
}

pub(crate) fn table(section: &LinuxSeccomp) -> Result<Table, ProfileError> {
    check_flags(section)?;
    let default = action(section.default_action(), section.default_errno_ret())?;
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for entry in section.syscalls().iter().flatten() {
        let then = action(entry.action(), entry.errno_ret())?;
        for name in entry.names() {
            if let Some(number) = number(name, then, default)? {
                let new = conditions(name, entry)?.into_iter().map(|when| Rule { when, then });
                rules.entry(number).or_default().extend(new);
            }
        }
    }
    let newer = match default {
        Action::Errno(_) | Action::Told(_) => Action::Errno(ENOSYS),
        Action::Allow | Action::Log | Action::Trap | Action::KillThread | Action::KillProcess => default,
    };
    // Without any rule there is no "newer than the section".
    let named_end = rules.keys().next_back().map_or(numbers_end(), |last| last + 1);
    let numbers = (0..numbers_end())
        .map(|number| match rules.remove(&number) {
            None => Answer::always(if number < named_end { default } else { newer }),
            Some(rules) => answer(rules, default),
        })
        .collect();
    Ok(Table { numbers, beyond: newer })
}

fn check_flags(section: &LinuxSeccomp) -> Result<(), ProfileError> {
    if section.listener_path().is_some() || section.listener_metadata().is_some() {
        return Err(ProfileError::Notifier);
    }
    for flag in section.flags().iter().flatten() {
        match flag {
            // One thread is all there is before execve.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync
            | LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {}
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => {
                return Err(ProfileError::Flag("SECCOMP_FILTER_FLAG_LOG: denials are reported by Bulkhead"));
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(ProfileError::Flag(
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which is a notifier's",
                ));
            }
        }
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, ProfileError> {
    let without = match action {
        LinuxSeccompAction::ScmpActErrno => {
            // EPERM is what the specification gives where none is named.
            let errno = errno.unwrap_or(1);
            let short = u16::try_from(errno).map_err(|_| ProfileError::Errno(errno))?;
            return if errno > ERRNO_MAX {
                Err(ProfileError::Errno(errno))
            } else {
                Ok(Action::Errno(short))
            };
        }
        LinuxSeccompAction::ScmpActNotify => return Err(ProfileError::Notifier),
        LinuxSeccompAction::ScmpActTrace => return Err(ProfileError::Trace),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
    };
    if errno.is_some() {
        return Err(ProfileError::ErrnoWithout { action });
    }
    Ok(without)
}

/// The number of `name`, or nothing where a rule about it has no effect here.
fn number(name: &str, then: Action, default: Action) -> Result<Option<u32>, ProfileError> {
    match syscall_number(name) {
        Some(number) => Ok(Some(number)),
        // Another architecture's call; or one newer than our tables that the section wants to loosen: the
        // baseline does not know it and says ENOSYS. To *restrict* what we do not know would be to ignore it.
        None if is_elsewhere(name) || then.strictness() <= default.strictness() => Ok(None),
        None => Err(ProfileError::Syscall(name.chars().take(80).collect())),
    }
}

/// The conditions of each rule that an entry stands for: one rule, which asks for all of them. Where it names an argument
/// more than once, a rule for each condition: of these one is enough.
///
/// Source: `matchCall`, runc libcontainer/seccomp/seccomp_linux.go; the specification is silent, and profiles that list
/// the values of an argument are written for it.
fn conditions(name: &str, entry: &LinuxSyscall) -> Result<Vec<Vec<Condition>>, ProfileError> {
    let mut seen = [false; 6];
    let mut any = false;
    let mut conditions = Vec::new();
    for arg in entry.args().iter().flatten() {
        let index = arg.index();
        let seen = seen.get_mut(index);
        let seen = seen.ok_or_else(|| ProfileError::ArgIndex { syscall: name.to_owned(), index })?;
        any |= std::mem::replace(seen, true);
        conditions.push(condition(arg, index));
    }
    Ok(if any { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] })
}

fn condition(arg: &LinuxSeccompArg, index: usize) -> Condition {
    let value = arg.value();
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Test::Ne(value),
        LinuxSeccompOperator::ScmpCmpLt => Test::Lt(value),
        LinuxSeccompOperator::ScmpCmpLe => Test::Le(value),
        LinuxSeccompOperator::ScmpCmpEq => Test::Eq(value),
        LinuxSeccompOperator::ScmpCmpGe => Test::Ge(value),
        LinuxSeccompOperator::ScmpCmpGt => Test::Gt(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Test::MaskedEq { mask: value, value: arg.value_two().unwrap_or(0) }
        }
    };
    // libseccomp compares 64 bits. `index` is below 6 by now.
    Condition { arg: u8::try_from(index).unwrap_or(u8::MAX), width: Width::Bits64, test }
}

/// Strictest rule first; one without conditions ends the list.
fn answer(mut rules: Vec<Rule>, default: Action) -> Answer {
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.then.strictness()));
    match rules.iter().position(|rule| rule.when.is_empty()) {
        None => Answer { rules, otherwise: default, only: Vec::new() },
        Some(end) => {
            let otherwise = rules[end].then;
            rules.truncate(end);
            Answer { rules, otherwise, only: Vec::new() }
        }
    }
}
