//! Device rules of v1: everything is denied first, then what the rules allow.

use std::{io::Write, path::Path};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{
    CgroupError,
    file::{failed, open},
};

/// Writes the rules in order. The first must deny everything: a list that only adds would allow the rest.
pub(crate) fn apply(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let lines = lines(rules)?;
    let (allow_path, deny_path) = (dir.join("devices.allow"), dir.join("devices.deny"));
    let (mut allow, mut deny) = (open(&allow_path)?, open(&deny_path)?);
    for (allowed, line) in lines {
        let (file, path) = if allowed { (&mut allow, &allow_path) } else { (&mut deny, &deny_path) };
        file.write_all(line.as_bytes()).map_err(failed("write(2)", path))?;
    }
    Ok(())
}

/// Rules as the kernel reads them: `c 1:3 rwm`.
///
/// Source: Documentation/admin-guide/cgroup-v1/devices.rst.
pub(crate) fn lines(rules: &[LinuxDeviceCgroup]) -> Result<Vec<(bool, String)>, CgroupError> {
    let unsupported = |why| CgroupError::Unsupported { field: "resources.devices".to_owned(), why };
    let all = |rule: &LinuxDeviceCgroup| {
        matches!(rule.typ(), None | Some(LinuxDeviceType::A))
            && rule.major().unwrap_or(-1) < 0
            && rule.minor().unwrap_or(-1) < 0
    };
    match rules.first() {
        Some(first) if !first.allow() && all(first) => {}
        _ => return Err(unsupported("the first rule must deny all devices")),
    }
    rules
        .iter()
        .map(|rule| {
            if all(rule) {
                return match rule.allow() {
                    true => Err(unsupported("a rule allows all devices")),
                    false => Ok((false, "a".to_owned())),
                };
            }
            let kind = match rule.typ() {
                Some(LinuxDeviceType::B) => 'b',
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
                _ => return Err(unsupported("a rule for some devices must say block or character")),
            };
            let access = rule.access().as_deref().unwrap_or("rwm");
            if access.is_empty() || !access.bytes().all(|b| b"rwm".contains(&b)) {
                return Err(unsupported("access must be of r, w and m"));
            }
            let number = |n: Option<i64>| match n {
                Some(n) if n >= 0 => n.to_string(),
                _ => "*".to_owned(),
            };
            let (major, minor) = (number(rule.major()), number(rule.minor()));
            Ok((rule.allow(), format!("{kind} {major}:{minor} {access}")))
        })
        .collect()
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
        let lines = lines(&[deny_all(), null().build().unwrap(), terminals]).unwrap();
        assert_eq!(
            lines,
            [(false, "a".to_owned()), (true, "c 1:3 rwm".to_owned()), (true, "c 136:* rw".to_owned())]
        );
    }

    #[test]
    fn lists_that_do_not_begin_by_denying_all_or_allow_all_are_errors() {
        let allow_all = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
        let blank = null().access("").build().unwrap();
        for rules in
            [vec![], vec![null().build().unwrap()], vec![deny_all(), allow_all], vec![deny_all(), blank]]
        {
            assert!(lines(&rules).is_err(), "{rules:?} was accepted");
        }
    }
}
