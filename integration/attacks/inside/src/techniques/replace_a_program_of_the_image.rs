//! Puts a program beside those of the image: the next start runs it too.
//!
//! Source: ATT&CK T1105.

use crate::{Stop, Technique, attempt};
use std::process::Command;

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1105", tries: "write a program to /bin and run it", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/bin/dropped")?;
    attempt::ran(&mut Command::new("/bin/dropped"))
}
