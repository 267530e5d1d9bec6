//! The binary as people use it: exit statuses, what stands on the terminal, and JSON that says the same.

#![allow(clippy::unwrap_used, missing_docs)]

mod containerd;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use containerd::Containerd;
use serde_json::Value;

fn bulkhead(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).arg("--root").arg(root).args(arguments).output().unwrap()
}

/// Exit status and what was printed, stdout first.
fn ask(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output = bulkhead(root, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn json(root: &Path, arguments: &[&str]) -> Value {
    serde_json::from_slice(&bulkhead(root, &[arguments, &["--json"]].concat()).stdout).unwrap()
}

/// Options that lead to no containerd at all.
const NOWHERE: [&str; 4] =
    ["--containerd-config", "/nonexistent/config.toml", "--address", "/nonexistent.sock"];

#[test]
fn init_writes_a_policy_once_that_check_finds_good() {
    let root = tempfile::tempdir().unwrap();
    let (status, text) = ask(root.path(), &[&["init"], &NOWHERE[..]].concat());
    assert_eq!(status, 0, "{text}");
    let path = root.path().join("etc/bulkhead/policy.toml");
    let first = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(text.contains("it admits no image"), "{text}");
    assert_eq!(ask(root.path(), &["policy", "check"]).0, 0);
    let (again, text) = ask(root.path(), &[&["init"], &NOWHERE[..]].concat());
    assert_eq!((again, fs::read_to_string(&path).unwrap()), (1, first), "{text}");
}

#[test]
fn init_below_a_directory_that_others_can_write_says_so() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::set_permissions(root.path().join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
    let (status, text) = ask(root.path(), &[&["init"], &NOWHERE[..]].concat());
    assert_eq!(status, 1);
    assert!(text.contains(&format!("fix: chmod go-w {}", root.path().join("etc").display())), "{text}");
}

#[test]
fn check_says_every_problem_of_node_and_tenants_with_place_and_fix() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("etc/bulkhead");
    fs::create_dir_all(dir.join("tenants")).unwrap();
    assert_eq!(ask(root.path(), &["policy", "check"]).0, 1, "no policy is a no");
    fs::write(dir.join("policy.toml"), "version = 1\nmod = 1\n").unwrap();
    fs::write(dir.join("tenants/payments.toml"), "version = 2\n").unwrap();
    fs::write(dir.join("tenants/payments.toml~"), "version = 1\n").unwrap();
    fs::write(dir.join("tenants/open.toml"), "version = 1\n").unwrap();
    fs::set_permissions(dir.join("tenants/open.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let (status, text) = ask(root.path(), &["policy", "check"]);
    assert_eq!(status, 1);
    for wanted in [
        "policy.toml:2:1: unknown key `mod` in the file\n  fix: ",
        "payments.toml:1:11: `version` is 2\n  fix: write version = 1",
        "payments.toml~: its name is not that of a namespace",
        "mode 0666\n  fix: chmod go-w ",
        "4 problems",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
    assert_eq!(json(root.path(), &["policy", "check"])["problems"].as_array().unwrap().len(), 4);
    fs::write(dir.join("policy.toml"), "version = 1\n").unwrap();
    fs::remove_dir_all(dir.join("tenants")).unwrap();
    assert_eq!(ask(root.path(), &["policy", "check"]).0, 0);
    fs::create_dir(dir.join("tenants")).unwrap();
    fs::set_permissions(dir.join("tenants"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(ask(root.path(), &["policy", "check"]).0, 1, "no tenant, but anyone could remove one");
}

#[test]
fn check_of_a_named_file_judges_its_text_whoever_owns_it() {
    let root = tempfile::tempdir().unwrap();
    let (node, tenant) = (root.path().join("new.toml"), root.path().join("tenant.toml"));
    fs::write(&node, "version = 1\n").unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(&tenant, "version = 1\n[image]\n\"**\" = {}\n").unwrap();
    let (node, tenant) = (node.to_str().unwrap(), tenant.to_str().unwrap());
    assert_eq!(ask(root.path(), &["policy", "check", node, "--tenant", tenant]).0, 0);
    assert_eq!(ask(root.path(), &["policy", "check", tenant]).0, 1, "a node's scope needs digests");
    assert_eq!(ask(root.path(), &["policy", "check", "/nonexistent"]).0, 3);
}

#[test]
fn doctor_says_no_without_containerd_and_names_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let arguments = [&["doctor", "--containerd", "/nonexistent"], &NOWHERE[..]].concat();
    let (status, text) = ask(root.path(), &arguments);
    assert_eq!(status, 1);
    assert!(
        text.contains("MISSING   containerd's socket") && text.contains("bulkhead init --root"),
        "{text}"
    );
    let findings = json(root.path(), &arguments);
    let missing = |name: &str| {
        let all = findings["findings"].as_array().unwrap();
        all.iter().find(|finding| finding["name"] == name).unwrap()["standing"] == "missing"
    };
    assert!(missing("policy") && missing("containerd's socket") && !missing("landlock"));
}

#[test]
fn usage_is_two_and_pages_are_printed() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(ask(root.path(), &["bogus"]).0, 2);
    assert_eq!(ask(root.path(), &["judge"]).0, 2, "with options before it, it is no judge");
    assert_eq!(ask(root.path(), &["verify", "a", "-n", "../x"]).0, 2);
    for shell in ["bash", "zsh", "fish"] {
        let (status, text) = ask(root.path(), &["completion", shell]);
        assert!(status == 0 && text.contains("verify"), "{text}");
    }
    let (status, man) = ask(root.path(), &["man"]);
    assert!(status == 0 && man.contains(".TH bulkhead 1") && man.contains("containerd\\-config"), "{man}");
    let page = include_str!("../../../docs/policy.md");
    assert_eq!(ask(root.path(), &["policy", "explain"]), (0, page.to_owned()));
    assert_eq!(json(root.path(), &["policy", "explain"])["markdown"], page);
}

#[test]
fn policy_test_says_which_rows_are_not_as_expected() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let listed = format!("sha256:{}", "1".repeat(64));
    let policy = file(
        "policy.toml",
        &format!("version = 1\n[image]\n\"registry.example/a/**\" = {{ digests = [\"{listed}\"] }}\n"),
    );
    let row = |name: &str, rest: &str| format!("[[image]]\nname = \"registry.example/{name}\"\n{rest}\n");
    let good = [
        row("a/b:1", &format!("digest = \"{listed}\"\nexpect = \"admitted\"")),
        row("a/b:1", "expect = \"refused\"\nrule = \"image-digest\""),
        row("other", "expect = \"refused\"\nrule = \"image-scope\""),
        row("other", "expect = \"refused\""),
    ]
    .concat();
    let test = |table: &str| ask(root.path(), &["policy", "test", table, "--policy", &policy]);
    let (status, text) = test(&file("good.toml", &good));
    assert!(status == 0 && text.ends_with("4 as expected, 0 not\n"), "{text}");
    let wrong = format!("{good}{}", row("a/b:1", "expect = \"admitted\""));
    let (status, text) = test(&file("wrong.toml", &wrong));
    assert!(
        status == 1 && text.contains("WRONG registry.example/a/b:1: refused, expected: admitted"),
        "{text}"
    );
    // Another rule than expected is as wrong as an image that is admitted.
    let other = row("other", "expect = \"refused\"\nrule = \"image-digest\"");
    assert_eq!(test(&file("other.toml", &other)).0, 1);
    for broken in ["", "[[image]]\nname = \"a\"", &row("a", "expect = \"admitted\"\nunknown = 1"), "[[image"]
    {
        assert_eq!(test(&file("broken.toml", broken)).0, 3, "{broken}");
    }
}

#[test]
fn verify_without_containerd_fails_and_does_not_refuse() {
    let root = tempfile::tempdir().unwrap();
    let (status, text) = ask(root.path(), &["verify", "a", "--address", "/nonexistent.sock"]);
    assert_eq!(status, 3);
    assert!(text.starts_with("failed: connect to containerd at /nonexistent.sock"), "{text}");
}

#[test]
fn pause_image_of_a_real_containerd_is_admitted_by_init_and_another_is_not() {
    let containerd = Containerd::start();
    let root = containerd.dir().join("node");
    fs::create_dir(&root).unwrap();
    let pause = containerd.import("k8s.io", containerd::PAUSE, "pause");
    let other = containerd.import("k8s.io", "registry.example/other:1", "other");
    let config = containerd.config();
    let daemon = ["--containerd-config", config.to_str().unwrap()];
    let ask = |arguments: &[&str]| ask(&root, &[arguments, &daemon[..]].concat());

    let (status, text) = ask(&["init"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains(&format!("it admits the pause image {}@{pause}", containerd::PAUSE)), "{text}");

    let (status, text) = ask(&["verify", "-n", "k8s.io", containerd::PAUSE]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("admits it by scope \"registry.example/pause\""), "{text}");

    let (status, text) = ask(&["verify", "-n", "k8s.io", "registry.example/other:1"]);
    assert_eq!(status, 1, "{text}");
    let line = format!("\"registry.example/other\" = {{ digests = [\"{other}\"] }}");
    assert!(text.contains(&line), "{text}");
    let path = root.join("etc/bulkhead/policy.toml");
    let policy = fs::read_to_string(&path).unwrap().replace("\n[image]\n", &format!("\n[image]\n{line}\n"));
    fs::write(&path, policy).unwrap();
    let (status, text) = ask(&["verify", "-n", "k8s.io", "registry.example/other:1"]);
    assert_eq!(status, 0, "{text}");

    let (status, text) = ask(&["verify", "-n", "default", "registry.example/other:1"]);
    assert_eq!(status, 1, "an image of another namespace: {text}");
    assert!(text.contains("see: docs/refusals.md#image-missing"), "{text}");

    let (_, text) = ask(&["doctor"]);
    for name in ["containerd's socket", "policy", "pause image", "snapshotter", "unpacked layers"] {
        let line = text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(line.starts_with("good "), "{line}");
    }
}

/// It is limited by that group: out of it, it would read an attacker's bytes without limits.
#[test]
fn judge_that_cannot_join_its_control_group_answers_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = dir.path().join("tasks");
    let judge = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        let output = command.args(["judge", "in"]).arg(file).stdin(std::process::Stdio::null()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let said = judge(&tasks);
    assert!(said.contains("write(2)") && said.contains(&tasks.display().to_string()), "{said}");
    fs::write(&tasks, "").unwrap();
    let said = judge(&tasks);
    assert!(!said.contains("write(2)"), "{said}");
    assert_eq!(fs::read_to_string(&tasks).unwrap(), "0");
}
