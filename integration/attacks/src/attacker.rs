//! Reads the attacker and what it prints.

use std::{fs, path::Path};

use bulkhead_integration::{HarnessError, Result};
use serde::de::DeserializeOwned;

/// The attacker's bytes.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(HarnessError::at("read", &path))
}

/// The JSON lines of what it printed.
pub(crate) fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let wrong = |line: &str| HarnessError::Format { what: "a line of the attacker", found: line.to_owned() };
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).map_err(|_| wrong(line))).collect()
}
