//! A program that the image does not hold, written to /tmp and run: how nearly every intrusion goes on.
//!
//! Source: MITRE ATT&CK T1105 (ingress tool transfer).

use std::process::Command;

use crate::{Stop, Technique, attempt};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1105", tries: "write a program to /tmp and run it", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/tmp/dropped")?;
    attempt::ran(&mut Command::new("/tmp/dropped"))
}
