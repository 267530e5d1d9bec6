//! What passes between a launch that lacks signatures and the process that asks a registry for them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Version of [`FetchOutcome`]'s file.
pub const FETCH_VERSION: u32 = 1;

/// Whom to ask for signatures of what: an image that policy admits but for a signature, by a name whose registry stands in
/// a scope of the node's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchFrom {
    /// Index or manifest that the image's name points to.
    pub target: Digest,
    /// Registry and repository, without tag and digest.
    pub repository: String,
    /// Directories with `HOST/hosts.toml`; containerd's own where none is named.
    pub hosts_dirs: Vec<PathBuf>,
    /// Docker's `config.json` with the passwords, if one is named.
    pub docker_config: Option<PathBuf>,
}

impl FetchFrom {
    /// What one fetch is known by: of whom what is asked. The same image in another's repository is another's business.
    #[must_use]
    pub fn id(&self) -> Digest {
        let Self { target, repository, hosts_dirs: _, docker_config: _ } = self;
        Digest::of(format!("{repository}@{target}").as_bytes())
    }
}

/// What a fetcher is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchTask {
    /// Its executable.
    pub program: PathBuf,
    /// `--root`.
    pub root: PathBuf,
    /// Whom to ask.
    pub from: FetchFrom,
}

/// What the last fetch for an image from a repository came to: so that launches ask once between them, and not again for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchOutcome {
    /// [`FETCH_VERSION`].
    pub version: u32,
    /// Of what.
    pub target: Digest,
    /// Who was asked.
    pub repository: String,
    /// When it was over, in seconds since 1970.
    pub at: u64,
    /// How many signatures were found, or why none could be.
    pub found: Result<u32, String>,
}
