//! Texts in a file's data that may be the name of a function, for dlsym(3).
//!
//! A text begins where the one before ended, or where some code or data points: linkers lay a text that ends another
//! into that one, and Rust's have no NUL between them.

use std::collections::BTreeSet;

use super::object::Object;

/// Longest name. Longer ones exist in C++, which nobody looks up by name.
const NAME_BYTES_MAX: usize = 512;

/// Names, without those that only the loader reads.
pub(super) fn names(object: &Object<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut add = |address: u64, text: &[u8]| {
        let first = text.first().is_some_and(|byte| !byte.is_ascii_digit());
        if first
            && text.len() <= NAME_BYTES_MAX
            && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(byte))
            && !object.strings.contains(&address)
        {
            found.insert(String::from_utf8_lossy(text).into_owned());
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
    found.into_iter().collect()
}
