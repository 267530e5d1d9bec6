//! Device rules: a list that is applied in order to "nothing is allowed", as runc applies it. Lines for v1's files, a
//! program for v2.
//!
//! Invariant: a rule that denies is never weakened by one before it. runc, as the kernel's version 1 did, keeps what
//! an earlier rule allows by number when a later one denies it by wildcard; here the later rule takes it back.
//!
//! Source of the rest: runc's devices emulator, opencontainers/cgroups devices/devices_emulator.go.

mod program;

use std::{fs::File, io::Write, path::Path};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{
    CgroupError,
    file::{failed, open},
    setting::unsupported,
    sys,
};

/// What is allowed: all or nothing, but for the exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether what no exception names is allowed; the exceptions are denied then.
    pub(crate) allow: bool,
    /// In order of their first mention.
    pub(crate) exceptions: Vec<Exception>,
}

/// Some devices, and what may (or may not) be done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) kind: Kind,
    /// None for any.
    pub(crate) major: Option<u32>,
    /// None for any.
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Character,
}

/// Bits of `BPF_DEVCG_ACC_*`: mknod 1, read 2, write 4. Source: include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u8);

const ALL: Access = Access(7);

const FIELD: &str = "devices";

impl Exception {
    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Whether every device of `other` is one of these.
    fn covers(&self, other: &Self) -> bool {
        let any_or_same = |own: Option<u32>, others: Option<u32>| own.is_none() || own == others;
        self.kind == other.kind
            && any_or_same(self.major, other.major)
            && any_or_same(self.minor, other.minor)
    }

    /// Whether some device is one of both.
    fn meets(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

impl Rules {
    /// Applies the rules of a request in order.
    pub(crate) fn of(given: &[LinuxDeviceCgroup]) -> Result<Self, CgroupError> {
        let mut rules = Self { allow: false, exceptions: Vec::new() };
        for rule in given {
            let access = access(rule)?;
            let kind = match rule.typ() {
                None | Some(LinuxDeviceType::A) => {
                    let numbered = [rule.major(), rule.minor()].iter().any(|n| n.is_some_and(|n| n >= 0));
                    if numbered {
                        return Err(unsupported(
                            FIELD,
                            "a rule for some devices must say block or character",
                        ));
                    }
                    if rule.allow() && access != ALL {
                        return Err(unsupported(FIELD, "all devices are allowed for r, w and m together"));
                    }
                    rules = Self { allow: rule.allow(), exceptions: Vec::new() };
                    continue;
                }
                Some(LinuxDeviceType::B) => Kind::Block,
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Character,
                Some(_) => return Err(unsupported(FIELD, "a FIFO is no device")),
            };
            let exception =
                Exception { kind, major: number(rule.major())?, minor: number(rule.minor())?, access };
            match rule.allow() == rules.allow {
                true => rules.take_out(exception)?,
                false => rules.add(exception),
            }
        }
        Ok(rules)
    }

    fn add(&mut self, exception: Exception) {
        match self.exceptions.iter_mut().find(|known| known.same_devices(&exception)) {
            Some(known) => known.access.0 |= exception.access.0,
            None => self.exceptions.push(exception),
        }
    }

    fn take_out(&mut self, part: Exception) -> Result<(), CgroupError> {
        let hole = |known: &&Exception| {
            known.meets(&part) && !part.covers(known) && known.access.0 & part.access.0 != 0
        };
        if self.exceptions.iter().any(|known| hole(&known)) {
            let why = "a rule cannot make a hole in an earlier one that is wider: name the rest one by one";
            return Err(unsupported(FIELD, why));
        }
        for known in self.exceptions.iter_mut().filter(|known| part.covers(known)) {
            known.access.0 &= !part.access.0;
        }
        self.exceptions.retain(|known| known.access.0 != 0);
        Ok(())
    }
}

fn number(number: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match number {
        Some(number) if number >= 0 => {
            u32::try_from(number).map(Some).map_err(|_| unsupported(FIELD, "no such device number"))
        }
        _ => Ok(None),
    }
}

fn access(rule: &LinuxDeviceCgroup) -> Result<Access, CgroupError> {
    let mut access = Access(0);
    for byte in rule.access().as_deref().unwrap_or("rwm").bytes() {
        access.0 |= match byte {
            b'm' => 1,
            b'r' => 2,
            b'w' => 4,
            _ => return Err(unsupported(FIELD, "access must be of r, w and m")),
        };
    }
    match access {
        Access(0) => Err(unsupported(FIELD, "access must be of r, w and m")),
        access => Ok(access),
    }
}

impl Access {
    /// As v1's files and systemd take it: `rwm`.
    pub(crate) fn letters(self) -> String {
        [(2, 'r'), (4, 'w'), (1, 'm')].iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, c)| *c).collect()
    }
}

