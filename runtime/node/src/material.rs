//! The keys and trusted roots that a policy names, read with the same suspicion as the policy itself.

use std::{path::Path, time::SystemTime};

use bulkhead_model::{Layout, PublicKey, RootFile, SIGNERS_MAX, TrustMaterial};
use bulkhead_policy::{NamedFile, NamedKind, Policy, PolicyError, Problem};

use crate::trusted::read_trusted_with_time;

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
            // A file from the future is as young as can be; the clock was set back, or the file touched.
            let age = SystemTime::now().duration_since(written).unwrap_or_default();
            material.roots.insert(name.clone(), RootFile::new(text.text.into_bytes(), age));
        }
    }
    Ok(())
}
