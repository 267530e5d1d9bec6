//! Texts in a file's data that may be the name of a function, for dlsym(3).
//!
//! A text begins where the one before ended, or where some code or data points: linkers lay a text that ends another
//! into that one, and Rust's have no NUL between them.

use std::collections::BTreeMap;

use super::{object::Object, summary::Function};

/// Longest name. Longer ones exist in C++, which nobody looks up by name.
const NAME_BYTES_MAX: usize = 512;

/// Names, without those that only the loader reads.
pub(super) fn names(object: &Object<'_>) -> Vec<String> {
    let mut found: Vec<&[u8]> = Vec::new();
    let mut add = |address: u64, text| {
        if is_name(text) && !object.strings.contains(&address) {
            found.push(text);
        }
    };
    for segment in &object.elf.segments {
        let Some(bytes) = object.elf.data.get(segment.bytes.clone()) else { continue };
        let mut address = segment.start;
        for text in bytes.split(|byte| *byte == 0) {
            add(address, text);
            address = address.saturating_add(text.len() as u64 + 1);
        }
    }
    for address in &object.referred {
        if let Some(text) = object.elf.text(*address) {
            add(*address, text);
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Names whose address a call hands on: it may be for dlsym.
pub(super) fn literals(object: &Object<'_>, functions: &[Function]) -> Vec<(u64, String)> {
    let mut found = BTreeMap::new();
    let calls = functions.iter().flat_map(|function| &function.calls);
    for (_, value) in calls.flat_map(|call| &call.args) {
        for address in value.constants().unwrap_or_default() {
            if object.is_code(*address) || found.contains_key(address) {
                continue;
            }
            if let Some(text) = object.elf.fixed_text(*address).filter(|text| is_name(text)) {
                found.insert(*address, String::from_utf8_lossy(text).into_owned());
            }
        }
    }
    found.into_iter().collect()
}

fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| !byte.is_ascii_digit())
        && text.len() <= NAME_BYTES_MAX
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(byte))
}
