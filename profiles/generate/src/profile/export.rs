//! A profile for other runtimes: the seccomp section of OCI and Docker, and the SeccompProfile resource of the Security
//! Profiles Operator.
//!
//! Both hold what runc itself calls under its filter besides the profile, and the answers that the baseline has for calls
//! that it denies: a program may go on at EPERM of setgroups(2) or EINVAL of splice(2), and not at ENOSYS.
//!
//! Limits: these formats have no order of rules, and libseccomp takes one comparison for each argument of a rule. Where
//! the baseline denies several values of one argument, all but what can be said is allowed; so are all values of the
//! arguments of what runc calls itself, and of those that would make too many rules. [`Exported::wider`] names those calls.
//! Values of several arguments are a rule for each combination. What is outside gets the errno of the default.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_profiles::{Action, Condition, Row as BaselineRow, Test, rows, syscall_name, syscall_number};
use serde_json::{Value, json};

use super::{
    Profile,
    conditions::{Arguments, excludes, is_within, pieces},
};

/// Beyond the number of every call. Source: the kernel's tables end below 512 but for x32's.
const NUMBERS_END: u32 = 512;

/// `ENOSYS`: no such call. Source: include/uapi/asm-generic/errno.h.
const ENOSYS: u32 = 38;

/// What runc's own process, a Go program, calls between its filter and execve(2): it closes what is open by
/// /proc/self/fd, and its runtime lives on meanwhile. Bulkhead's own needs are in the profile itself.
///
/// Source: runc libcontainer/standard_init_linux.go, `Init` after `seccomp.InitSeccomp`; libcontainer/utils.
const RUNC: &[&str] = &[
    "clone",
    "close",
    "close_range",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "gettid",
    "madvise",
    "mmap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "read",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "tgkill",
    "write",
];

/// A profile in another format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The text.
    pub text: String,
    /// Calls of which more is allowed than here, because the format cannot say less.
    pub wider: Vec<String>,
}

impl Profile {
    /// `linux.seccomp` of the OCI runtime specification; Docker's `--security-opt seccomp=FILE` takes the same.
    #[must_use]
    pub fn to_oci(&self) -> Exported {
        let (section, wider) = self.section();
        Exported { text: format!("{section:#}"), wider }
    }

    /// A `SeccompProfile` of the Security Profiles Operator (security-profiles-operator.x-k8s.io/v1beta1).
    ///
    /// It has no errno of the default, which is EPERM then, and a libc does not fall back from that: what no rule names is
    /// named, with ENOSYS.
    ///
    /// Source: api/seccompprofile/v1beta1/seccompprofile_types.go of the operator.
    #[must_use]
    pub fn to_operator(&self, name: &str) -> Exported {
        let (mut section, wider) = self.section();
        let named: BTreeSet<String> =
            names_in(&section).filter_map(Value::as_str).map(str::to_owned).collect();
        let others: Vec<&str> =
            (0..NUMBERS_END).filter_map(syscall_name).filter(|name| !named.contains(*name)).collect();
        if let Some(section) = section.as_object_mut() {
            section.remove("defaultErrnoRet");
        }
        if let Some(rules) = section["syscalls"].as_array_mut() {
            rules.push(json!({ "names": others, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
        }
        let resource = json!({
            "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
            "kind": "SeccompProfile",
            "metadata": { "name": name },
            "spec": section,
        });
        let mut text = String::new();
        yaml(&resource, 0, &mut text);
        Exported { text: text.trim_start().to_owned(), wider }
    }

    fn section(&self) -> (Value, Vec<String>) {
        let mut plain = Vec::new();
        let mut conditional = Vec::new();
        let mut wider = Vec::new();
        let names: BTreeSet<&str> =
            self.rows.keys().map(String::as_str).chain(RUNC.iter().copied()).collect();
        for name in names {
            let Some(number) = syscall_number(name) else { continue };
            let of_call: Vec<&BaselineRow> =
                rows().iter().filter(|row| row.number == number && !row.needs_memfd).collect();
            let none = Arguments::new();
            let arguments = self.rows.get(name).map_or(&none, |row| &row.args);
            let free = RUNC.contains(&name) && !arguments.is_empty();
            let (rules, is_wider) = narrowed(name, &of_call, if free { &none } else { arguments });
            if is_wider || free {
                wider.push(name.to_owned());
            }
            if rules.iter().any(Vec::is_empty) {
                plain.push(name);
                continue;
            }
            for rule in rules {
                let args: Vec<Value> =
                    rule.iter().map(|one| comparison(one, arguments.contains_key(&one.arg))).collect();
                conditional.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args }));
            }
        }
        let mut syscalls = vec![json!({ "names": plain, "action": "SCMP_ACT_ALLOW" })];
        syscalls.extend(conditional);
        for (errno, names) in denied() {
            syscalls.push(json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }));
        }
        let section = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": ENOSYS,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": syscalls,
        });
        (section, wider)
    }
}

