//! A seccomp profile as OCI and Docker write it: what of it counts on this machine, for a container without capabilities.

use std::collections::BTreeMap;

use bulkhead_profiles::{Condition, Test, Width};
use serde::Deserialize;

/// Longest file, in bytes. Docker's own has 13 kB.
const FILE_BYTES_MAX: usize = 4 << 20;

/// What every kernel has that Bulkhead runs on. Source: docs/profiles.md, Landlock ABI 1.
const KERNEL_MIN: (u32, u32) = (5, 13);

/// This machine, as these files call it.
#[cfg(target_arch = "x86_64")]
const HERE: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
const HERE: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");

/// A seccomp profile of somebody else's cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No JSON of that form, or with a field that is not known.
    #[error("it is no seccomp profile of OCI's or Docker's form")]
    Form(#[source] serde_json::Error),
    /// Longer than is read.
    #[error("it is longer than 4 MiB")]
    TooLong,
    /// An action that ours have not.
    #[error("{action} of {of} cannot be kept: a profile here lets a call run, or answers ENOSYS")]
    Action {
        /// The action.
        action: String,
        /// A call, or the default.
        of: String,
    },
    /// `errnoRet` 0, which has a call succeed that did not run.
    #[error("errnoRet 0 of {0} cannot be kept: the call would seem to have succeeded")]
    Pretends(String),
    /// No call of a kernel known here.
    #[error("{0} is no system call that is known here")]
    Syscall(String),
    /// Allowed for fewer arguments than the baseline allows it.
    #[error("{0} is allowed for some arguments only, and not for all that the baseline allows")]
    Arguments(String),
    /// Rules that contradict each other.
    #[error("{0} is both allowed and denied")]
    Both(String),
    /// Two conditions on one argument in one rule, or on an argument that no call has.
    #[error("argument {index} of {syscall} is compared twice in one rule, or there is none")]
    Argument {
        /// The call.
        syscall: String,
        /// The argument.
        index: u32,
    },
    /// No such comparison.
    #[error("{op} of {syscall} is no comparison that is known here")]
    Operator {
        /// The call.
        syscall: String,
        /// Its name.
        op: String,
    },
    /// A flag or a notifier.
    #[error("{0} cannot be kept")]
    Feature(String),
    /// It is for other machines.
    #[error("its architectures do not have {0}, which is this machine's")]
    Architecture(&'static str),
    /// A rule that hangs on the kernel.
    #[error("the rule of {syscall} counts from Linux {version} on: which runs it is not known here")]
    Kernel {
        /// The call.
        syscall: String,
        /// The version.
        version: String,
    },
}

/// What becomes of a call that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Allow,
    Deny,
}

/// The rules of one call: each allows, or denies, where all its conditions hold.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) allow: Vec<Vec<Condition>>,
    pub(super) deny: Vec<Vec<Condition>>,
}

/// What counts of a file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) otherwise: Otherwise,
    pub(super) rules: BTreeMap<String, Rules>,
    pub(super) notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<When>,
    excludes: Option<When>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Docker's: where a rule counts.
///
/// Source: moby profiles/seccomp, `setupSeccomp`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl File {
    pub(super) fn read(text: &[u8]) -> Result<Self, ImportError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(ImportError::TooLong);
        }
        let document: Document = serde_json::from_slice(text).map_err(ImportError::Form)?;
        let mut notes = features(&document)?;
        let otherwise = action(&document.default_action, document.default_errno_ret, "defaultAction")?;
        let mut rules: BTreeMap<String, Rules> = BTreeMap::new();
        for entry in document.syscalls.unwrap_or_default() {
            let names = entry.names.unwrap_or_default().into_iter().chain(entry.name).collect::<Vec<_>>();
            let of = names.first().map_or("a rule", String::as_str);
            if !counts(
                &entry.includes.unwrap_or_default(),
                &entry.excludes.unwrap_or_default(),
                of,
                &mut notes,
            )? {
                continue;
            }
            let then = action(&entry.action, entry.errno_ret, of)?;
            let when = conditions(&entry.args.unwrap_or_default(), of)?;
            for name in names {
                let rules = rules.entry(name).or_default();
                match then {
                    Otherwise::Allow => rules.allow.push(when.clone()),
                    Otherwise::Deny => rules.deny.push(when.clone()),
                }
            }
        }
        Ok(Self { otherwise, rules, notes })
    }
}

