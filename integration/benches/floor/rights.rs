//! A Plan's Landlock rules in the kernel's numbers, directories taken apart as `bulkhead_confine` does it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::HarnessError;
use serde_json::Value;

use crate::wrong;

// Source: include/uapi/linux/landlock.h.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_SYM, REFER.
const CHANGE: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13;
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// All file rights of an ABI.
fn handled(abi: u8) -> u64 {
    let bits = match abi {
        0 | 1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << bits) - 1
}

fn rights(access: &str) -> Result<u64, HarnessError> {
    let read = READ_FILE | READ_DIR;
    Ok(match access {
        "read" => read,
        "read-execute" => read | EXECUTE,
        "read-write" => read | WRITE_FILE | TRUNCATE | CHANGE,
        "read-write-execute" => read | WRITE_FILE | TRUNCATE | CHANGE | EXECUTE,
        "device" => read | WRITE_FILE | TRUNCATE | IOCTL_DEV,
        other => return Err(wrong("an access of Landlock", other)),
    })
}

/// Lines of the floor's script: the ruleset, its rules, the restriction.
pub(super) fn lines(
    landlock: &Value,
    layers: &[PathBuf],
    mounts: &[String],
) -> Result<Vec<String>, HarnessError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let handled = handled(bulkhead_confine::landlock_abi());
    // Bit 1 of the second word: LANDLOCK_ACCESS_NET_CONNECT_TCP.
    let network = if landlock["tcp_connect"] == "any" { 0 } else { 2 };
    let mut lines = vec![format!("ruleset\t{handled:#x}\t{network:#x}")];
    let mut rule = |rights: u64, path: &str| lines.push(format!("rule\t{:#x}\t{path}", rights & handled));
    // The bench's policy tells no files of the image one by one.
    let image = rights(&text(&landlock["image"]["whole"]))?;
    let canary = text(&landlock["canary"]);
    let mut apart = Vec::new();
    for row in landlock["paths"].as_array().into_iter().flatten() {
        let (path, given) = (text(&row["path"]), rights(&text(&row["access"]))?);
        let directory = mounts.contains(&path) && !path.starts_with(&canary);
        rule(if directory { given } else { given & OF_FILES }, &path);
        if directory && given & image != image {
            apart.push(path);
        }
    }
    rule(READ_DIR, "/");
    let mut open = vec![PathBuf::from("/")];
    while let Some(directory) = open.pop() {
        for (child, is_directory) in children(layers, &directory) {
            let path = child.display().to_string();
            if mounts.contains(&path) || path == canary {
                continue;
            }
            let mounted_below = apart.iter().any(|mount| Path::new(mount).starts_with(&child));
            match is_directory {
                true if mounted_below => {
                    rule(READ_DIR, &path);
                    open.push(child);
                }
                true => rule(image, &path),
                false => rule(image & OF_FILES, &path),
            }
        }
    }
    lines.push("restrict".to_owned());
    Ok(lines)
}

/// Directories and regular files of the image in one directory, and whether each is a directory.
fn children(layers: &[PathBuf], directory: &Path) -> BTreeSet<(PathBuf, bool)> {
    let inside = directory.strip_prefix("/").unwrap_or(directory);
    let entries =
        layers.iter().flat_map(|layer| fs::read_dir(layer.join(inside)).into_iter().flatten().flatten());
    entries
        .filter_map(|entry| {
            let kind = entry.file_type().ok()?;
            (kind.is_dir() || kind.is_file()).then(|| (directory.join(entry.file_name()), kind.is_dir()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_directory_with_a_writable_mount_below_is_taken_apart_and_others_are_not() {
        let dir = std::env::temp_dir().join(format!("bulkhead-rights-{}", std::process::id()));
        for path in ["bin", "var/tmp", "var/lib", "proc"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        let landlock = json!({
            "image": { "whole": "read-execute" }, "canary": "/dev/canary", "tcp_connect": "any",
            "paths": [{ "path": "/proc", "access": "read" }, { "path": "/var/tmp", "access": "read-write" }],
        });
        let mounts = ["/proc", "/var/tmp"].map(str::to_owned);
        let found = lines(&landlock, std::slice::from_ref(&dir), &mounts).unwrap().join("\n");
        fs::remove_dir_all(&dir).unwrap();
        for rule in ["rule\t0xd\t/bin", "rule\t0x8\t/var", "rule\t0xd\t/var/lib", "rule\t0x8\t/"] {
            assert!(found.lines().any(|line| line == rule), "{rule} in\n{found}");
        }
        assert_eq!(found.matches("\t/var/tmp").count(), 1);
        assert_eq!(found.matches("\t/proc").count(), 1);
    }
}
