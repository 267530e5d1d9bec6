//! Values of arguments that a program was seen to call with, held against those that its profile allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::cves::Arguments;

/// Values of the first three arguments, by call and argument.
pub(crate) type Seen = BTreeMap<(String, u8), BTreeSet<u32>>;

/// What strace, which writes numbers (`-X verbose`), saw after the execve(2) of the program itself.
pub(crate) fn values(trace: &Path) -> Seen {
    let text = fs::read_to_string(trace).unwrap();
    let (mut programs, mut seen) = (0, Seen::new());
    for line in text.lines() {
        let Some((name, rest)) = line.split_whitespace().nth(1).and_then(|_| call(line)) else { continue };
        // clone(2) is written with names.
        if programs >= 2 && name != "clone" {
            for (at, argument) in (0..3).zip(rest.split(", ")) {
                if let Some(value) = number(argument) {
                    seen.entry((name.to_owned(), at)).or_default().insert(value);
                }
            }
        }
        if name == "execve" && line.ends_with("= 0") {
            programs += 1;
        }
    }
    seen
}

/// `1234 name(arguments`: name and what follows.
fn call(line: &str) -> Option<(&str, &str)> {
    let (_, call) = line.split_once(char::is_whitespace)?;
    let (name, rest) = call.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some((name, rest))
}

fn number(argument: &str) -> Option<u32> {
    let word = argument.split([' ', ')', '<']).next()?;
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?.cast_signed(),
        None => word.parse::<i64>().ok()?,
    };
    Some(value as u32)
}

/// Values that a profile allows.
pub(crate) fn allowed(profile: &Value) -> Arguments {
    let rows = profile["rows"].as_object().unwrap().iter();
    let of_call = rows.filter_map(|(call, row)| {
        let args = row.get("args")?;
        Some((call.clone(), serde_json::from_value(args.clone()).unwrap()))
    });
    of_call.collect()
}

/// The bits of an argument that are compared: of a socket's type not its flags, of memory whether it is executable.
fn mask(call: &str, arg: u8) -> u32 {
    match (call, arg) {
        ("socket" | "socketpair", 1) => 0xf,
        ("mmap" | "mprotect" | "pkey_mprotect", 2) => 4,
        ("shmat", 2) => 0o100_000,
        _ => u32::MAX,
    }
}

/// Values that were seen and that the profile does not allow.
pub(crate) fn false_denials(profile: &Value, seen: &Seen) -> Vec<String> {
    let mut missing = Vec::new();
    for (call, of_call) in allowed(profile) {
        for (arg, allowed) in of_call {
            let mask = mask(&call, arg);
            let values = seen.get(&(call.clone(), arg)).into_iter().flatten();
            let outside = values.filter(|value| !allowed.contains(&(**value & mask)));
            missing.extend(outside.map(|value| format!("{call} argument {arg}: {value:#x}")));
        }
    }
    missing
}
