#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path};

use super::*;
use crate::Row;

/// A profile of these calls.
fn of(calls: &[&str]) -> Profile {
    let text = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }],
    });
    let mut profile = Profile::import(text.to_string().as_bytes(), Path::new("x")).unwrap().profile;
    let row = || Row { reasons: Vec::new(), args: BTreeMap::new() };
    profile.rows = calls.iter().map(|call| ((*call).to_owned(), row())).collect();
    profile
}

fn named(section: &Value) -> BTreeSet<String> {
    names_in(section).map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn exported_section_comes_back_with_its_calls_and_those_of_runc() {
    let calls = ["clone", "connect", "ioctl", "personality", "prctl", "read", "socket"];
    let profile = of(&calls);
    let exported = profile.to_oci();
    let imported = Profile::import(exported.text.as_bytes(), Path::new("x")).unwrap();
    let back: BTreeSet<&str> = imported.profile.rows.keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = calls.into_iter().chain(RUNC.iter().copied()).collect();
    assert_eq!(back, wanted);
    assert_eq!(imported.taken, Vec::<String>::new());
    // What the format cannot say is what the baseline takes away again.
    assert_eq!(imported.narrowed, exported.wider);
}

#[test]
fn resource_of_the_operator_has_its_fields_and_every_other_call_is_no_such_call() {
    let profile = of(&["read", "socket"]);
    let text = profile.to_operator("web").text;
    assert!(text.starts_with(
        "apiVersion: \"security-profiles-operator.x-k8s.io/v1beta1\"\nkind: \"SeccompProfile\"\n"
    ));
    assert!(text.contains("metadata:\n  name: \"web\"\nspec:\n"), "{text}");
    assert!(!text.contains("defaultErrnoRet"), "it has no such field: {text}");
    assert!(text.contains("    errnoRet: 38\n") && text.contains("\"clone3\"") && text.contains("\"mkdir\""));
    // Each name stands in one kind of rule.
    let (allowed, denied) = text.split_once("errnoRet").unwrap();
    let of = |text: &str, name: &str| text.contains(&format!("- \"{name}\"\n"));
    assert!(of(allowed, "read") && !of(denied, "read"));
    assert!(of(denied, "mkdir") && !of(allowed, "mkdir"));
    assert!(!named(&profile.section().0).contains("mkdir"));
    assert_eq!(text.matches("- \"setgroups\"\n").count(), 1);
}

/// lighttpd and memcached ask for groups, and go on at EPERM; Go copies where splice(2) says EINVAL.
#[test]
fn call_that_the_baseline_denies_keeps_its_errno_and_one_that_it_allows_has_none() {
    let section = of(&["read", "socket", "clone"]).section().0;
    let errno = |name: &str| {
        let mut rules = section["syscalls"].as_array().unwrap().iter();
        let rule = rules.find(|rule| names_in(&json!({ "syscalls": [rule] })).any(|of| of == name))?;
        Some((rule["action"].as_str().unwrap().to_owned(), rule["errnoRet"].as_u64()))
    };
    let answer = |errno| Some(("SCMP_ACT_ERRNO".to_owned(), Some(errno)));
    assert_eq!(errno("setgroups"), answer(1));
    assert_eq!(errno("splice"), answer(22));
    assert_eq!(errno("read"), Some(("SCMP_ACT_ALLOW".to_owned(), None)));
    // Outside of the profile, and what the baseline says is ENOSYS: the default.
    assert_eq!((errno("mkdir"), errno("memfd_create")), (None, None));
}
