//! The same in /run.
//!
//! Source: ATT&CK T1105.

use crate::{Stop, Technique, attempt};
use std::process::Command;

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1105", tries: "write a program to /run and run it", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/run/dropped")?;
    attempt::ran(&mut Command::new("/run/dropped"))
}
