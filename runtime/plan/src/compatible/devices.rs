//! Device rules as they are asked for, in the one form that every version of control groups takes: deny all, then what
//! is allowed.

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType as Type};

use crate::{
    change::{Changes, Section},
    limits::at_most,
    refuse::{refuse, refuse_unsupported, short},
};

const FIELD: &str = "linux.resources.devices";

/// Most rules. A privileged container of containerd 1.6 names every device of the host.
const RULES_MAX: usize = 4096;

/// What every container may use, whatever it asks for: making any node, and the standard devices.
///
/// Source: `AllowedDevices`, runc libcontainer/specconv/spec_linux.go.
const EVERYBODY: [(Type, Option<i64>, Option<i64>, &str); 10] = [
    (Type::C, None, None, "m"),
    (Type::B, None, None, "m"),
    (Type::C, Some(1), Some(3), "rwm"),
    (Type::C, Some(1), Some(5), "rwm"),
    (Type::C, Some(1), Some(7), "rwm"),
    (Type::C, Some(1), Some(8), "rwm"),
    (Type::C, Some(1), Some(9), "rwm"),
    (Type::C, Some(5), Some(0), "rwm"),
    (Type::C, Some(5), Some(2), "rwm"),
    (Type::C, Some(136), None, "rwm"),
];

/// One allowed set of devices; numbers that are absent mean any.
type Allowed = (Type, Option<i64>, Option<i64>, String);

/// The rules, after those of the request in their order, as runc's emulation of v1 comes to them.
///
/// Source: `Emulator.Apply`, opencontainers/cgroups devices/devices_emulator.go.
pub(super) fn as_asked(
    asked: &[LinuxDeviceCgroup],
    changes: &mut Changes,
) -> Result<Vec<LinuxDeviceCgroup>, Refusal> {
    at_most(FIELD, asked.len(), RULES_MAX, "rules")?;
    let mut allowed: Vec<Allowed> = Vec::new();
    for rule in asked {
        apply(rule, &mut allowed)?;
    }
    let before = allowed.len();
    for (kind, major, minor, access) in EVERYBODY {
        let covered = |(known, a, b, may): &Allowed| {
            *known == kind
                && (a.is_none() || *a == major)
                && (b.is_none() || *b == minor)
                && access.chars().all(|c| may.contains(c))
        };
        if !allowed.iter().any(covered) {
            allowed.push((kind, major, minor, access.to_owned()));
        }
    }
    if let added @ 1.. = allowed.len() - before {
        let reason = "what runc lets every container use";
        changes.record(Section::Devices, format!("{added} rules added"), reason);
    }
    let deny_all = make(false, None, None, None, "rwm");
    let allow =
        allowed.iter().map(|(kind, major, minor, access)| make(true, Some(*kind), *major, *minor, access));
    std::iter::once(deny_all).chain(allow).collect()
}

fn apply(rule: &LinuxDeviceCgroup, allowed: &mut Vec<Allowed>) -> Result<(), Refusal> {
    // A negative number means "any", as an absent one does.
    let any = |number: Option<i64>| number.filter(|number| *number >= 0);
    let (major, minor) = (any(rule.major()), any(rule.minor()));
    let access =
        rule.access().clone().filter(|access| !access.is_empty()).unwrap_or_else(|| "rwm".to_owned());
    if !access.chars().all(|c| "rwm".contains(c)) {
        return Err(wrong(rule, "access is of r, w and m"));
    }
    let kinds: &[Type] = match rule.typ() {
        None | Some(Type::A) => &[Type::C, Type::B],
        Some(Type::C | Type::U) => &[Type::C],
        Some(Type::B) => &[Type::B],
        Some(Type::P) => return Err(wrong(rule, "a FIFO is no device")),
    };
    if !rule.allow() && kinds.len() == 2 && major.is_none() && minor.is_none() {
        // "a" stands for all access, whatever the rule names.
        allowed.clear();
        return Ok(());
    }
    for kind in kinds {
        if rule.allow() {
            let entry = (*kind, major, minor, access.clone());
            if !allowed.contains(&entry) {
                allowed.push(entry);
            }
            continue;
        }
        let wider = |(known, a, b, _): &Allowed| {
            known == kind
                && (a.is_none() || *a == major)
                && (b.is_none() || *b == minor)
                && (*a, *b) != (major, minor)
        };
        if allowed.iter().any(wider) {
            return Err(wrong(
                rule,
                "an exception from a wider rule cannot be kept to on every version of cgroups",
            ));
        }
        for (known, a, b, may) in allowed.iter_mut() {
            let narrower = (major.is_none() || *a == major) && (minor.is_none() || *b == minor);
            if known == kind && narrower {
                may.retain(|c| !access.contains(c));
            }
        }
        allowed.retain(|(_, _, _, may)| !may.is_empty());
    }
    Ok(())
}

fn wrong(rule: &LinuxDeviceCgroup, why: &str) -> Refusal {
    refuse(Rule::Devices, FIELD, short(&rule.to_string()), why, "correct the rule")
}

fn make(
    allow: bool,
    kind: Option<Type>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, Refusal> {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access(access)
        .build()
        .map_err(|_| refuse_unsupported("a device rule"))?;
    rule.set_typ(kind).set_major(major).set_minor(minor);
    Ok(rule)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rule(allow: bool, kind: Option<Type>, numbers: (i64, i64), access: &str) -> LinuxDeviceCgroup {
        let number = |n: i64| (n >= 0).then_some(n);
        make(allow, kind, number(numbers.0), number(numbers.1), access).unwrap()
    }

    fn run(asked: &[LinuxDeviceCgroup]) -> Result<Vec<String>, Refusal> {
        let rules = as_asked(asked, &mut Changes::default())?;
        Ok(rules.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn privileged_allows_every_device_by_two_rules_and_needs_no_other() {
        let rules = run(&[rule(true, None, (-1, -1), "rwm")]).unwrap();
        assert_eq!(rules.len(), 3, "{rules:?}");
        let also =
            run(&[rule(false, Some(Type::A), (-1, -1), "rwm"), rule(true, Some(Type::A), (-1, -1), "rwm")]);
        assert_eq!(also.unwrap(), rules);
    }

    #[test]
    fn request_gets_its_own_devices_and_those_that_everybody_has() {
        let rules = run(&[rule(true, Some(Type::C), (10, 200), "rw")]).unwrap();
        assert_eq!(rules.len(), 1 + 1 + EVERYBODY.len());
        assert_eq!(run(&[]).unwrap().len(), 1 + EVERYBODY.len());
    }

    #[test]
    fn later_denial_takes_back_what_was_allowed_and_an_exception_is_refused() {
        let fuse = (10, 229);
        let allow = rule(true, Some(Type::C), fuse, "rwm");
        let none = run(&[]).unwrap();
        assert_eq!(run(&[allow.clone(), rule(false, Some(Type::C), fuse, "rwm")]).unwrap(), none);
        assert_eq!(run(&[allow.clone(), rule(false, None, (-1, -1), "rwm")]).unwrap(), none);
        assert_ne!(run(&[allow.clone(), rule(false, Some(Type::C), fuse, "w")]).unwrap(), none);
        let all = rule(true, None, (-1, -1), "rwm");
        let refusal = run(&[all, rule(false, Some(Type::B), (8, 0), "w")]).unwrap_err();
        assert_eq!(refusal.rule, Rule::Devices);
        assert!(run(&[rule(true, Some(Type::P), (1, 1), "r")]).is_err());
    }
}
