//! The same in a volume, which survives the container.
//!
//! Source: ATT&CK T1105.

use crate::{Stop, Technique, attempt};
use std::process::Command;

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1105",
    tries: "write a program to a volume and run it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/data/dropped")?;
    attempt::ran(&mut Command::new("/data/dropped"))
}
