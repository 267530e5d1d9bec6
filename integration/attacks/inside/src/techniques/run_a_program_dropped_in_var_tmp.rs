//! The same in /var/tmp.
//!
//! Source: ATT&CK T1105.

use crate::{Stop, Technique, attempt};
use std::process::Command;

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1105",
    tries: "write a program to /var/tmp and run it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/var/tmp/dropped")?;
    attempt::ran(&mut Command::new("/var/tmp/dropped"))
}
