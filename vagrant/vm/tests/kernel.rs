//! What differs from kernel to kernel: `bulkhead doctor` says it, and policy can ask for it.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use guest::{PATIENCE, bench, kernel};
use serde_json::Value;

/// The Landlock ABI that a kernel is documented to have.
///
/// Source: landlock(7), table of ABI versions.
fn landlock_abi() -> u8 {
    match kernel() {
        version if version >= (6, 15) => 7,
        version if version >= (6, 12) => 6,
        version if version >= (6, 10) => 5,
        version if version >= (6, 7) => 4,
        version if version >= (6, 2) => 3,
        version if version >= (5, 19) => 2,
        _ => 1,
    }
}

fn doctor() -> Vec<Value> {
    let program = bulkhead_integration::workspace().join("target/debug/bulkhead");
    let output =
        bulkhead_integration::run(std::process::Command::new(program).args(["doctor", "--json"]), PATIENCE)
            .unwrap();
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    answer["findings"].as_array().unwrap().clone()
}

#[test]
fn doctor_says_what_this_kernel_has() {
    let findings = doctor();
    let found = |name: &str| {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("{name}: {findings:#?}"));
        (finding["found"].as_str().unwrap().to_owned(), finding["standing"].as_str().unwrap().to_owned())
    };
    assert_eq!(found("landlock"), (format!("ABI {}", landlock_abi()), "good".to_owned()));
    assert_eq!(found("cgroup"), ("v2 with cpu, memory, pids".to_owned(), "good".to_owned()));
    assert_eq!(found("kernel").1, "good");
    assert_eq!(found("overlayfs").1, "good");
    // Both came with Linux 6.3; the file system of images has been id-mapped since 5.12.
    let newer = kernel() >= (6, 3);
    assert_eq!(found("vm.memfd_noexec").1, if newer { "good" } else { "optional" });
    let mapped = if newer { ("of /var/lib, tmpfs", "good") } else { ("of /var/lib", "optional") };
    assert_eq!(found("id-mapped mounts"), (mapped.0.to_owned(), mapped.1.to_owned()));
}

#[test]
fn a_floor_that_this_kernel_reaches_runs_and_one_above_it_runs_nothing() {
    let abi = landlock_abi();
    bench().allow(&format!("exec = [\"*\"]\nlandlock = {{ floor_abi = {abi} }}")).unwrap();
    assert!(bench().run("reached", &["/bin/true"]).unwrap().ok());
    bench().allow(&format!("exec = [\"*\"]\nlandlock = {{ floor_abi = {} }}", abi + 1)).unwrap();
    let output = bench().run("above", &["/bin/true"]).unwrap();
    assert!(!output.ok());
    let said = format!("Landlock ABI {abi}");
    assert!(output.stderr.contains(&said) && output.stderr.contains("fix:"), "{output:?}");
    bench().allow("exec = [\"*\"]").unwrap();
}

#[test]
fn tcp_is_denied_by_landlock_where_the_kernel_can_and_nothing_runs_where_it_cannot() {
    // Nobody listens: what is allowed to ask is refused.
    let ask = ["/bin/nc", "-w", "5", "127.0.0.1", "9"];
    bench().allow("exec = [\"*\"]").unwrap();
    let output = bench().run("any", &ask).unwrap();
    assert!(output.stderr.contains("refused") || output.stderr.contains("unreachable"), "{output:?}");
    bench().allow("exec = [\"*\"]\nlandlock = { tcp_connect = \"none\" }").unwrap();
    let output = bench().run("none", &ask).unwrap();
    assert!(!output.ok());
    let expected = if landlock_abi() >= 4 { "ermission denied" } else { "Landlock ABI 2" };
    assert!(output.stderr.contains(expected), "{output:?}");
    bench().allow("exec = [\"*\"]").unwrap();
}

#[test]
fn a_container_is_confined_by_the_kernels_newest_landlock() {
    let facts = bench().probe(bulkhead_integration::BULKHEAD, &["facts"]).unwrap();
    assert_eq!(
        (facts.get("Seccomp"), facts.get("NoNewPrivs"), facts.get("CapEff")),
        ("2", "1", "0000000000000000")
    );
    let tried = bench()
        .probe(
            bulkhead_integration::BULKHEAD,
            &["try", "run-dropped:/tmp", "run-memfd", "write:/etc/passwd", "userns"],
        )
        .unwrap();
    let outcomes: Vec<_> = tried.all("").collect();
    assert!(outcomes.len() == 4 && outcomes.iter().all(|(_, outcome)| *outcome != "done"), "{outcomes:?}");
}
