//! The OCI project's own validation of runtimes, runtime-tools, driven through a shim by the program `oci`.
//!
//! Invariant: what a test says is counted by what it says it of: an assertion that is made many times has passed if it
//! has passed each time, and a test that ends without an assertion has failed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{Containerd, Cri, HarnessError, Release, Result, run, workspace};

use super::{outcome::Outcome, world::Runtime};

/// How long a test may take: some look once a second whether a container has ended.
const TEST: Duration = Duration::from_secs(120);

/// Every image of the suite is made of the bundle of the moment; `oci` fills it and the bundle's hooks in.
const POLICY: &str = r#"version = 1
mode = "enforce"
[image]
"registry.test/oci/*" = { digests = ["@DIGEST@"], confine = "oci" }
[confine.oci]
level = "compatible"
namespaces = ["*"]
exec = ["*"]
hooks = [@HOOKS@]
"#;

fn built() -> PathBuf {
    workspace().join("target/conformance/oci")
}

/// Builds the suite, where it is not there yet.
pub(crate) fn build() -> Result<()> {
    let mut script = Command::new(workspace().join("integration/conformance/oci/build.sh"));
    run(&mut script, Duration::from_secs(900))?.success().map(drop)
}

/// Its tests.
pub(crate) fn tests() -> Result<Vec<String>> {
    let dir = built().join("tests");
    let entries = fs::read_dir(&dir).map_err(HarnessError::at("read", &dir))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// What became of each test and of its assertions.
pub(crate) fn outcomes(runtime: Runtime, tests: &[String]) -> Result<BTreeMap<String, Outcome>> {
    let daemon = Containerd::start(Release::V2_1, Cri::Off)?;
    let logs = workspace().join("target/conformance/logs/oci").join(runtime.handler());
    fs::create_dir_all(&logs).map_err(HarnessError::at("create", &logs))?;
    let mut found = BTreeMap::new();
    for test in tests {
        let said = said(&daemon, runtime, test)?;
        let log = logs.join(test);
        fs::write(&log, &said).map_err(HarnessError::at("write", &log))?;
        found.extend(read(test, &said));
    }
    Ok(found)
}

fn said(daemon: &Containerd, runtime: Runtime, test: &str) -> Result<String> {
    let made = daemon.dir().join("made");
    fs::create_dir_all(&made).map_err(HarnessError::at("create", &made))?;
    let template = made.join("policy.toml");
    fs::write(&template, POLICY).map_err(HarnessError::at("write", &template))?;
    daemon.policy("")?;
    // A mount namespace is entered at its root.
    let mut command = daemon.inside(Path::new("/bin/sh"));
    command.args(["-c", "cd \"$1\" && exec \"tests/$2\"", "sh"]).arg(built()).arg(test);
    command.env("RUNTIME", env!("CARGO_BIN_EXE_oci")).env("TMPDIR", &made);
    command.env("OCI_SOCKET", daemon.socket()).env("OCI_NAMESPACE", daemon.tag());
    command.env("OCI_CTR", workspace().join("target/deps/containerd-2.1/usr/bin/ctr"));
    command.env("OCI_RUNTIME", format!("io.containerd.{}.v2", runtime.handler()));
    command.env("OCI_POLICY", &template);
    command.env("OCI_POLICY_TO", daemon.bulkhead_root().join("etc/bulkhead/policy.toml"));
    let output = run(&mut command, TEST)?;
    Ok(format!("{}\n{}\nexit: {}\n", output.stdout, output.stderr, output.code()))
}

/// Reads the Test Anything Protocol, in which parts may lie further in.
fn read(test: &str, said: &str) -> BTreeMap<String, Outcome> {
    let mut found: BTreeMap<String, Outcome> = BTreeMap::new();
    for (passed, of) in said.lines().filter_map(assertion) {
        let outcome = found.entry(format!("{test}/{of}")).or_insert(Outcome::Passed);
        if !passed {
            *outcome = Outcome::Failed;
        }
    }
    let good = !found.is_empty()
        && found.values().all(|outcome| *outcome == Outcome::Passed)
        && said.lines().any(|line| line == "exit: 0");
    found.insert(test.to_owned(), if good { Outcome::Passed } else { Outcome::Failed });
    found
}

/// `not ok 3 - has expected hostname`.
fn assertion(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    Some((passed, rest.split_once(" - ")?.1))
}

#[test]
fn assertion_that_fails_once_has_failed_and_a_test_without_one_has_too() {
    let said = "ok 1 - a\n  not ok 2 - b\nok 3 - b\nexit: 0\n";
    let found = read("t", said);
    assert_eq!(found.get("t/a"), Some(&Outcome::Passed));
    assert_eq!(found.get("t/b"), Some(&Outcome::Failed));
    assert_eq!(found.get("t"), Some(&Outcome::Failed));
    assert_eq!(read("t", "ok 1 - a\nexit: 0\n").get("t"), Some(&Outcome::Passed));
    assert_eq!(read("t", "ok 1 - a\nexit: 1\n").get("t"), Some(&Outcome::Failed));
    assert_eq!(read("t", "exit: 0\n").get("t"), Some(&Outcome::Failed));
}
