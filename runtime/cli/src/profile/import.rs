//! `bulkhead profile import`: a profile of another runtime as one of ours, and what the baseline takes of it.

use std::{fs::File, io::Read as _, path::Path};

use bulkhead_generate::{ImportError, Imported, Profile};
use bulkhead_model::{Refusal, Rule};
use serde_json::json;

use super::{make, shown};
use crate::answer::{Answer, Trouble, full};

/// Longest file that is read, in bytes: one more than is taken.
const FILE_BYTES_MAX: u64 = (4 << 20) + 1;

pub(super) fn import(path: &Path, output: Option<&Path>) -> Result<Answer, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed("open(2)"))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed("read(2)"))?;
    let Imported { profile, taken, narrowed } = match Profile::import(&text, path) {
        Ok(imported) => imported,
        Err(error @ (ImportError::Form(_) | ImportError::TooLong)) => {
            return Err(Trouble::Profile { path: path.to_owned(), why: full(&error) });
        }
        Err(error) => return Ok(refusal(path, &error).into()),
    };
    if let Some(output) = output {
        make::keep(output, &profile)?;
    }
    let mut lines = vec![shown(&profile)];
    if !taken.is_empty() {
        lines.push(format!("taken away  {} (the baseline denies them)", taken.join(" ")));
    }
    if !narrowed.is_empty() {
        lines.push(format!("narrowed    {} (to the arguments that the baseline allows)", narrowed.join(" ")));
    }
    Ok(Answer::yes(lines.join("\n"), json!({ "profile": profile, "taken": taken, "narrowed": narrowed })))
}

fn refusal(path: &Path, error: &ImportError) -> Refusal {
    Refusal::new(
        Rule::Seccomp,
        format!("{} cannot be kept exactly as a profile", path.display()),
        error.to_string(),
        "write that rule as calls that are allowed whole, or give the file to the pod itself: a request's own section is enforced as it is",
    )
}