/// What is refused of all but the rules, and what is told of it.
fn features(document: &Document) -> Result<Vec<String>, ImportError> {
    if document.listener_path.is_some() || document.listener_metadata.is_some() {
        return Err(ImportError::Feature("a notifier (listenerPath)".to_owned()));
    }
    let mut notes = Vec::new();
    for flag in document.flags.iter().flatten() {
        match flag.as_str() {
            // One thread is all there is before execve; mitigations of speculation stay as the kernel has them.
            "SECCOMP_FILTER_FLAG_TSYNC" => {}
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => notes.push(format!("without its flag {flag}")),
            other => {
                return Err(ImportError::Feature(format!(
                    "its flag {}",
                    other.chars().take(80).collect::<String>()
                )));
            }
        }
    }
    let mut named = document.architectures.clone().unwrap_or_default();
    let mapped = document.arch_map.iter().flatten();
    for ArchMap { architecture, sub_architectures } in mapped.filter(|map| map.architecture == HERE.0) {
        named.push(architecture.clone());
        named.extend(sub_architectures.iter().flatten().cloned());
    }
    let says = !named.is_empty() || document.arch_map.as_ref().is_some_and(|map| !map.is_empty());
    if says && !named.iter().any(|name| name == HERE.0 || name == "SCMP_ARCH_NATIVE") {
        return Err(ImportError::Architecture(HERE.0));
    }
    // Those of other machines have no effect on this one.
    let entries = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"];
    let more: Vec<&str> = named.iter().map(String::as_str).filter(|name| entries.contains(name)).collect();
    if !more.is_empty() {
        notes.push(format!("without entry as {}, which the baseline denies", more.join(", ")));
    }
    Ok(notes)
}

/// Whether a rule counts for a container without capabilities on this machine.
fn counts(includes: &When, excludes: &When, of: &str, notes: &mut Vec<String>) -> Result<bool, ImportError> {
    let listed = |arches: &Option<Vec<String>>| arches.iter().flatten().any(|arch| arch == HERE.1);
    if listed(&excludes.arches)
        || includes.arches.as_ref().is_some_and(|arches| !arches.is_empty()) && !listed(&includes.arches)
    {
        return Ok(false);
    }
    if let Some(version) = &excludes.min_kernel {
        return Err(kernel(of, version));
    }
    if let Some(version) = &includes.min_kernel {
        let mut numbers = version.split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) <= KERNEL_MIN => {}
            _ => return Err(kernel(of, version)),
        }
    }
    let caps: Vec<String> = includes.caps.iter().flatten().cloned().collect();
    if !caps.is_empty() {
        notes.push(format!("without the rule of {of} for containers with {}", caps.join(", ")));
    }
    Ok(caps.is_empty())
}

fn kernel(of: &str, version: &str) -> ImportError {
    ImportError::Kernel { syscall: of.to_owned(), version: version.chars().take(40).collect() }
}

fn action(action: &str, errno: Option<u32>, of: &str) -> Result<Otherwise, ImportError> {
    match (action, errno) {
        ("SCMP_ACT_ALLOW", _) => Ok(Otherwise::Allow),
        ("SCMP_ACT_ERRNO", Some(0)) => Err(ImportError::Pretends(of.to_owned())),
        ("SCMP_ACT_ERRNO", _) => Ok(Otherwise::Deny),
        (other, _) => {
            Err(ImportError::Action { action: other.chars().take(80).collect(), of: of.to_owned() })
        }
    }
}

fn conditions(args: &[Arg], of: &str) -> Result<Vec<Condition>, ImportError> {
    let mut seen = [false; 6];
    let mut conditions = Vec::new();
    for Arg { index, value, value_two, op } in args {
        let bad = || ImportError::Argument { syscall: of.to_owned(), index: *index };
        let at = seen.get_mut(*index as usize).ok_or_else(bad)?;
        if std::mem::replace(at, true) {
            return Err(bad());
        }
        let test = match op.as_str() {
            "SCMP_CMP_NE" => Test::Ne(*value),
            "SCMP_CMP_LT" => Test::Lt(*value),
            "SCMP_CMP_LE" => Test::Le(*value),
            "SCMP_CMP_EQ" => Test::Eq(*value),
            "SCMP_CMP_GE" => Test::Ge(*value),
            "SCMP_CMP_GT" => Test::Gt(*value),
            "SCMP_CMP_MASKED_EQ" => Test::MaskedEq { mask: *value, value: *value_two },
            other => {
                let op = other.chars().take(80).collect();
                return Err(ImportError::Operator { syscall: of.to_owned(), op });
            }
        };
        let arg = u8::try_from(*index).map_err(|_| bad())?;
        conditions.push(Condition { arg, width: Width::Bits64, test });
    }
    Ok(conditions)
}
