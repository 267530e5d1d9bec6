//! The keys and trusted roots that a policy names, read with the same suspicion as the policy itself.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bulkhead_model::{Layout, PublicKey, RootFile, SIGNERS_MAX, TrustMaterial};
use bulkhead_policy::{NamedFile, NamedKind, Policy, PolicyError, Problem};

use crate::trusted::read_trusted_with_time;

/// How far ahead a file's time may be where two clocks differ: the node's, and that of who wrote the file.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads what `policy` names, from the directory of the node's policy on.
///
/// # Errors
/// Every file that is missing, is not root's alone, or is not what it should be, with the line that names it.
pub fn load_material(layout: &Layout, dir: &Path, policy: &Policy) -> Result<TrustMaterial, PolicyError> {
    let mut material = TrustMaterial::default();
    let mut problems = Vec::new();
    for file in policy.named_files() {
        if let Err((what, fix)) = read(layout, dir, &file, &mut material) {
            let NamedFile { kind: _, name: _, policy, line, column } = file;
            problems.push(Problem { path: policy, line, column, what, fix });
        }
    }
    PolicyError::of(problems).map_or(Ok(material), Err)
}

fn read(
    layout: &Layout,
    dir: &Path,
    file: &NamedFile,
    material: &mut TrustMaterial,
) -> Result<(), (String, String)> {
    let NamedFile { kind, name, .. } = file;
    let known = match kind {
        NamedKind::Key => material.keys.contains_key(name),
        NamedKind::Root => material.roots.contains_key(name),
    };
    if known {
        return Ok(());
    }
    if material.keys.len() + material.roots.len() >= SIGNERS_MAX {
        let what = format!("{name} is one key or root more than the {SIGNERS_MAX} that a node may have");
        return Err((what, "remove those that nobody signs with any more".to_owned()));
    }
    let path = dir.join(name);
    let (text, written) = read_trusted_with_time(layout, &path).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        (format!("{error}{cause}"), error.fix())
    })?;
    match kind {
        NamedKind::Key => {
            let key = PublicKey::from_pem(&text.text).map_err(|error| {
                let fix = "put a public key in PEM there, as `cosign public-key` or `openssl pkey -pubout` write it";
                (format!("{}: {error}", path.display()), fix.to_owned())
            })?;
            material.keys.insert(name.clone(), key);
        }
        NamedKind::Root => {
            let age = age(written, SystemTime::now());
            material.roots.insert(name.clone(), RootFile::new(text.text.into_bytes(), age));
        }
    }
    Ok(())
}

/// How long ago a file was written. One of a later day than today says nothing of its age, and would never be too old:
/// it is older than any limit.
fn age(written: SystemTime, now: SystemTime) -> Duration {
    match now.duration_since(written) {
        Ok(age) => age,
        Err(ahead) if ahead.duration() <= AHEAD_MAX => Duration::ZERO,
        Err(_) => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_later_day_is_too_old_and_one_of_a_clock_that_is_ahead_is_new() {
        let now = SystemTime::UNIX_EPOCH + 100 * AHEAD_MAX;
        assert_eq!(age(now - AHEAD_MAX, now), AHEAD_MAX);
        assert_eq!(age(now + AHEAD_MAX, now), Duration::ZERO);
        assert_eq!(age(now + AHEAD_MAX + Duration::from_secs(1), now), Duration::MAX);
    }
}
