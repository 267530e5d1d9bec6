//! The files that policy names, and what was read from them.

use std::path::{Path, PathBuf};

use bulkhead_model::TrustMaterial;

use crate::{Policy, parse::File, rule::FileName};

/// What a file that policy names holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedKind {
    /// A public key in PEM.
    Key,
    /// A `trusted_root.json`.
    Root,
}

/// A file that policy names, and where it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile {
    /// What it holds.
    pub kind: NamedKind,
    /// Its path from the directory of the node's policy on.
    pub name: String,
    /// The policy file.
    pub policy: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl Policy {
    /// The files to read before this policy can tell one signer from another. Until [`Policy::with_material`] no rule
    /// is passed.
    #[must_use]
    pub fn named_files(&self) -> Vec<NamedFile> {
        let files = [Some(&self.node), self.tenant.as_ref()];
        files.into_iter().flatten().flat_map(named_by).collect()
    }

    /// The same policy, with what was read of its files.
    #[must_use]
    pub fn with_material(mut self, material: TrustMaterial) -> Self {
        self.material = material;
        self
    }

    /// With what signatures are verified under this policy.
    #[must_use]
    pub fn material(&self) -> &TrustMaterial {
        &self.material
    }
}

fn named_by(file: &File) -> Vec<NamedFile> {
    let named = |kind: NamedKind, path: &Path| {
        let policy = path.to_owned();
        move |file: &FileName| {
            let FileName { name, line, column } = file.clone();
            NamedFile { kind, name, policy: policy.clone(), line, column }
        }
    };
    let keys = file.rules.values().flat_map(|rule| &rule.keys).map(named(NamedKind::Key, &file.path));
    let roots = file.trust.roots.iter().map(named(NamedKind::Root, &file.path));
    keys.chain(roots).collect()
}
