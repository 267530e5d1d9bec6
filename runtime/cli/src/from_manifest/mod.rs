//! `bulkhead policy from-manifest FILE`: the lines of policy that the pods of a manifest need, for an operator to read.
//!
//! ```text
//! YAML ─► manifest   what pods the file has: typed, every document of a known kind, or an error
//!      ─► needs      by repository: digests, commands of probes and hooks, directories of the host
//!      ─► render     TOML that the policy's own parser accepts, with what no line can say as comments
//! ```
//! Invariant: nothing is allowed that the manifest does not name. A tag proves nothing, so an image without a digest gets a
//! comment in place of a scope.

mod manifest;
mod needs;
mod render;

use std::{fs::File, io::Read as _, path::Path};

use bulkhead_policy::{Policy, Source};
use serde_json::json;

use crate::answer::{Answer, Trouble};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn from_manifest(path: &Path) -> Result<Answer, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path)
        .map_err(failed("open(2)"))?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed("read(2)"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(broken(path, "it is longer than 4 MiB"));
    }
    let lines = lines(&text).map_err(|why| broken(path, &why))?;
    Ok(Answer::yes(lines.trim_end(), json!({ "toml": lines })))
}

fn broken(path: &Path, why: &str) -> Trouble {
    Trouble::Manifest { path: path.to_owned(), why: why.to_owned() }
}

/// The lines for a manifest's text, or what is wrong with it.
fn lines(text: &str) -> Result<String, String> {
    let pods = manifest::pods(text)?;
    let lines = render::render(&needs::needs(&pods)?);
    // What is printed is pasted into a policy: it must be one.
    let source = Source { path: "policy.toml".into(), text: lines.clone() };
    Policy::parse(&source, None).map_err(|error| format!("no policy comes of it: {error}"))?;
    Ok(lines)
}

#[cfg(test)]
mod tests;
