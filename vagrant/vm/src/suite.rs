//! Runs the tests in machines and says what came of each.
//!
//! ```text
//! cargo test --no-run ─► test programs ─► payload ─► a machine per program, two at a time ─► libtest's lines ─► vm.json
//! ```
//! Invariant: a program without a result line, a machine that does not come up and a build that fails are failures.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use bulkhead_integration::{HarnessError, workspace, write_report};
use serde_json::{Value, json};

use crate::{
    disk::{Disk, kernel_with_selinux},
    machine::Machine,
    payload::{self, Payload},
};

/// How long the tests of one program may take: some 40 s where nothing else runs.
const PROGRAM: Duration = Duration::from_secs(900);

/// How many machines run at a time: each keeps a processor busy.
const AT_A_TIME: usize = 2;

/// Runs every test program in machines with each of the kernels. What they print comes program by program.
pub(crate) fn run(versions: &[&str]) -> Result<ExitCode, HarnessError> {
    let (_, programs) = programs(Libc::OfThisMachine)?;
    let disk = Disk::made()?;
    let payload = Payload::of(&disk, &programs)?;
    let mut rows = Vec::new();
    let mut good = true;
    for version in versions {
        let here: Vec<&PathBuf> = programs.iter().filter(|program| runs_in(program, version)).collect();
        let next = Mutex::new(here.iter());
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some(program) = next.lock().ok().and_then(|mut programs| programs.next()) {
                        let outcome = in_machine(&disk, version, &payload, program);
                        let (text, ended) = match outcome {
                            Ok((text, code)) => (text, code == 0),
                            Err((text, error)) => (format!("{text}\nerror: vm: {error}\n"), false),
                        };
                        print!("{text}");
                        if let Ok(mut done) = done.lock() {
                            done.push((text, ended));
                        }
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_default();
        good &= done.len() == here.len() && done.iter().all(|(_, ended)| *ended);
        for (text, ended) in &done {
            let found: Vec<Value> =
                results(text).map(|(test, outcome)| row(version, test, outcome)).collect();
            if found.is_empty() || !ended && found.iter().all(|row| row["outcome"] != "FAILED") {
                good = false;
                rows.push(row(version, "the machine", "FAILED"));
            }
            rows.extend(found);
        }
    }
    write_rows(versions, rows)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes what a machine of another kind is given, with a script that runs the tests: for vagrant/Vagrantfile.
pub(crate) fn tree(at: &Path) -> Result<ExitCode, HarnessError> {
    let (bins, mut programs) = programs(Libc::Static)?;
    programs.retain(|program| runs_in(program, ""));
    if at.exists() {
        fs::remove_dir_all(at).map_err(HarnessError::at("remove", at))?;
    }
    payload::write_tree(at, &bins, &programs)?;
    let names: Vec<_> = programs.iter().filter_map(|program| program.file_name()?.to_str()).collect();
    let script = format!(
        "#!/bin/sh\n# Runs every test here, where the harness finds everything at the path that it was built with.\n\
         set -u\nmkdir -p {parent}\nln -sfn \"$(dirname \"$(readlink -f \"$0\")\")\" {here}\ncd {here} || exit 1\n\
         failed=0\nfor test in {names}; do\n  target/debug/$test --test-threads=1 --show-output || failed=1\ndone\n\
         exit $failed\n",
        parent = workspace().parent().unwrap_or(Path::new("/")).display(),
        here = workspace().display(),
        names = names.join(" "),
    );
    let path = at.join("run-tests");
    fs::write(&path, script).map_err(HarnessError::at("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(HarnessError::at("chmod", &path))?;
    Ok(ExitCode::SUCCESS)
}

/// The tests of SELinux run where it is, and nothing else does.
fn runs_in(program: &Path, machine: &str) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("selinux-") == kernel_with_selinux(machine).is_some()
}

/// Whose libc the programs are to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Libc {
    /// That of a machine made from this system's own packages.
    OfThisMachine,
    /// Their own: they run in any distribution.
    Static,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The tests' programs, built by cargo, and where it puts binaries.
fn programs(libc: Libc) -> Result<(PathBuf, Vec<PathBuf>), HarnessError> {
    let mut names = Vec::new();
    let tests = workspace().join("vagrant/vm/tests");
    for entry in fs::read_dir(&tests).map_err(HarnessError::at("read", &tests))?.flatten() {
        names.extend(entry.file_name().to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    names.sort();
    let cargo = |words: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(words).arg("--locked").current_dir(workspace()).stderr(Stdio::inherit());
        if libc == Libc::Static {
            command.args(["--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
        }
        let line = format!("cargo {}", words.join(" "));
        let output =
            command.output().map_err(|source| HarnessError::Run { program: line.clone(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(HarnessError::Command { line, outcome: output.status.to_string() })
    };
    let debug = match libc {
        Libc::OfThisMachine => workspace().join("target/debug"),
        Libc::Static => {
            cargo(&["build", "-p", "containerd-shim-bulkhead-v2", "-p", "bulkhead-cli", "--bins"])?;
            workspace().join("target").join(TARGET).join("debug")
        }
    };
    let mut words = vec!["test", "-p", "bulkhead-vm", "--no-run", "--message-format=json-render-diagnostics"];
    words.extend(names.iter().flat_map(|name| ["--test", name]));
    let text = cargo(&words)?;
    let built: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect();
    if built.len() == names.len() {
        return Ok((debug, built));
    }
    let outcome = format!("{} of {} tests built", built.len(), names.len());
    Err(HarnessError::Command { line: "cargo test --no-run".to_owned(), outcome })
}

/// What a program printed in a machine of its own, with its exit code, or with what went wrong.
fn in_machine(
    disk: &Disk,
    version: &str,
    payload: &Payload,
    program: &Path,
) -> Result<(String, i32), (String, HarnessError)> {
    let mut machine = Machine::start(disk, version, payload).map_err(|error| (String::new(), error))?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let long = if std::env::var_os("BULKHEAD_LONG").is_some() { "--include-ignored" } else { "" };
    let script = format!("cd {} && {name} --test-threads=1 --show-output {long}\n", workspace().display());
    let mut output = Vec::new();
    let code = machine.run(&script, PROGRAM, &mut output);
    let text = String::from_utf8_lossy(&output).into_owned();
    code.map(|code| (text.clone(), code))
        .map_err(|error| (format!("{text}\n{}", machine.last_words()), error))
}

/// `test NAME ... OUTCOME` of libtest.
fn results(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let outcome = outcome.split([',', ' ']).next()?;
        ["ok", "FAILED", "ignored"].contains(&outcome).then_some((test, outcome))
    })
}

fn row(version: &str, test: &str, outcome: &str) -> Value {
    json!({ "machine": format!("debian-12 kernel {version}"), "test": test, "outcome": outcome })
}

/// Writes the report; rows of machines that did not run now stay as they are.
fn write_rows(versions: &[&str], rows: Vec<Value>) -> Result<(), HarnessError> {
    let old = fs::read(workspace().join("target/reports/vm.json")).unwrap_or_default();
    let old: Value = serde_json::from_slice(&old).unwrap_or_default();
    let ran: Vec<Value> = versions.iter().map(|version| row(version, "", "")["machine"].clone()).collect();
    let mut all: Vec<Value> = old["rows"].as_array().cloned().unwrap_or_default();
    all.retain(|row| !ran.contains(&row["machine"]));
    all.extend(rows);
    write_report("vm", &all).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_libtests_lines_and_from_no_others() {
        let text = "running 3 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d ... ignored, long\n\
                    test result: FAILED. 1 passed; 1 failed\ntest e ... \nvm says test f ... ok\n";
        let found: Vec<_> = results(text).collect();
        assert_eq!(found, [("a", "ok"), ("b::c", "FAILED"), ("d", "ignored")]);
    }
}
