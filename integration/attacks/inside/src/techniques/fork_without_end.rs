//! A fork bomb, bounded here at 4,500 processes.
//!
//! Source: ATT&CK T1499.001.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1499.001", tries: "start 4,500 processes", attempt, alone: true };

fn attempt() -> Result<String, Stop> {
    let mut children = Vec::new();
    let stopped = loop {
        match sys::sleeper() {
            Err(error) => break Some(error),
            Ok(_) if children.len() >= 4500 => break None,
            Ok(child) => children.push(child),
        }
    };
    let count = children.len();
    for child in children {
        sys::kill_group(child);
    }
    match stopped {
        None => Ok(format!("{count} processes")),
        Some(error) => Err(Stop::at(&format!("fork after {count}"))(error)),
    }
}
