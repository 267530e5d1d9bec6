//! known.toml: what Bulkhead does not stop, and what has nothing to bite here.

use std::{collections::BTreeMap, fs};

use bulkhead_integration::{HarnessError, Result, workspace};
use serde::Deserialize;

/// The file, by technique.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    /// What Bulkhead's defaults do not stop: why.
    pub(crate) known: BTreeMap<String, String>,
    /// What bites in the machines of vagrant/vm: by what those kernels have.
    pub(crate) machines: BTreeMap<String, String>,
    /// What bites on no kernel that we have: why.
    pub(crate) nowhere: BTreeMap<String, String>,
}

impl Known {
    /// Reads it. Without it there is no table: every verdict leans on it.
    pub(crate) fn read() -> Result<Self> {
        let path = workspace().join("integration/attacks/known.toml");
        let text = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
        toml::from_str(&text)
            .map_err(|error| HarnessError::Format { what: "known.toml", found: error.to_string() })
    }
}
