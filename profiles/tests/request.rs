//! A request's own section on top of the baseline: faithful, never wider, never silently ignored.

#![allow(clippy::unwrap_used)]

mod interpreter;

use std::collections::BTreeMap;

use bulkhead_model::MemfdRule;
use bulkhead_profiles::{Action, ProfileError, answer, program, syscall_name, syscall_number};
use interpreter::{Call, run};
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde_json::{Value, json};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

fn section(value: &Value) -> LinuxSeccomp {
    serde_json::from_value(value.clone()).unwrap()
}

fn ask(section: &LinuxSeccomp, number: u32, args: [u64; 6]) -> Action {
    let program = program(MemfdRule::Denied, Some(section)).unwrap();
    action(run(&program, &Call { arch: ARCH, number, args }).0)
}

fn ask_name(section: &LinuxSeccomp, name: &str) -> Action {
    ask(section, syscall_number(name).unwrap(), [0; 6])
}

fn action(value: u32) -> Action {
    match (value & 0xffff_0000, value as u16) {
        (0x7fff_0000, 0) => Action::Allow,
        (0x7ffc_0000, 0) => Action::Log,
        (0x0005_0000, errno) => Action::Errno(errno),
        (0x0003_0000, 0) => Action::Trap,
        (0x0000_0000, 0) => Action::KillThread,
        (0x8000_0000, 0) => Action::KillProcess,
        _ => panic!("unknown action {value:#x}"),
    }
}

fn containerd() -> LinuxSeccomp {
    serde_json::from_str(include_str!("data/containerd-2.1.4-default.json")).unwrap()
}

fn error(value: &Value) -> ProfileError {
    program(MemfdRule::Denied, Some(&section(value))).unwrap_err()
}

#[test]
fn containerds_default_on_top_of_baseline_keeps_the_baselines_errno() {
    let containerd = containerd();
    assert_eq!(ask_name(&containerd, "read"), Action::Allow);
    // Both deny; theirs says EPERM, which breaks node.
    assert_eq!(ask_name(&containerd, "io_uring_setup"), Action::Errno(38));
    assert_eq!(ask_name(&containerd, "clone3"), Action::Errno(38));
    // They allow, we do not.
    assert_eq!(ask_name(&containerd, "ptrace"), Action::Errno(1));
    assert_eq!(ask_name(&containerd, "memfd_create"), Action::Errno(38));
    // We allow, they do not know it: newer than all they name, so ENOSYS as under runc.
    assert_eq!(ask_name(&containerd, "mseal"), Action::Errno(38));
}

#[test]
fn call_that_the_request_denies_is_denied_with_its_errno_and_the_rest_is_not() {
    let tight = section(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30 },
        { "names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS",
          "args": [{ "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }] }] }));
    assert_eq!(ask_name(&tight, "mkdirat"), Action::Errno(30));
    assert_eq!(ask_name(&tight, "unlinkat"), Action::Allow);
    let socket = syscall_number("socket").unwrap();
    assert_eq!(ask(&tight, socket, [2, 1, 0, 0, 0, 0]), Action::KillProcess);
    assert_eq!(ask(&tight, socket, [1, 1, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(ask(&tight, socket, [40, 1, 0, 0, 0, 0]), Action::Errno(97));
}

#[test]
fn strictest_of_two_rules_wins_whatever_their_order() {
    let rule = |action: &str| json!({ "names": ["uname"], "action": action });
    for order in [["SCMP_ACT_ALLOW", "SCMP_ACT_KILL"], ["SCMP_ACT_KILL", "SCMP_ACT_ALLOW"]] {
        let both = section(&json!({ "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [rule(order[0]), rule(order[1])] }));
        assert_eq!(ask_name(&both, "uname"), Action::KillThread);
    }
}

#[test]
fn argument_that_one_rule_compares_twice_has_any_of_the_values_as_under_runc() {
    let allowed = |args: &[(u64, u64)]| {
        let arg =
            |(index, value): &(u64, u64)| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
        let args: Vec<Value> = args.iter().map(arg).collect();
        section(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["getpriority"], "action": "SCMP_ACT_ALLOW", "args": args },
        ] }))
    };
    let number = syscall_number("getpriority").unwrap();
    let twice = allowed(&[(0, 0), (0, 8), (1, 5)]);
    for (args, then) in [
        ([0, 0, 0, 0, 0, 0], Action::Allow),
        ([8, 0, 0, 0, 0, 0], Action::Allow),
        ([9, 5, 0, 0, 0, 0], Action::Allow),
        ([9, 0, 0, 0, 0, 0], Action::Errno(1)),
    ] {
        assert_eq!(ask(&twice, number, args), then, "{args:?}");
    }
    let once = allowed(&[(0, 0), (1, 5)]);
    assert_eq!(ask(&once, number, [0, 0, 0, 0, 0, 0]), Action::Errno(1), "all of a rule's conditions hold");
    assert_eq!(ask(&once, number, [0, 5, 0, 0, 0, 0]), Action::Allow);
}

#[test]
fn errno_default_is_enosys_above_the_greatest_number_named_and_kept_below() {
    let old = section(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
        "syscalls": [{ "names": ["read", "openat"], "action": "SCMP_ACT_ALLOW" }] }));
    assert_eq!(ask_name(&old, "uname"), Action::Errno(13));
    assert_eq!(ask_name(&old, "statx"), Action::Errno(38));
    let kill = section(&json!({ "defaultAction": "SCMP_ACT_KILL",
        "syscalls": [{ "names": ["read", "openat"], "action": "SCMP_ACT_ALLOW" }] }));
    assert_eq!(ask_name(&kill, "statx"), Action::KillThread);
}

#[test]
fn notifier_trace_and_flags_with_an_effect_are_errors() {
    let rule = |action: &str| {
        json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action }] })
    };
    assert!(matches!(error(&rule("SCMP_ACT_NOTIFY")), ProfileError::Notifier));
    assert!(matches!(error(&rule("SCMP_ACT_TRACE")), ProfileError::Trace));
    let listener = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x" });
    assert!(matches!(error(&listener), ProfileError::Notifier));
    let flag = |flag: &str| json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] });
    assert!(matches!(error(&flag("SECCOMP_FILTER_FLAG_LOG")), ProfileError::Flag(_)));
    assert!(program(MemfdRule::Denied, Some(&section(&flag("SECCOMP_FILTER_FLAG_TSYNC")))).is_ok());
}

