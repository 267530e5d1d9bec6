//! Texts in a file's data that may name what it loads or runs.

use std::collections::BTreeSet;

use crate::elf::{Elf, dynamic::Dynamic};

/// Longest text that is a name. Source: `PATH_MAX`, include/uapi/linux/limits.h.
const NAME_BYTES_MAX: usize = 4096;
/// Most names that are kept of one file.
const NAMES_MAX: usize = 20_000;

/// Names of libraries, and absolute paths.
pub(crate) fn texts(elf: &Elf<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for segment in &elf.segments {
        let Some(bytes) = elf.data.get(segment.bytes.clone()) else { continue };
        for text in bytes.split(|byte| *byte == 0) {
            if text.len() < 4 || text.len() > NAME_BYTES_MAX {
                continue;
            }
            // A run of code may end in a name; what is printable at the end of it is the name.
            let start = text.iter().rposition(|byte| !is_name(*byte)).map_or(0, |at| at + 1);
            let name = &text[start..];
            let library = name.windows(3).any(|window| window == b".so");
            let path = name.starts_with(b"/") && name.len() > 3;
            if (library || path) && found.len() < NAMES_MAX {
                found.insert(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    found.into_iter().collect()
}

/// Whether a text is only there for the loader to read: the file's own name, or one that it needs.
pub(crate) fn is_of_the_loader_alone(elf: &Elf<'_>, dynamic: &Dynamic, text: &str) -> bool {
    let mut own = dynamic.needed.iter().chain(&dynamic.soname);
    let is = |bytes: &[u8]| bytes.ends_with(text.as_bytes());
    let bytes = elf.segments.iter().filter_map(|segment| elf.data.get(segment.bytes.clone()));
    own.any(|own| own == text)
        && bytes.flat_map(|bytes| bytes.split(|byte| *byte == 0)).filter(|text| is(text)).count() < 2
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte)
}

/// Whether a name is that of a shared library.
pub(crate) fn is_library(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    match file.find(".so") {
        Some(at) if at > 0 => file[at + 3..].chars().all(|c| c == '.' || c.is_ascii_digit()),
        _ => false,
    }
}
