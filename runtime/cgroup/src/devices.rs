//! Device rules: everything is denied first, then what the rules allow. Lines for v1's files, a program for v2.

use std::{fs::File, io::Write, path::Path};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{
    CgroupError,
    file::{failed, open},
    sys,
};

/// One rule that allows or denies some devices.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Character,
}

/// Bits of `BPF_DEVCG_ACC_*`: mknod 1, read 2, write 4. Source: include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access(u8);

fn unsupported(why: &'static str) -> CgroupError {
    CgroupError::Unsupported { field: "resources.devices".to_owned(), why }
}

/// The rules after the first, which must deny everything: a list that only adds would allow the rest.
fn rules(given: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, CgroupError> {
    let all = |rule: &LinuxDeviceCgroup| {
        matches!(rule.typ(), None | Some(LinuxDeviceType::A))
            && rule.major().unwrap_or(-1) < 0
            && rule.minor().unwrap_or(-1) < 0
    };
    match given.first() {
        Some(first) if !first.allow() && all(first) => {}
        _ => return Err(unsupported("the first rule must deny all devices")),
    }
    given[1..]
        .iter()
        .map(|rule| {
            let kind = match rule.typ() {
                _ if all(rule) => return Err(unsupported("only the first rule may be about all devices")),
                Some(LinuxDeviceType::B) => Kind::Block,
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Character,
                _ => return Err(unsupported("a rule for some devices must say block or character")),
            };
            let number = |number: Option<i64>| match number {
                Some(number) if number >= 0 => {
                    u32::try_from(number).map(Some).map_err(|_| unsupported("no such device number"))
                }
                _ => Ok(None),
            };
            let mut access = Access(0);
            for byte in rule.access().as_deref().unwrap_or("rwm").bytes() {
                access.0 |= match byte {
                    b'm' => 1,
                    b'r' => 2,
                    b'w' => 4,
                    _ => return Err(unsupported("access must be of r, w and m")),
                };
            }
            if access.0 == 0 {
                return Err(unsupported("access must be of r, w and m"));
            }
            Ok(Rule {
                allow: rule.allow(),
                kind,
                major: number(rule.major())?,
                minor: number(rule.minor())?,
                access,
            })
        })
        .collect()
}

/// Writes the rules to a group of v1.
pub(crate) fn apply_v1(dir: &Path, given: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let rules = rules(given)?;
    let (allow_path, deny_path) = (dir.join("devices.allow"), dir.join("devices.deny"));
    let (mut allow, mut deny) = (open(&allow_path)?, open(&deny_path)?);
    deny.write_all(b"a").map_err(failed("write(2)", &deny_path))?;
    for rule in &rules {
        let (file, path) = if rule.allow { (&mut allow, &allow_path) } else { (&mut deny, &deny_path) };
        file.write_all(line(rule).as_bytes()).map_err(failed("write(2)", path))?;
    }
    Ok(())
}

/// A rule as v1's files take it: `c 1:3 rwm`.
///
/// Source: Documentation/admin-guide/cgroup-v1/devices.rst.
fn line(rule: &Rule) -> String {
    let kind = match rule.kind {
        Kind::Block => 'b',
        Kind::Character => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let access: String = [(2, 'r'), (4, 'w'), (1, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access.0 & bit != 0)
        .map(|(_, c)| *c)
        .collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

/// Attaches the rules to a group of v2.
pub(crate) fn apply_v2(dir: &Path, given: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let program =
        sys::load_device_program(&program(&rules(given)?)?).map_err(failed("bpf(2) load for", dir))?;
    let group = File::open(dir).map_err(failed("open(2)", dir))?;
    sys::attach_device_program(&group, &program).map_err(failed("bpf(2) attach to", dir))
}

// Registers and operations. Source: include/uapi/linux/bpf_common.h and bpf.h.
const R0: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: u32) -> u64 {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(value) << 32
}

/// The program: 1 where a rule allows all of the access that is asked for, else 0.
fn program(rules: &[Rule]) -> Result<Vec<u64>, CgroupError> {
    if rules.iter().any(|rule| !rule.allow) {
        return Err(unsupported("on cgroup v2 only the first rule may deny"));
    }
    // Rules for the same devices add up, as on v1.
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let same =
            |known: &&mut Rule| (known.kind, known.major, known.minor) == (rule.kind, rule.major, rule.minor);
        match merged.iter_mut().find(same) {
            Some(known) => known.access.0 |= rule.access.0,
            None => merged.push(rule.clone()),
        }
    }
    // struct bpf_cgroup_dev_ctx: access in the upper half and type in the lower of the first word.
    let mut program = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, TYPE, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in &merged {
        let kind = match rule.kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        let mut tests = vec![(TYPE, kind)];
        tests.extend(rule.major.map(|major| (MAJOR, major)));
        tests.extend(rule.minor.map(|minor| (MINOR, minor)));
        // After the tests: 3 instructions for access, 2 that allow.
        let length = tests.len() as i16 + 5;
        for (index, (register, value)) in tests.iter().enumerate() {
            program.push(instruction(JUMP_IF_NOT, *register, 0, length - 1 - index as i16, *value));
        }
        program.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        program.push(instruction(AND, SCRATCH, 0, 0, !u32::from(rule.access.0) & 7));
        program.push(instruction(JUMP_IF_NOT, SCRATCH, 0, 2, 0));
        program.push(instruction(MOVE, R0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE, R0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    Ok(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    use super::*;

    fn deny_all() -> LinuxDeviceCgroup {
        LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().unwrap()
    }

    fn null() -> LinuxDeviceCgroupBuilder {
        LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(1)
            .minor(3)
            .access("rwm")
    }

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let terminals = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(136)
            .access("rw")
            .build()
            .unwrap();
        let rules = rules(&[deny_all(), null().build().unwrap(), terminals]).unwrap();
        assert_eq!(rules.iter().map(line).collect::<Vec<_>>(), ["c 1:3 rwm", "c 136:* rw"]);
    }

    #[test]
    fn lists_that_do_not_begin_by_denying_all_or_allow_all_are_errors() {
        let allow_all = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
        let blank = null().access("").build().unwrap();
        let other = null().access("rx").build().unwrap();
        for wrong in [
            vec![],
            vec![null().build().unwrap()],
            vec![deny_all(), allow_all],
            vec![deny_all(), blank],
            vec![deny_all(), other],
        ] {
            assert!(rules(&wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn programs_add_up_rules_for_the_same_device_and_refuse_late_denials() {
        let read = null().access("r").build().unwrap();
        let write = null().access("w").build().unwrap();
        let one = program(&rules(&[deny_all(), read.clone()]).unwrap()).unwrap();
        let both = program(&rules(&[deny_all(), read, write]).unwrap()).unwrap();
        assert_eq!(one.len(), both.len());
        let late = null().allow(false).build().unwrap();
        assert!(program(&rules(&[deny_all(), late]).unwrap()).is_err());
    }
}
