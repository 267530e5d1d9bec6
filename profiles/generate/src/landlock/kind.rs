//! What a file is to Landlock.

use std::path::Path;

use object::elf;

use crate::{FilesError, Root, closure::texts::is_library, files::Found};

/// Bytes of a file that tell what it is: the ELF header and its program headers, which real linkers put first.
const HEAD_BYTES: u64 = 1024;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// The kernel or ld.so runs it.
    Program,
    /// ld.so loads it.
    Library,
    /// `#!`, or anything else that may be executed.
    Script,
    Data,
}

/// What lies at `found`, a regular file that may be executed or not. A file that lies about itself is a program.
pub(super) fn kind(root: &Root, found: &Found, executable: bool) -> Result<FileKind, FilesError> {
    let head = root.head(found, HEAD_BYTES)?;
    Ok(match elf_kind(&head, &found.path) {
        Some(kind) => kind,
        None if executable => FileKind::Script,
        None => FileKind::Data,
    })
}

fn elf_kind(head: &[u8], path: &Path) -> Option<FileKind> {
    if !head.starts_with(&elf::ELFMAG) {
        return None;
    }
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    // Node's extensions are called so.
    let library = is_library(&name) || name.ends_with(".node");
    let named = if library { FileKind::Library } else { FileKind::Program };
    let half = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let (Some(kind), Some(count)) = (half(16), half(56)) else { return Some(FileKind::Program) };
    let is_64 = head.get(4) == Some(&elf::ELFCLASS64.0);
    // An object file that is neither: what a compiler leaves.
    if kind == elf::ET_REL.0 {
        return Some(FileKind::Data);
    }
    if kind != elf::ET_DYN.0 || !is_64 {
        return Some(FileKind::Program);
    }
    let offset = head.get(32..40).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let offset = offset.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(usize::MAX);
    if offset < HEADER_BYTES {
        return Some(FileKind::Program);
    }
    for at in 0..usize::from(count) {
        let header = offset.saturating_add(at * PROGRAM_HEADER_BYTES);
        let Some(bytes) = head.get(header..header.saturating_add(4)) else { return Some(FileKind::Program) };
        if bytes == elf::PT_INTERP.0.to_le_bytes() {
            return Some(FileKind::Program);
        }
    }
    Some(named)
}
