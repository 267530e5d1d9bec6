//! The parsers, each with what must hold of its answers.

pub(crate) mod answers;
pub(crate) mod gather;
pub(crate) mod image;
pub(crate) mod layer;
pub(crate) mod policy;
pub(crate) mod signature;

use std::{fs, io, path::PathBuf};

/// What stands between lines `---`.
fn divided(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut part = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line == b"---\n" {
            parts.push(std::mem::take(&mut part));
        } else {
            part.extend_from_slice(line);
        }
    }
    parts.push(part);
    parts
}

/// A directory for what a parser reads by path, the same for all runs.
fn scratch() -> io::Result<PathBuf> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tmp/fuzz"));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
