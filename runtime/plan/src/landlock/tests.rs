#![allow(clippy::unwrap_used)]

use bulkhead_model::{BindRule, FileRules};

use super::*;
use crate::example;

fn policy(change: impl FnOnce(&mut LandlockRule)) -> LandlockRule {
    let mut policy = example::confinement().landlock;
    change(&mut policy);
    policy
}

fn on(abi: u8, policy: &LandlockRule, root: RootRule, console: Console) -> Result<LandlockSpec, Refusal> {
    let exposed = BTreeSet::from([80, 443]);
    ruleset(policy, Ground { abi, root, console, mounts: Vec::new(), files: None, exposed: &exposed })
}

fn run(abi: u8, change: impl FnOnce(&mut LandlockRule)) -> Result<LandlockSpec, Refusal> {
    on(abi, &policy(change), RootRule::ReadOnly, Console::Absent)
}

fn ports(ports: &[u16]) -> TcpRule {
    TcpRule::Ports(ports.iter().copied().collect())
}

#[test]
fn kernel_below_the_floor_is_refused() {
    assert!(run(1, |_| {}).is_ok());
    assert!(run(0, |policy| policy.floor_abi = 0).is_err());
    assert!(run(2, |policy| policy.floor_abi = 3).is_err());
}

#[test]
fn rule_that_an_old_kernel_does_not_have_is_never_left_out() {
    type Change = fn(&mut LandlockRule);
    let rules: [(&str, u8, Change); 4] = [
        ("tcp_connect", 4, |policy| policy.tcp_connect = TcpRule::NONE),
        ("tcp_bind", 4, |policy| policy.tcp_bind.ports = ports(&[80])),
        ("tcp_bind", 4, |policy| policy.tcp_bind.exposed = true),
        ("scope", 6, |policy| policy.scope = [ScopeRule::Signals].into()),
    ];
    for (key, abi, change) in rules {
        assert_eq!(run(abi, change).unwrap().floor_abi, abi, "{key}");
        assert!(run(abi - 1, change).unwrap_err().why.contains(key));
    }
}

#[test]
fn ports_that_may_be_bound_are_those_of_the_image_and_of_policy() {
    let bound =
        |exposed, ports| run(7, |policy| policy.tcp_bind = BindRule { exposed, ports }).unwrap().tcp_bind;
    assert_eq!(bound(false, TcpRule::Any), TcpRule::Any);
    assert_eq!(bound(true, TcpRule::Any), ports(&[80, 443]));
    assert_eq!(bound(true, ports(&[443, 9000])), ports(&[443]));
    assert_eq!(bound(false, ports(&[9000])), ports(&[9000]));
}

#[test]
fn console_has_a_rule_only_where_there_is_one() {
    let paths = |console| {
        let spec = on(7, &policy(|_| {}), RootRule::Writable, console).unwrap();
        spec.paths.into_iter().any(|rule| rule.path.as_os_str() == "/dev/console")
    };
    assert!(paths(Console::Terminal));
    assert!(!paths(Console::Absent));
}

#[test]
fn files_of_the_image_take_the_place_of_the_whole_of_it_and_stay_for_an_exec_that_has_none() {
    let rules = FileRules { execute: BTreeSet::from(["/usr/bin/a".into()]), read: BTreeSet::new() };
    let files = GeneratedFiles::new(rules.clone(), None);
    let nothing = BTreeSet::new();
    let ground = |files| Ground {
        abi: 7,
        root: RootRule::ReadOnly,
        console: Console::Absent,
        mounts: Vec::new(),
        files,
        exposed: &nothing,
    };
    let policy = policy(|_| {});
    let whole = ruleset(&policy, ground(None)).unwrap();
    assert_eq!(whole.image, ImageAccess::Whole(PathAccess::ReadExecute));
    let init = ruleset(&policy, ground(Some(&files))).unwrap();
    assert_eq!(init.image, ImageAccess::Files(rules.clone()));

    let exec = |spec: &LandlockSpec, now| narrow(spec.clone(), &policy, 7, now, &nothing).unwrap().image;
    assert_eq!(exec(&init, None), init.image, "policy takes the baseline now");
    assert_eq!(exec(&whole, Some(&files)), init.image, "they were not ready when init was started");
    let more = FileRules { execute: BTreeSet::from(["/usr/bin/a".into(), "/usr/bin/b".into()]), ..rules };
    let now = GeneratedFiles::new(more.clone(), None);
    assert_eq!(exec(&init, Some(&now)), ImageAccess::Files(more), "policy lets b be exec'd now");
}

#[test]
fn exec_under_a_newer_policy_has_what_both_allow() {
    let init = run(7, |policy| policy.tcp_connect = ports(&[1, 2])).unwrap();
    let now = policy(|policy| {
        policy.tcp_connect = ports(&[2, 3]);
        policy.tcp_bind.exposed = true;
        policy.scope = [ScopeRule::Signals].into();
    });
    let exec = narrow(init, &now, 7, None, &BTreeSet::from([80])).unwrap();
    assert_eq!((exec.tcp_connect, exec.tcp_bind), (ports(&[2]), ports(&[80])));
    assert_eq!((exec.scope, exec.floor_abi), ([ScopeRule::Signals].into(), 6));
}
