//! Texts in a file's data that may name what it loads or runs.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::elf::Elf;

/// Longest text that is a name. Source: `PATH_MAX`, include/uapi/linux/limits.h.
const NAME_BYTES_MAX: usize = 4096;
/// Most names that are kept of one file.
const NAMES_MAX: usize = 20_000;

/// Names of libraries, and absolute paths: what is printable at the end of a text, since a run of code may end in one.
pub(crate) fn texts(elf: &Elf<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    let library = memmem::Finder::new(b".so");
    for segment in &elf.segments {
        let Some(bytes) = elf.data.get(segment.bytes.clone()) else { continue };
        // A run of such bytes is looked at once, however often it has what a library's name has.
        let mut looked_at = 0;
        for at in library.find_iter(bytes) {
            if at >= looked_at {
                let least = looked_at.max(at.saturating_sub(NAME_BYTES_MAX));
                let before = bytes[least..at].iter().rposition(|byte| !is_name(*byte));
                looked_at = add(&mut found, bytes, before.map_or(least, |before| least + before + 1));
            }
        }
        for at in memchr::memchr_iter(b'/', bytes) {
            if !at.checked_sub(1).is_some_and(|before| is_name(bytes[before])) {
                add(&mut found, bytes, at);
            }
        }
    }
    found.into_iter().collect()
}

/// Adds the name that begins there, if a text ends with it. Answers where it ends.
fn add(found: &mut BTreeSet<String>, bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..bytes.len().min(start.saturating_add(NAME_BYTES_MAX))];
    let end = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
    let ends = rest.get(end).is_none_or(|byte| *byte == 0) && rest.len() > end || start + end == bytes.len();
    if ends && end > 3 && found.len() < NAMES_MAX {
        found.insert(String::from_utf8_lossy(&rest[..end]).into_owned());
    }
    start + end
}

/// Whether a text is only there for the loader to read: the file's own name, or one that it needs.
pub(crate) fn is_of_the_loader_alone(
    elf: &Elf<'_>,
    needed: &[String],
    soname: &Option<String>,
    text: &str,
) -> bool {
    let mut own = needed.iter().chain(soname);
    let name = memmem::Finder::new(text);
    let ends = |bytes: &[u8], at: usize| bytes.get(at + text.len()).is_none_or(|byte| *byte == 0);
    let segments = elf.segments.iter().filter_map(|segment| elf.data.get(segment.bytes.clone()));
    own.any(|own| own == text)
        && segments
            .flat_map(|bytes| name.find_iter(bytes).filter(move |at| ends(bytes, *at)))
            .nth(1)
            .is_none()
}

/// Whether a text ends with this name: linkers keep one text for several that end alike.
pub(crate) fn ends_with(bytes: &[u8], name: &str) -> bool {
    memmem::find(bytes, format!("{name}\0").as_bytes()).is_some()
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
