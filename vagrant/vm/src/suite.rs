//! Runs the tests in every machine and says what came of each.

use std::process::ExitCode;

use bulkhead_integration::HarnessError;

pub(crate) fn run(_versions: &[&str]) -> Result<ExitCode, HarnessError> {
    Ok(ExitCode::FAILURE)
}
