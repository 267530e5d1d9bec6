//! A generated profile narrows the baseline, and what it lacks is told.

#![allow(clippy::unwrap_used, missing_docs)]

mod interpreter;

use std::collections::BTreeSet;

use bulkhead_model::MemfdRule;
use bulkhead_profiles::{Call as Asked, generated_programs, program, rows, syscall_number, told_errno};
use interpreter::{Call, run};
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

const ALLOW: u32 = 0x7fff_0000;
const TOLD: u32 = 0x7fc0_0000;
const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
const EOPNOTSUPP: u32 = 95;

fn calls(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The kernel's answer of several programs: the strictest.
///
/// Source: seccomp(2), "Return values"; `seccomp_run_filters`, kernel/seccomp.c: the least of the signed actions.
fn answer(programs: &[Vec<u64>], number: u32, args: [u64; 6]) -> u32 {
    let call = Call { arch: ARCH, number, args };
    let answers = programs.iter().map(|program| run(program, &call).0);
    answers.min_by_key(|answer| (answer & 0xffff_0000).cast_signed()).unwrap()
}

fn number(name: &str) -> u32 {
    syscall_number(name).unwrap()
}

#[test]
fn call_of_the_profile_runs_and_another_of_the_baseline_is_enosys_and_told() {
    let programs =
        generated_programs(MemfdRule::Denied, &calls(&["read", "sendmsg", "seccomp"]), None).unwrap();
    // The baseline has rows for flags of sendmsg, and the listener's is sent by one without them.
    assert_eq!(programs.len(), 2);
    let fast_open = [3, 0, 0x2000_0000, 0, 0, 0];
    assert_eq!(answer(&programs, number("sendmsg"), fast_open), ERRNO | EOPNOTSUPP);
    assert_eq!(answer(&programs, number("sendmsg"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("read"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("getcwd"), [0; 6]), TOLD | ENOSYS);
}

#[test]
fn what_the_baseline_denies_a_profile_does_not_allow() {
    let named: BTreeSet<String> = rows().iter().map(|row| row.syscall.to_owned()).collect();
    let programs = generated_programs(MemfdRule::Denied, &named, None).unwrap();
    assert_ne!(answer(&programs, number("bpf"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("memfd_create"), [0; 6]), ERRNO | ENOSYS);
    assert_eq!(answer(&programs, number("clone3"), [0; 6]), ERRNO | ENOSYS, "a libc probes for it: not told");
    assert_eq!(answer(&programs, number("ptrace"), [0; 6]), TOLD | EPERM);
}

#[test]
fn sendmsg_and_seccomp_are_there_for_the_listener_and_gone_with_the_second_program() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), None).unwrap();
    assert_eq!(programs.len(), 2);
    for name in ["sendmsg", "seccomp"] {
        assert_eq!(answer(&programs[..1], number(name), [0; 6]), ALLOW, "{name}");
        assert_eq!(answer(&programs, number(name), [0; 6]), ERRNO | ENOSYS, "{name}");
    }
}

#[test]
fn x32_and_unknown_numbers_are_enosys_and_another_architecture_kills() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), None).unwrap();
    assert_eq!(answer(&programs, 0x4000_0000, [0; 6]), ERRNO | ENOSYS);
    let call = Call { arch: 0x4000_0003, number: 3, args: [0; 6] };
    assert_eq!(run(&programs[0], &call).0, 0x8000_0000);
}

#[test]
fn errno_that_the_server_answers_is_that_of_the_program() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), None).unwrap();
    let errno = |name| told_errno(&programs[0], &Asked { arch: ARCH, number: number(name), args: [0; 6] });
    assert_eq!(errno("read"), None);
    assert_eq!(errno("getcwd"), Some(38));
    assert_eq!(errno("ptrace"), Some(1));
    assert_eq!(told_errno(&[], &Asked { arch: ARCH, number: 0, args: [0; 6] }), None);
    assert_eq!(told_errno(&[0xffff], &Asked { arch: ARCH, number: 0, args: [0; 6] }), None);
}

#[test]
fn requests_own_section_narrows_a_generated_profile() {
    let section: LinuxSeccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }],
    }))
    .unwrap();
    let profile = calls(&["read", "getcwd"]);
    let programs = generated_programs(MemfdRule::Denied, &profile, Some(&section)).unwrap();
    assert_eq!(answer(&programs, number("read"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("getcwd"), [0; 6]), ERRNO | 13);
    assert_eq!(answer(&programs, number("chdir"), [0; 6]), TOLD | ENOSYS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_profile_allows_more_than_the_baseline(
        names in prop::collection::btree_set(prop::sample::select(rows()).prop_map(|row| row.syscall.to_owned()), 0..60),
        number in 0_u32..500,
        args in prop::array::uniform6(prop_oneof![0_u64..4, any::<u64>()]),
    ) {
        let programs = generated_programs(MemfdRule::Denied, &names, None).unwrap();
        let baseline = program(MemfdRule::Denied, None).unwrap();
        let runs = |answer: u32| answer & 0xffff_0000 == ALLOW;
        if runs(answer(&programs, number, args)) {
            prop_assert!(runs(answer(std::slice::from_ref(&baseline), number, args)));
        }
        let asked = Asked { arch: ARCH, number, args };
        let first = run(&programs[0], &Call { arch: ARCH, number, args }).0;
        let told = (first & 0xffff_0000 == TOLD).then_some((first & 0xffff) as u16);
        prop_assert_eq!(told_errno(&programs[0], &asked), told);
    }
}