/// Calls that the baseline denies whatever their arguments, by errno; without those that are answered as what no rule names.
fn denied() -> BTreeMap<u16, Vec<&'static str>> {
    let mut denied = BTreeMap::<u16, Vec<&'static str>>::new();
    for row in rows().iter().filter(|row| row.args.is_empty()) {
        let alone = rows().iter().filter(|other| other.number == row.number).count() == 1;
        if let (true, Action::Errno(errno)) = (alone, row.then)
            && u32::from(errno) != ENOSYS
        {
            denied.entry(errno).or_default().push(row.syscall);
        }
    }
    denied
}

/// The names in the rules of a section.
fn names_in(section: &Value) -> impl Iterator<Item = &Value> {
    let rules = section["syscalls"].as_array().into_iter().flatten();
    rules.flat_map(|rule| rule["names"].as_array().into_iter().flatten())
}

/// Rules that allow a call with these values of arguments, as far as the baseline does, and whether they allow more.
fn narrowed(call: &str, of_call: &[&BaselineRow], arguments: &Arguments) -> (Vec<Vec<Condition>>, bool) {
    let said = said(of_call);
    let wider = said.is_none();
    let baseline = said.unwrap_or_else(|| vec![Vec::new()]);
    if arguments.is_empty() {
        return (baseline, wider);
    }
    let Some(pieces) = pieces(call, arguments) else { return (baseline, true) };
    let mut rules: Vec<Vec<Condition>> = Vec::new();
    for (rule, piece) in baseline.iter().flat_map(|rule| pieces.iter().map(move |piece| (rule, piece))) {
        if piece.iter().any(|one| rule.iter().any(|other| excludes(one, other) || excludes(other, one))) {
            continue;
        }
        // One comparison for each argument: its value says more than what the baseline compares.
        let of_piece = |one: &&Condition| piece.iter().any(|other| other.arg == one.arg);
        let others = rule.iter().filter(|one| !of_piece(one));
        let both: Vec<Condition> = others.chain(piece).copied().collect();
        if !rules.contains(&both) {
            rules.push(both);
        }
    }
    // Of what is left the baseline denies some, or none any more.
    rules.retain(|rule| !is_denied(rule, of_call));
    let wider = !rules.iter().all(|rule| is_within(rule, of_call));
    (rules, wider)
}

/// Whether the baseline denies a call wherever a rule holds.
fn is_denied(rule: &[Condition], of_call: &[&BaselineRow]) -> bool {
    let holds = |wanted: &Condition| {
        let same = |given: &&Condition| given.arg == wanted.arg && matches!(given.test, Test::Eq(_));
        rule.iter().find(same).is_some_and(|given| !excludes(given, wanted))
    };
    of_call.iter().take_while(|row| !row.then.runs()).any(|row| row.args.iter().all(holds))
}

/// What the baseline's rows of one call come to, in rules without an order. `None`: they cannot be said so.
fn said(of_call: &[&BaselineRow]) -> Option<Vec<Vec<Condition>>> {
    let (conditional, last) = match of_call.split_last() {
        Some((last, before)) if last.args.is_empty() => (before, last.then),
        _ => (of_call, Action::Errno(38)),
    };
    if last.runs() {
        let denied: Vec<&&BaselineRow> = conditional.iter().filter(|row| !row.then.runs()).collect();
        return match denied.as_slice() {
            [] => Some(vec![Vec::new()]),
            // All but one value of one argument.
            [BaselineRow { args: [Condition { arg, width, test: Test::Eq(value) }], .. }] => {
                Some(vec![vec![Condition { arg: *arg, width: *width, test: Test::Ne(*value) }]])
            }
            _ => None,
        };
    }
    // Denied unless a rule allows it; a row that denies comes after those that allow, or says no more than the rest.
    let allowed = conditional.iter().filter(|row| row.then.runs());
    let can_be_said = |one: &Condition| matches!(one.test, Test::Eq(_) | Test::Ne(_) | Test::MaskedEq { .. });
    allowed.map(|row| row.args.iter().all(can_be_said).then(|| row.args.to_vec())).collect()
}

/// `by_halves`: of a value the lower half alone, as the kernel reads it; else all of it.
fn comparison(condition: &Condition, by_halves: bool) -> Value {
    let index = condition.arg;
    match condition.test {
        Test::Eq(value) if by_halves => {
            json!({ "index": index, "value": u32::MAX, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
        }
        Test::Eq(value) => json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" }),
        Test::Ne(value) => json!({ "index": index, "value": value, "op": "SCMP_CMP_NE" }),
        Test::MaskedEq { mask, value } => {
            json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
        }
        // The baseline has none of these, and `said` says none.
        Test::Lt(_) | Test::Le(_) | Test::Gt(_) | Test::Ge(_) => Value::Null,
    }
}

/// JSON as YAML of the block style. Texts are names and constants here, quoted all the same.
fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                text.push_str(&format!("\n{indent}{name}:"));
                yaml(value, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&format!("\n{indent}-"));
                match item {
                    Value::Object(_) => {
                        let mut inner = String::new();
                        yaml(item, depth + 1, &mut inner);
                        text.push(' ');
                        text.push_str(inner.trim_start());
                    }
                    item => yaml(item, depth + 1, text),
                }
            }
        }
        scalar => text.push_str(&format!(" {scalar}")),
    }
}

#[cfg(test)]
mod tests;
