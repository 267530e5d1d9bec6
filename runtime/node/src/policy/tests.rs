#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use bulkhead_policy::Mode;

use super::*;

fn node(policy: Option<&str>) -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path());
    fs::create_dir_all(layout.config_dir().join("tenants")).unwrap();
    if let Some(text) = policy {
        fs::write(layout.policy_file(), text).unwrap();
    }
    (dir, layout)
}

fn tenant() -> Namespace {
    "payments".parse().unwrap()
}

#[test]
fn node_without_policy_refuses_and_says_init() {
    let (_dir, layout) = node(None);
    let refusal = load_policy(&layout, None, &tenant()).unwrap_err();
    assert_eq!(refusal.rule, Rule::Policy);
    assert_eq!(refusal.fix, format!("write one: bulkhead init --root {}", layout.root().display()));
    fs::write(layout.policy_file(), "version = 1").unwrap();
    load_policy(&layout, None, &tenant()).unwrap();
}

#[test]
fn file_of_the_tenant_narrows_and_of_another_does_not() {
    let (_dir, layout) = node(Some("version = 1\nmode = \"audit\""));
    let mode = || load_policy(&layout, None, &tenant()).unwrap().mode();
    fs::write(layout.tenant_file(&"other".parse().unwrap()), "version = 1\nmode = \"enforce\"").unwrap();
    assert_eq!(mode(), Mode::Audit);
    fs::write(layout.tenant_file(&tenant()), "version = 1\nmode = \"enforce\"").unwrap();
    assert_eq!(mode(), Mode::Enforce);
}

#[test]
fn broken_or_foreign_file_of_the_tenant_refuses() {
    let (_dir, layout) = node(Some("version = 1"));
    let path = layout.tenant_file(&tenant());
    fs::write(&path, "version = 2").unwrap();
    let broken = load_policy(&layout, None, &tenant()).unwrap_err();
    assert!(broken.what.contains("payments.toml") && broken.why.starts_with("line 1, column 11"), "{broken}");
    fs::write(&path, "version = 1").unwrap();
    load_policy(&layout, None, &tenant()).unwrap();
    chown(&path, Some(1234), None).unwrap();
    let foreign = load_policy(&layout, None, &tenant()).unwrap_err();
    assert!(foreign.fix.starts_with("chown root: "), "{foreign}");
}

#[test]
fn directory_in_which_others_could_remove_a_tenants_file_refuses_though_there_is_none() {
    let (_dir, layout) = node(Some("version = 1"));
    let tenants = tenants_dir(&layout.policy_file());
    fs::set_permissions(&tenants, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(load_policy(&layout, None, &tenant()).unwrap_err().rule, Rule::Policy);
    fs::set_permissions(&tenants, fs::Permissions::from_mode(0o755)).unwrap();
    load_policy(&layout, None, &tenant()).unwrap();
    fs::remove_dir(&tenants).unwrap();
    load_policy(&layout, None, &tenant()).unwrap();
}

#[test]
fn file_that_containerd_names_is_used_with_the_tenants_beside_it() {
    let (_dir, layout) = node(Some("version = 1"));
    let named = layout.root().join("etc/strict/policy.toml");
    fs::create_dir_all(tenants_dir(&named)).unwrap();
    fs::write(&named, "version = 1\nmode = \"audit\"").unwrap();
    let mode = |file| load_policy(&layout, file, &tenant()).unwrap().mode();
    assert_eq!((mode(None), mode(Some(named.as_path()))), (Mode::Enforce, Mode::Audit));
    fs::write(tenants_dir(&named).join("payments.toml"), "version = 1\nmode = \"enforce\"").unwrap();
    assert_eq!(mode(Some(named.as_path())), Mode::Enforce);
    let beside = load_policy(&layout, Some(Path::new("/etc/passwd")), &tenant()).unwrap_err();
    assert!(beside.why.contains("not a plain path below"), "{beside}");
}
