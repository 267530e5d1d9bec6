#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn import(value: &Value) -> Result<Imported, ImportError> {
    Profile::import(value.to_string().as_bytes(), Path::new("f.json"))
}

/// A file with these rules beside those that every start needs.
fn with(rules: Value) -> Value {
    let mut all = vec![json!({
        "names": ["write", "read", "execve", "sendmsg", "sendto", "exit", "exit_group", "restart_syscall", "rt_sigreturn"],
        "action": "SCMP_ACT_ALLOW",
    })];
    all.extend(rules.as_array().unwrap().iter().cloned());
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": all })
}

fn allow(names: &[&str], args: Value) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args })
}

fn has(imported: &Imported, name: &str) -> bool {
    imported.profile.rows.contains_key(name)
}

/// In the words of moby's own default.
#[test]
fn form_of_docker_counts_for_this_machine_and_a_container_without_capabilities() {
    let mut file = with(json!([
        allow(&["mkdir", "chown32", "io_uring_setup", "bind"], json!(null)),
        { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
        allow(&["socket"], json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }])),
        allow(&["personality"], json!([{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }])),
        allow(&["personality"], json!([{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }])),
        allow(&["personality"], json!([{ "index": 0, "value": 4294967295u64, "op": "SCMP_CMP_EQ" }])),
        { "names": ["set_tls"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm", "riscv64"] } },
        { "names": ["mount", "clone", "clone3"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
        { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
          "args": [{ "index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ" }],
          "excludes": { "caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"] } },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "comment": "x" },
    ]));
    file["defaultErrnoRet"] = json!(1);
    file["archMap"] = json!([
        { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
        { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
        { "architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null },
    ]);
    let imported = import(&file).unwrap();
    for name in ["mkdir", "bind", "socket", "personality", "clone"] {
        assert!(has(&imported, name), "{name}");
    }
    for name in ["io_uring_setup", "ptrace", "mount", "clone3", "chown32"] {
        assert!(!has(&imported, name), "{name}");
    }
    assert_eq!(imported.taken, ["io_uring_setup", "ptrace"]);
    // clone is word for word the baseline's.
    assert_eq!(imported.narrowed, ["personality", "sendmsg", "sendto", "socket"]);
    assert_eq!(imported.profile.widened, None);
    let notes = imported.profile.notes.join("\n");
    assert!(notes.contains("SCMP_ARCH_X86, SCMP_ARCH_X32") && notes.contains("CAP_SYS_ADMIN"), "{notes}");
    assert!(!notes.contains("lacks"), "{notes}");
}

#[test]
fn file_that_allows_by_default_is_the_baseline_without_what_it_denies() {
    let file = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "bpf"], "action": "SCMP_ACT_ERRNO" }],
    });
    let imported = import(&file).unwrap();
    let all = baseline_numbers().len();
    assert_eq!(imported.profile.rows.len(), all - 1);
    assert!(!has(&imported, "mkdir") && !has(&imported, "bpf"));
    assert_eq!(imported.profile.widened, None);
    // Nothing is taken from it: that is the whole baseline, and no narrower profile.
    let whole = import(&json!({ "defaultAction": "SCMP_ACT_ALLOW" })).unwrap();
    assert_eq!(whole.profile.rows.len(), all);
    assert!(whole.profile.widened.is_some());
}

#[test]
fn nothing_that_comes_out_is_wider_than_the_baseline_and_what_is_taken_away_is_said() {
    let every: Vec<&str> = (0..1024).filter_map(bulkhead_profiles::syscall_name).collect();
    let imported = import(&with(json!([allow(&every, json!(null))]))).unwrap();
    let numbers: BTreeSet<u32> =
        imported.profile.rows.keys().filter_map(|name| syscall_number(name)).collect();
    assert_eq!(numbers, baseline_numbers());
    for name in ["bpf", "io_uring_setup", "clone3", "memfd_create"] {
        assert!(imported.taken.iter().any(|taken| taken == name), "{name}");
    }
    for name in ["clone", "socket", "ioctl", "prctl"] {
        assert!(imported.narrowed.iter().any(|narrowed| narrowed == name), "{name}");
    }
    assert!(!imported.narrowed.iter().any(|narrowed| narrowed == "read"));
}

