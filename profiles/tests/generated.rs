//! A generated profile narrows the baseline, and what it lacks is told.

#![allow(clippy::unwrap_used, missing_docs)]

mod interpreter;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::{CallArguments, MemfdRule};
use bulkhead_profiles::{
    Call as Asked, ProfileError, VALUES_MAX, generated_programs, narrowing, narrowings, program, rows,
    syscall_number, told_errno,
};
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

/// No values of arguments: all are allowed.
fn all_values() -> CallArguments {
    CallArguments::new()
}

fn values(call: &str, arguments: &[(u8, &[u32])]) -> CallArguments {
    let of_call: BTreeMap<_, _> =
        arguments.iter().map(|(arg, values)| (*arg, values.iter().copied().collect())).collect();
    CallArguments::from([(call.to_owned(), of_call)])
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
        generated_programs(MemfdRule::Denied, &calls(&["read", "sendmsg", "seccomp"]), &all_values(), None)
            .unwrap();
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
    let programs = generated_programs(MemfdRule::Denied, &named, &all_values(), None).unwrap();
    assert_ne!(answer(&programs, number("bpf"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("memfd_create"), [0; 6]), ERRNO | ENOSYS);
    assert_eq!(answer(&programs, number("clone3"), [0; 6]), ERRNO | ENOSYS, "a libc probes for it: not told");
    assert_eq!(answer(&programs, number("ptrace"), [0; 6]), TOLD | EPERM);
}

#[test]
fn sendmsg_and_seccomp_are_there_for_the_listener_and_gone_with_the_second_program() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), &all_values(), None).unwrap();
    assert_eq!(programs.len(), 2);
    for name in ["sendmsg", "seccomp"] {
        assert_eq!(answer(&programs[..1], number(name), [0; 6]), ALLOW, "{name}");
        assert_eq!(answer(&programs, number(name), [0; 6]), ERRNO | ENOSYS, "{name}");
    }
}

#[test]
fn x32_and_unknown_numbers_are_enosys_and_another_architecture_kills() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), &all_values(), None).unwrap();
    assert_eq!(answer(&programs, 0x4000_0000, [0; 6]), ERRNO | ENOSYS);
    let call = Call { arch: 0x4000_0003, number: 3, args: [0; 6] };
    assert_eq!(run(&programs[0], &call).0, 0x8000_0000);
}

#[test]
fn errno_that_the_server_answers_is_that_of_the_program() {
    let programs = generated_programs(MemfdRule::Denied, &calls(&["read"]), &all_values(), None).unwrap();
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
    let programs = generated_programs(MemfdRule::Denied, &profile, &all_values(), Some(&section)).unwrap();
    assert_eq!(answer(&programs, number("read"), [0; 6]), ALLOW);
    assert_eq!(answer(&programs, number("getcwd"), [0; 6]), ERRNO | 13);
    assert_eq!(answer(&programs, number("chdir"), [0; 6]), TOLD | ENOSYS);
}

#[test]
fn value_of_the_profile_runs_and_another_has_the_calls_errno_and_is_told() {
    let asked = |call: &str, arguments: &CallArguments, args: [u64; 6]| {
        let programs = generated_programs(MemfdRule::Denied, &calls(&[call]), arguments, None).unwrap();
        let of_kernel = answer(&programs, number(call), args);
        let asked = Asked { arch: ARCH, number: number(call), args };
        let told = (of_kernel & 0xffff_0000 == TOLD).then_some((of_kernel & 0xffff) as u16);
        assert_eq!(told_errno(&programs[0], &asked), told);
        of_kernel
    };
    let ioctl = values("ioctl", &[(1, &[0x5401, 0x8004_5430])]);
    assert_eq!(asked("ioctl", &ioctl, [0, 0x5401, 7, 0, 0, 0]), ALLOW);
    // The kernel reads 32 bits, whatever the rest of the register has.
    assert_eq!(asked("ioctl", &ioctl, [0, 0xffff_ffff_8004_5430, 7, 0, 0, 0]), ALLOW);
    assert_eq!(asked("ioctl", &ioctl, [0, 0x5402, 7, 0, 0, 0]), TOLD | 25);
    assert_eq!(asked("ioctl", &all_values(), [0, 0x5402, 7, 0, 0, 0]), ALLOW);
    let madvise = values("madvise", &[(2, &[4])]);
    assert_eq!(asked("madvise", &madvise, [0, 0, 4, 0, 0, 0]), ALLOW);
    assert_eq!(asked("madvise", &madvise, [0, 0, 9, 0, 0, 0]), TOLD | 22);
    let mmap = values("mmap", &[(2, &[0])]);
    assert_eq!(asked("mmap", &mmap, [0, 0, 3, 0, 0, 0]), ALLOW);
    assert_eq!(asked("mmap", &mmap, [0, 0, 7, 0, 0, 0]), TOLD | 1);
}