#[test]
fn unknown_name_is_an_error_where_it_restricts_and_skipped_where_it_loosens() {
    let with = |default: &str, name: &str, action: &str| {
        section(&json!({ "defaultAction": default, "syscalls": [{ "names": [name], "action": action }] }))
    };
    let compile = |section: &LinuxSeccomp| program(MemfdRule::Denied, Some(section));
    let restricts = compile(&with("SCMP_ACT_ALLOW", "nosuchcall", "SCMP_ACT_ERRNO"));
    assert!(matches!(restricts, Err(ProfileError::Syscall(name)) if name == "nosuchcall"));
    assert!(compile(&with("SCMP_ACT_ERRNO", "nosuchcall", "SCMP_ACT_ALLOW")).is_ok());
    assert!(compile(&with("SCMP_ACT_ALLOW", "chown32", "SCMP_ACT_ERRNO")).is_ok(), "another architecture's");
}

#[test]
fn what_cannot_be_said_exactly_is_an_error() {
    let arg = |index: u64| json!({ "index": index, "value": 1, "op": "SCMP_CMP_EQ" });
    let rule = |args: Vec<Value>| {
        json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["prctl"], "action": "SCMP_ACT_ERRNO", "args": args }] })
    };
    assert!(matches!(error(&rule(vec![arg(6)])), ProfileError::ArgIndex { index: 6, .. }));
    let errno = |value: u64| json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": value });
    assert!(matches!(error(&errno(4096)), ProfileError::Errno(4096)));
    assert!(matches!(error(&errno(70_000)), ProfileError::Errno(70_000)));
    let kill = json!({ "defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1 });
    assert!(matches!(error(&kill), ProfileError::ErrnoWithout { .. }));
    let many: Vec<Value> = (0..2000)
        .map(|value| {
            json!({ "names": ["prctl"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "value": value + 100, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    let many = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": many });
    assert!(matches!(error(&many), ProfileError::TooLong { .. }));
}

/// Names that matter to the baseline's argument rules, and others.
const NAMES: &[&str] = &[
    "read",
    "clone",
    "socket",
    "ioctl",
    "personality",
    "prctl",
    "mknodat",
    "memfd_create",
    "ptrace",
    "mseal",
    "io_uring_setup",
    "finit_module",
    "openat",
    "socketpair",
    "chown32",
    "fstatfs",
];
const VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    6,
    10,
    16,
    17,
    35,
    40,
    262,
    0x5412,
    0x7e02_0000,
    0x1000_0000,
    0xffff_ffff,
    1 << 32,
    u64::MAX,
];

fn any_action() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!("SCMP_ACT_ALLOW")),
        4 => Just(json!("SCMP_ACT_ERRNO")),
        1 => Just(json!("SCMP_ACT_LOG")),
        1 => Just(json!("SCMP_ACT_TRAP")),
        1 => Just(json!("SCMP_ACT_KILL")),
        1 => Just(json!("SCMP_ACT_KILL_PROCESS")),
    ]
}

fn any_args() -> impl Strategy<Value = Vec<Value>> {
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let value = prop::sample::select(VALUES);
    let arg = (0..3_u64, value.clone(), value, op).prop_map(|(index, value, two, op)| {
        json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}") })
    });
    prop::collection::vec(arg, 0..3).prop_map(|args| {
        let by_index: BTreeMap<u64, Value> =
            args.into_iter().map(|arg| (arg["index"].as_u64().unwrap(), arg)).collect();
        by_index.into_values().collect()
    })
}

fn any_section() -> impl Strategy<Value = LinuxSeccomp> {
    let names = prop::collection::vec(prop::sample::select(NAMES), 1..4);
    let rule = (names, any_action(), any_args())
        .prop_map(|(names, action, args)| json!({ "names": names, "action": action, "args": args }));
    (any_action(), prop::collection::vec(rule, 0..12))
        .prop_map(|(default, rules)| section(&json!({ "defaultAction": default, "syscalls": rules })))
}

fn any_call() -> impl Strategy<Value = (u32, [u64; 6])> {
    let named = prop::sample::select(NAMES).prop_map(|name| syscall_number(name).unwrap_or(0));
    let number = prop_oneof![3 => named, 1 => 0..700_u32, 1 => any::<u32>()];
    (number, prop::array::uniform6(prop::sample::select(VALUES)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn request_never_widens_the_baseline_and_the_program_says_what_the_rules_say(
        section in any_section(), memfd in prop::bool::ANY, (number, args) in any_call(),
    ) {
        let memfd = if memfd { MemfdRule::Allowed } else { MemfdRule::Denied };
        let program = program(memfd, Some(&section)).unwrap();
        let said = action(run(&program, &Call { arch: ARCH, number, args }).0);
        let baseline = answer(memfd, None, number, &args).unwrap();
        prop_assert!(said.strictness() >= baseline.strictness(), "{said:?} after {baseline:?}");
        prop_assert_eq!(said, answer(memfd, Some(&section), number, &args).unwrap());
    }

    /// The same rules through seccompiler's own layout, where it can say them: two actions, unsorted.
    #[test]
    fn tree_and_seccompilers_own_filter_agree(args in prop::collection::vec(any_args(), 0..5), (_, call) in any_call()) {
        let rules: Vec<Value> = args.iter()
            .map(|args| json!({ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": args }))
            .collect();
        let number = syscall_number("getpriority").unwrap();
        let ours = ask(&section(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })), number, call);

        let unconditional = args.iter().any(Vec::is_empty);
        let theirs: Vec<SeccompRule> = args.iter().filter(|_| !unconditional).map(|args| {
            SeccompRule::new(args.iter().map(condition).collect()).unwrap()
        }).collect();
        let mut chains = BTreeMap::new();
        if !args.is_empty() {
            chains.insert(i64::from(number), theirs);
        }
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(chains, SeccompAction::Allow, SeccompAction::Errno(7), arch).unwrap();
        let linear: Vec<u64> = BpfProgram::try_from(filter).unwrap().iter()
            .map(|i| u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32)
            .collect();
        let theirs = action(run(&linear, &Call { arch: ARCH, number, args: call }).0);
        prop_assert_eq!(ours, theirs, "{:?}", syscall_name(number));
    }
}

fn condition(arg: &Value) -> SeccompCondition {
    let (value, two) = (arg["value"].as_u64().unwrap(), arg["valueTwo"].as_u64().unwrap());
    let (op, value) = match arg["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(value), two),
        other => panic!("{other}"),
    };
    let index = u8::try_from(arg["index"].as_u64().unwrap()).unwrap();
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).unwrap()
}

#[test]
fn compiling_containerds_default_with_the_baseline_costs_less_than_it_saves() {
    let containerd = containerd();
    let (mut fastest, mut length) = (std::time::Duration::MAX, 0);
    for _ in 0..100 {
        let started = std::time::Instant::now();
        length = program(MemfdRule::Denied, Some(&containerd)).unwrap().len();
        fastest = fastest.min(started.elapsed());
    }
    println!("{length} instructions, {fastest:?} at best (debug build)");
    assert!(fastest < std::time::Duration::from_millis(20));
}
