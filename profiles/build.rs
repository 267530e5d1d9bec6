//! Turns `data/baseline.toml` and `data/server.toml` into Rust tables, so that a launch parses nothing.
//!
//! A row that names no syscall, says no reason, or can never be reached does not compile.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use syscalls::{aarch64, arm, x86, x86_64};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    syscall: String,
    then: String,
    #[serde(default)]
    args: Vec<Arg>,
    grant: Option<String>,
    reason: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arg {
    arg: u8,
    eq: Option<u32>,
    mask: Option<u32>,
    #[serde(default)]
    set: bool,
}

type Names = BTreeMap<&'static str, u32>;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let baseline = read(Path::new("data/baseline.toml"));
    let server = read(Path::new("data/server.toml"));

    let x86_64 = names(x86_64::Sysno::last().id(), |id| x86_64::Sysno::new(id).map(|call| call.name()));
    let aarch64 = names(aarch64::Sysno::last().id(), |id| aarch64::Sysno::new(id).map(|call| call.name()));
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo names the target architecture");
    let (own, other) = match target.as_str() {
        "x86_64" => (&x86_64, &aarch64),
        "aarch64" => (&aarch64, &x86_64),
        _ => panic!("no seccomp profile for {target}: x86_64 and aarch64 only"),
    };

    let mut elsewhere: BTreeSet<&str> = other.keys().copied().collect();
    elsewhere
        .extend(names(x86::Sysno::last().id(), |id| x86::Sysno::new(id).map(|call| call.name())).into_keys());
    elsewhere
        .extend(names(arm::Sysno::last().id(), |id| arm::Sysno::new(id).map(|call| call.name())).into_keys());
    elsewhere.retain(|name| !own.contains_key(name));

    let mut out = String::new();
    writeln!(out, "pub(crate) static NAMES: &[(&str, u32)] = &{:?};", own.iter().collect::<Vec<_>>())
        .expect("text grows");
    writeln!(
        out,
        "pub(crate) static NAMES_ELSEWHERE: &[&str] = &{:?};",
        elsewhere.iter().collect::<Vec<_>>()
    )
    .expect("text grows");
    let names_end = out.len();
    write_rows(&mut out, "ROWS", &baseline, own, other);
    let hash: [u8; 32] = Sha256::digest(&out[names_end..]).into();
    write_rows(&mut out, "SERVER_ROWS", &server, own, other);
    writeln!(out, "/// Hash of the text of ROWS.\npub(crate) static ROWS_HASH: [u8; 32] = {hash:?};")
        .expect("text grows");
    let to = Path::new(&std::env::var_os("OUT_DIR").expect("cargo gives OUT_DIR")).join("tables.rs");
    std::fs::write(&to, out).expect("OUT_DIR is writable");
}

fn read(data: &Path) -> File {
    println!("cargo::rerun-if-changed={}", data.display());
    let text = std::fs::read_to_string(data).expect("the rows are readable");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", data.display()))
}

fn names(last: i32, name: impl Fn(usize) -> Option<&'static str>) -> Names {
    (0..=u32::try_from(last).expect("numbers start at 0"))
        .filter_map(|id| name(id as usize).map(|name| (name, id)))
        .collect()
}

fn write_rows(out: &mut String, name: &str, file: &File, own: &Names, other: &Names) {
    let mut decided = BTreeSet::new();
    writeln!(out, "static {name}: &[Row] = &[").expect("text grows");
    for row in &file.rows {
        let Row { syscall, then, args, grant, reason, source } = row;
        assert!(!reason.trim().is_empty() && !source.trim().is_empty(), "{syscall}: no reason or source");
        assert!(!decided.contains(syscall.as_str()), "{syscall}: row after one that always matches");
        let needs_memfd = match grant.as_deref() {
            None => false,
            Some("memfd") => true,
            Some(grant) => panic!("{syscall}: unknown grant {grant:?}"),
        };
        if args.is_empty() && !needs_memfd {
            decided.insert(syscall.as_str());
        }
        let Some(number) = own.get(syscall.as_str()) else {
            assert!(other.contains_key(syscall.as_str()), "{syscall}: no such syscall");
            continue;
        };
        write!(
            out,
            "Row {{ syscall: {syscall:?}, number: {number}, then: {}, args: &[",
            action(syscall, then)
        )
        .expect("text grows");
        for Arg { arg, eq, mask, set } in args {
            assert!(*arg < 6, "{syscall}: no argument {arg}");
            let (width, test) = match (eq, mask, set) {
                // A pointer whose lower half is 0 is one as well.
                (None, None, true) => ("Bits64", "Test::Ne(0)".to_owned()),
                (Some(eq), None, false) => ("Bits32", format!("Test::Eq({eq})")),
                (Some(eq), Some(mask), false) => {
                    assert!(eq & !mask == 0, "{syscall}: eq has bits that mask leaves out");
                    ("Bits32", format!("Test::MaskedEq {{ mask: {mask}, value: {eq} }}"))
                }
                _ => panic!("{syscall}: argument {arg} wants eq, eq and mask, or set = true"),
            };
            write!(out, "Condition {{ arg: {arg}, width: Width::{width}, test: {test} }},")
                .expect("text grows");
        }
        writeln!(out, "], needs_memfd: {needs_memfd}, reason: {reason:?}, source: {source:?} }},")
            .expect("text grows");
    }
    writeln!(out, "];").expect("text grows");
}

/// Errno numbers are the same on x86_64 and aarch64 (include/uapi/asm-generic/errno*.h).
fn action(syscall: &str, then: &str) -> String {
    let errno = match then {
        "allow" => return "Action::Allow".to_owned(),
        "kill" => return "Action::KillProcess".to_owned(),
        // seccomp(2), SECCOMP_RET_ERRNO: an errno of 0 is what success returns.
        "pretend" => 0,
        "EPERM" => 1,
        "EINVAL" => 22,
        "ENOSYS" => 38,
        "EPROTONOSUPPORT" => 93,
        "EOPNOTSUPP" => 95,
        "EAFNOSUPPORT" => 97,
        _ => panic!("{syscall}: unknown action {then:?}"),
    };
    format!("Action::Errno({errno})")
}