#[test]
fn what_cannot_be_kept_exactly_is_refused_by_name() {
    let rule = |rule: Value| with(json!([rule]));
    let field = |name: &str, value: Value| {
        let mut file = with(json!([]));
        file[name] = value;
        file
    };
    let one = |index: u32, value: u64, op: &str| json!([{ "index": index, "value": value, "op": op }]);
    for (file, named) in [
        (rule(allow(&["nosuchcall"], json!(null))), "nosuchcall"),
        (rule(allow(&["socket"], one(0, 1, "SCMP_CMP_GT"))), "socket is allowed for some arguments"),
        // Flags of the type are not compared here.
        (rule(allow(&["socket"], one(1, 1, "SCMP_CMP_EQ"))), "socket is allowed for some arguments"),
        (rule(allow(&["ioctl"], one(1, 1 << 32, "SCMP_CMP_EQ"))), "ioctl is allowed for some arguments"),
        (rule(allow(&["mkdir"], one(1, 0o700, "SCMP_CMP_EQ"))), "mkdir is allowed for some arguments"),
        // The kernel does not see the upper half, so it says another thing than it seems to.
        (rule(allow(&["socketpair"], one(0, 1 << 32, "SCMP_CMP_NE"))), "socketpair is allowed for some"),
        (rule(allow(&["mkdir"], one(6, 0, "SCMP_CMP_EQ"))), "argument 6 of mkdir"),
        (rule(allow(&["mkdir"], one(0, 0, "SCMP_CMP_XX"))), "SCMP_CMP_XX of mkdir"),
        (rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_TRACE" })), "SCMP_ACT_TRACE of mkdir"),
        (
            rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS" })),
            "SCMP_ACT_KILL_PROCESS of mkdir",
        ),
        (
            rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 })),
            "errnoRet 0 of mkdir",
        ),
        (rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO" })), "read is both allowed and denied"),
        (
            rule(
                json!({ "names": ["mkdir"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "6.12" } }),
            ),
            "6.12",
        ),
        (field("defaultAction", json!("SCMP_ACT_LOG")), "SCMP_ACT_LOG of defaultAction"),
        (field("listenerPath", json!("/run/x")), "a notifier"),
        (field("flags", json!(["SECCOMP_FILTER_FLAG_LOG"])), "SECCOMP_FILTER_FLAG_LOG"),
        (field("architectures", json!(["SCMP_ARCH_S390X"])), "its architectures"),
    ] {
        let said = import(&file).unwrap_err().to_string();
        assert!(said.contains(named), "{named}: {said}");
    }
    for unknown in [json!({}), json!([]), field("more", json!(1)), rule(json!({ "names": ["read"] }))] {
        assert!(matches!(import(&unknown), Err(ImportError::Form(_))), "{unknown}");
    }
    let long = format!("{}{}", with(json!([])), " ".repeat(4 << 20));
    assert!(matches!(Profile::import(long.as_bytes(), Path::new("x")), Err(ImportError::TooLong)));
    import(&with(json!([]))).unwrap();
}

#[test]
fn values_of_an_argument_that_profiles_name_are_kept_and_a_rule_that_is_no_product_of_values_is_refused() {
    let eq = |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let low = |index: u32, value: u64| json!({ "index": index, "value": u32::MAX, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" });
    let imported = import(&with(json!([
        allow(&["ioctl"], json!([eq(1, 0x5401)])),
        allow(&["ioctl"], json!([low(1, 0x8004_5430)])),
        allow(&["madvise", "fcntl"], json!(null)),
        allow(&["mprotect"], json!([{ "index": 2, "value": 4, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }])),
    ])))
    .unwrap();
    let args = |call: &str| imported.profile.rows[call].args.clone();
    assert_eq!(args("ioctl"), BTreeMap::from([(1, BTreeSet::from([0x5401, 0x8004_5430]))]));
    assert_eq!(args("mprotect"), BTreeMap::from([(2, BTreeSet::from([0]))]));
    assert_eq!((args("madvise"), args("fcntl")), (BTreeMap::new(), BTreeMap::new()));

    let option = |level: u64, name: u64| allow(&["getsockopt"], json!([eq(1, level), eq(2, name)]));
    let all = [option(1, 2), option(1, 3), option(6, 2), option(6, 3)];
    let imported = import(&with(json!(all))).unwrap();
    let values = |of: &[u32]| of.iter().copied().collect::<BTreeSet<u32>>();
    let wanted = BTreeMap::from([(1, values(&[1, 6])), (2, values(&[2, 3]))]);
    assert_eq!(imported.profile.rows["getsockopt"].args, wanted);
    let said = import(&with(json!(all[..3]))).unwrap_err().to_string();
    assert!(said.contains("getsockopt is allowed for some arguments"), "{said}");
}