/// Writes the rules to a group of v1. Between its first line and its last less is allowed, never more.
pub(crate) fn apply_v1(dir: &Path, given: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let rules = Rules::of(given)?;
    let (allow, deny) = (dir.join("devices.allow"), dir.join("devices.deny"));
    let (all, some) = if rules.allow { (&allow, &deny) } else { (&deny, &allow) };
    open(all)?.write_all(b"a").map_err(failed("write(2)", all))?;
    let mut file = open(some)?;
    for exception in &rules.exceptions {
        file.write_all(line(exception).as_bytes()).map_err(failed("write(2)", some))?;
    }
    Ok(())
}

/// An exception as v1's files take it: `c 1:3 rwm`.
///
/// Source: Documentation/admin-guide/cgroup-v1/devices.rst.
fn line(exception: &Exception) -> String {
    let kind = match exception.kind {
        Kind::Block => 'b',
        Kind::Character => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    format!("{kind} {}:{} {}", number(exception.major), number(exception.minor), exception.access.letters())
}

/// Attaches the rules to a group of v2, in place of those that were attached here before. Programs of others
/// (systemd's) stay: all must allow.
pub(crate) fn apply_v2(dir: &Path, given: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let program = program::of(&Rules::of(given)?);
    let program = sys::load_device_program(&program).map_err(failed("bpf(2) load for", dir))?;
    let group = File::open(dir).map_err(failed("open(2)", dir))?;
    let old = sys::own_device_programs(&group).map_err(failed("bpf(2) query of", dir))?;
    sys::attach_device_program(&group, &program).map_err(failed("bpf(2) attach to", dir))?;
    for old in old {
        sys::detach_device_program(&group, &old).map_err(failed("bpf(2) detach from", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Rules as `allow|deny type[ major:minor] access`.
    pub(super) fn rules(text: &[&str]) -> Result<Rules, CgroupError> {
        let list: Vec<LinuxDeviceCgroup> = text
            .iter()
            .map(|text| {
                let words: Vec<&str> = text.split(' ').collect();
                let mut json = serde_json::json!({ "allow": words[0] == "allow", "type": words[1] });
                if let [_, _, numbers, access] = words.as_slice() {
                    let (major, minor) = numbers.split_once(':').unwrap();
                    for (name, number) in [("major", major), ("minor", minor)] {
                        if let Ok(number) = number.parse::<i64>() {
                            json[name] = number.into();
                        }
                    }
                    json["access"] = (*access).into();
                }
                serde_json::from_value(json).unwrap()
            })
            .collect();
        Rules::of(&list)
    }

    fn lines(text: &[&str]) -> (bool, Vec<String>) {
        let rules = rules(text).unwrap();
        (rules.allow, rules.exceptions.iter().map(line).collect())
    }

    #[test]
    fn rules_begin_with_nothing_allowed_and_are_written_as_the_kernel_reads_them() {
        assert_eq!(lines(&[]), (false, vec![]));
        assert_eq!(
            lines(&["deny a", "allow c 1:3 rwm", "allow c 136:* rw", "allow b *:* m"]),
            (false, vec!["c 1:3 rwm".into(), "c 136:* rw".into(), "b *:* m".into()])
        );
    }

    #[test]
    fn rules_for_the_same_devices_add_up_and_later_denials_take_back() {
        assert_eq!(lines(&["allow c 1:3 r", "allow c 1:3 w"]).1, ["c 1:3 rw"]);
        assert_eq!(lines(&["allow c 1:3 rwm", "deny c 1:3 w"]).1, ["c 1:3 rm"]);
        assert!(lines(&["allow c 1:3 rwm", "deny c 1:* rwm"]).1.is_empty());
        assert!(lines(&["allow c 1:3 rwm", "allow c 5:* rwm", "deny c *:* rwm"]).1.is_empty());
        assert_eq!(lines(&["allow c 1:3 rwm", "deny b 1:3 rwm", "deny c 1:4 rwm"]).1, ["c 1:3 rwm"]);
        assert_eq!(lines(&["allow c 1:3 rwm", "deny a"]), (false, vec![]));
    }

    #[test]
    fn all_allowed_turns_exceptions_into_denials() {
        assert_eq!(lines(&["deny a", "allow a"]), (true, vec![]));
        assert_eq!(lines(&["allow a", "deny b 8:* w"]), (true, vec!["b 8:* w".into()]));
        assert_eq!(lines(&["allow a", "deny b 8:* w", "allow b *:* w"]), (true, vec![]));
    }

    #[test]
    fn holes_in_wider_rules_and_rules_that_say_too_little_are_errors() {
        for wrong in [
            vec!["allow c 1:* rwm", "deny c 1:3 w"],
            vec!["allow c *:3 r", "deny c 1:* r"],
            vec!["allow a", "deny b 8:* w", "allow b 8:0 w"],
            vec!["allow a 1:3 rwm"],
            vec!["allow a *:* r"],
            vec!["allow c 1:3 rx"],
            vec!["allow c 1:3 "],
            vec!["allow p 1:3 r"],
            vec!["allow c 4294967296:3 r"],
        ] {
            assert!(rules(&wrong).is_err(), "{wrong:?} was accepted");
        }
        // No access in common: no hole.
        assert_eq!(lines(&["allow c 1:* r", "deny c 1:3 w"]).1, ["c 1:* r"]);
    }
}