#[test]
fn each_of_several_arguments_has_to_have_one_of_its_values_and_the_baselines_answer_comes_first() {
    let socket = values("socket", &[(0, &[1, 2]), (1, &[1])]);
    let programs = generated_programs(MemfdRule::Denied, &calls(&["socket"]), &socket, None).unwrap();
    let asked =
        |family, kind, protocol| answer(&programs, number("socket"), [family, kind, protocol, 0, 0, 0]);
    assert_eq!(asked(1, 1, 0), ALLOW);
    assert_eq!(asked(2, 0x8_0801, 6), ALLOW, "SOCK_NONBLOCK and SOCK_CLOEXEC are no types");
    assert_eq!(asked(10, 1, 0), TOLD | 97);
    assert_eq!(asked(1, 2, 0), TOLD | 94);
    // What no container may.
    assert_eq!(asked(2, 3, 0), TOLD | EPERM);
    assert_eq!(asked(2, 1, 262), ERRNO | 93);
    assert_eq!(asked(38, 5, 0), ERRNO | 97);
}

#[test]
fn requests_own_denial_and_its_log_hold_beside_values() {
    let section: LinuxSeccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
              "args": [{ "index": 0, "value": 9, "op": "SCMP_CMP_EQ" }] },
            { "names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        ],
    }))
    .unwrap();
    let ioctl = values("ioctl", &[(1, &[1])]);
    let programs = generated_programs(MemfdRule::Denied, &calls(&["ioctl"]), &ioctl, Some(&section)).unwrap();
    let asked = |fd, request| answer(&programs, number("ioctl"), [fd, request, 0, 0, 0, 0]);
    assert_eq!([asked(0, 1), asked(8, 1), asked(9, 1)], [ALLOW, 0x7ffc_0000, ERRNO | 13]);
    assert_eq!([asked(0, 2), asked(8, 2), asked(9, 2)], [TOLD | 25, TOLD | 25, ERRNO | 13]);
}

#[test]
fn values_of_other_arguments_none_and_too_many_are_errors() {
    let many: Vec<u32> = (0..=u32::try_from(VALUES_MAX).unwrap()).collect();
    for (call, arg, named) in
        [("read", 0, &[1][..]), ("ioctl", 2, &[1]), ("ioctl", 1, &[]), ("ioctl", 1, &many)]
    {
        let made =
            generated_programs(MemfdRule::Denied, &calls(&[call]), &values(call, &[(arg, named)]), None);
        assert!(matches!(made, Err(ProfileError::Values { .. })), "{call} {arg} {named:?}");
    }
    let most = values("ioctl", &[(1, &many[1..])]);
    generated_programs(MemfdRule::Denied, &calls(&["ioctl"]), &most, None).unwrap();
}

#[test]
fn profile_with_the_most_values_of_all_arguments_is_short_enough_for_the_kernel() {
    let most: Vec<u32> = (0..u32::try_from(VALUES_MAX).unwrap()).collect();
    let mut all = CallArguments::new();
    for known in narrowings() {
        let here = most.iter().filter(|value| *value & !known.mask == 0).copied().collect();
        all.entry(known.syscall.to_owned()).or_default().insert(known.arg, here);
    }
    let named: BTreeSet<String> = rows().iter().map(|row| row.syscall.to_owned()).collect();
    let programs = generated_programs(MemfdRule::Denied, &named, &all, None).unwrap();
    assert!(programs[0].len() < 3000, "{}", programs[0].len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_profile_allows_more_than_the_baseline(
        names in prop::collection::btree_set(prop::sample::select(rows()).prop_map(|row| row.syscall.to_owned()), 0..60),
        arguments in prop::collection::btree_map(
            prop::sample::select(narrowings()).prop_map(|known| (known.syscall.to_owned(), known.arg)),
            prop::collection::btree_set(0_u32..4, 1..4),
            0..8,
        ),
        number in 0_u32..500,
        args in prop::array::uniform6(prop_oneof![0_u64..4, any::<u64>()]),
    ) {
        let mut by_call = CallArguments::new();
        for ((call, arg), values) in arguments {
            by_call.entry(call).or_default().insert(arg, values);
        }
        let programs = generated_programs(MemfdRule::Denied, &names, &by_call, None).unwrap();
        let baseline = program(MemfdRule::Denied, None).unwrap();
        let runs = |answer: u32| answer & 0xffff_0000 == ALLOW;
        if runs(answer(&programs, number, args)) {
            prop_assert!(runs(answer(std::slice::from_ref(&baseline), number, args)));
            let name = bulkhead_profiles::syscall_name(number).unwrap_or_default();
            for (arg, values) in by_call.get(name).into_iter().flatten() {
                let mask = narrowing(name, *arg).unwrap().mask;
                let between = ["sendmsg", "seccomp"].contains(&name);
                prop_assert!(between || values.contains(&(args[usize::from(*arg)] as u32 & mask)));
            }
        }
        // Nothing is taken away but what the names and the values do.
        let name = bulkhead_profiles::syscall_name(number).unwrap_or_default();
        let of_call = by_call.get(name).cloned().unwrap_or_default();
        let meant = names.contains(name) && of_call.iter().all(|(arg, values)| {
            values.contains(&(args[usize::from(*arg)] as u32 & narrowing(name, *arg).unwrap().mask))
        });
        if meant {
            let of_baseline = runs(answer(std::slice::from_ref(&baseline), number, args));
            prop_assert_eq!(runs(answer(&programs, number, args)), of_baseline);
        }
        let asked = Asked { arch: ARCH, number, args };
        let first = run(&programs[0], &Call { arch: ARCH, number, args }).0;
        let told = (first & 0xffff_0000 == TOLD).then_some((first & 0xffff) as u16);
        prop_assert_eq!(told_errno(&programs[0], &asked), told);
    }
}
