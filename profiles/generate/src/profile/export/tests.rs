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

#[test]
fn values_are_exported_as_they_are_compared_and_come_back_but_for_those_of_calls_that_runc_makes_itself() {
    let mut profile =
        of(&["fcntl", "getsockopt", "ioctl", "mprotect", "read", "setsockopt", "socket", "write"]);
    let mut narrow = |call: &str, arg: u8, values: &[u32]| {
        profile.rows.get_mut(call).unwrap().args.insert(arg, values.iter().copied().collect());
    };
    narrow("ioctl", 1, &[0x5401, 0x8004_5430]);
    narrow("socket", 0, &[1, 2]);
    narrow("socket", 1, &[1]);
    narrow("getsockopt", 1, &[1]);
    narrow("getsockopt", 2, &[3, 4]);
    narrow("setsockopt", 1, &[1]);
    narrow("mprotect", 2, &[0]);
    narrow("fcntl", 1, &[3]);
    let exported = profile.to_oci();
    // The baseline's denied requests and options are none of these: with values the form says all.
    assert_eq!(exported.wider, ["fcntl", "setsockopt"]);
    let section: Value = serde_json::from_str(&exported.text).unwrap();
    let rules = |call: &str| {
        let rules = section["syscalls"].as_array().unwrap().iter();
        rules
            .filter(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call))
            .collect::<Vec<_>>()
    };
    assert_eq!(rules("ioctl").len(), 2);
    let request = json!([{ "index": 1, "value": u32::MAX, "valueTwo": 0x5401, "op": "SCMP_CMP_MASKED_EQ" }]);
    assert_eq!(rules("ioctl")[0]["args"], request);
    assert_eq!(rules("fcntl")[0]["args"], Value::Null);
    assert_eq!(rules("getsockopt").len(), 2, "each of both with the other's");
    // AF_UNIX, and of AF_INET streams of both protocols.
    assert_eq!(rules("socket").len(), 3);

    let imported = Profile::import(exported.text.as_bytes(), Path::new("x")).unwrap().profile;
    for call in ["getsockopt", "ioctl", "mprotect", "socket"] {
        assert_eq!(imported.rows[call].args, profile.rows[call].args, "{call}");
    }
    assert!(imported.rows["fcntl"].args.is_empty());
}

#[test]
fn value_that_the_baseline_denies_is_not_exported() {
    let mut profile = of(&["ioctl", "read", "write"]);
    // TIOCSTI, and one that anybody may.
    profile.rows.get_mut("ioctl").unwrap().args.insert(1, [0x5401, 0x5412].into());
    let text = profile.to_oci().text;
    assert!(text.contains(&0x5401.to_string()) && !text.contains(&0x5412.to_string()), "{text}");
}
