//! `bulkhead_confine`, with its errors as text: they cross a socket next.

use bulkhead_model::ConfineSpec;

/// A confinement of which everything that can fail is done.
pub(crate) struct Prepared;

impl Prepared {
    pub(crate) fn new(_: &ConfineSpec) -> Result<Self, String> {
        Ok(Self)
    }

    pub(crate) fn enforce(self) -> Result<(), String> {
        Ok(())
    }
}

/// What the server reads of the process, against what was planned.
pub(crate) fn check_status(_: &str, _: &ConfineSpec) -> Result<(), String> {
    Ok(())
}
