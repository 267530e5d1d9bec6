//! Where Bulkhead keeps its files. `--root DIR` or `BULKHEAD_ROOT` moves everything below `DIR`.

use std::path::{Path, PathBuf};

use crate::{ContainerId, Digest, Namespace, SignatureFormat};

/// The environment variable that moves every path below a directory.
pub const ROOT_VARIABLE: &str = "BULKHEAD_ROOT";

/// Paths of one node. `/` outside of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Everything below `root`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that everything is below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `/etc/bulkhead`: policy and keys.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.root.join("etc/bulkhead")
    }

    /// The node's policy.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.config_dir().join("policy.toml")
    }

    /// The file that narrows the node's policy for one tenant.
    #[must_use]
    pub fn tenant_file(&self, tenant: &Namespace) -> PathBuf {
        self.config_dir().join("tenants").join(format!("{tenant}.toml"))
    }

    /// What judges found.
    #[must_use]
    pub fn verdicts_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/verdicts")
    }

    /// What the judge found, one file per target digest.
    #[must_use]
    pub fn facts_file(&self, target: &Digest) -> PathBuf {
        self.verdicts_dir().join(format!("{}.json", target.hex()))
    }

    /// `/var/lib/bulkhead/trust`: signatures from outside, untrusted until a judge verified them.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/trust")
    }

    /// The signature files about `subject`, an index or a manifest.
    #[must_use]
    pub fn subject_dir(&self, subject: &Digest) -> PathBuf {
        self.trust_dir().join("sha256").join(subject.hex())
    }

    /// What the last fetch of that id ([`crate::FetchFrom::id`]) came to.
    #[must_use]
    pub fn fetched_file(&self, id: &Digest) -> PathBuf {
        self.trust_dir().join("fetched").join(format!("{}.json", id.hex()))
    }

    /// The signature file with these bytes about `subject`.
    #[must_use]
    pub fn signature_file(&self, subject: &Digest, blob: &Digest, format: SignatureFormat) -> PathBuf {
        self.subject_dir(subject).join(format!("{}{}", blob.hex(), format.suffix()))
    }

    /// What judges found in the signatures of an image, one file per set of signatures, keys and roots.
    #[must_use]
    pub fn signature_facts_dir(&self, target: &Digest) -> PathBuf {
        self.verdicts_dir().join("signatures").join(target.hex())
    }

    /// The record of verdicts and what will belong to it.
    #[must_use]
    pub fn audit_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/audit")
    }

    /// Every verdict, a JSON line each.
    #[must_use]
    pub fn verdict_record(&self) -> PathBuf {
        self.audit_dir().join("verdicts.jsonl")
    }

    /// What layers looked like when they were compared with their tars.
    #[must_use]
    pub fn receipts_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/receipts")
    }

    /// The receipt of the layer that a chain ID ends in, where a snapshotter keeps it in `directory`.
    #[must_use]
    pub fn receipt_file(&self, chain: &Digest, directory: &Path) -> PathBuf {
        let place = Digest::of(directory.as_os_str().as_encoded_bytes());
        self.receipts_dir().join(chain.hex()).join(format!("{}.json", place.hex()))
    }

    /// Where the locks of judges at work are.
    #[must_use]
    pub fn judge_dir(&self) -> PathBuf {
        self.root.join("run/bulkhead/judge")
    }

    /// Locks of judges at work, one per digest.
    #[must_use]
    pub fn judge_lock(&self, target: &Digest) -> PathBuf {
        self.judge_dir().join(format!("{}.lock", target.hex()))
    }

    /// Where the analysis of ELF files is kept, by the hash of their content.
    #[must_use]
    pub fn analysis_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/profiles/analysis")
    }

    /// `/var/lib/bulkhead/profiles`: profiles of images, and what they are made from.
    #[must_use]
    pub fn profiles_dir(&self) -> PathBuf {
        self.root.join("var/lib/bulkhead/profiles")
    }

    /// The profile that a question is answered with: the names of its calls.
    #[must_use]
    pub fn profile_file(&self, key: &Digest) -> PathBuf {
        self.profiles_dir().join("enforced").join(format!("{}.json", key.hex()))
    }

    /// The same with its reasons, as `bulkhead profile show` reads it.
    #[must_use]
    pub fn profile_reasons_file(&self, key: &Digest) -> PathBuf {
        self.profiles_dir().join("reasons").join(format!("{}.json", key.hex()))
    }

    /// Denied calls of the containers of a namespace, a file each.
    #[must_use]
    pub fn denied_dir(&self, namespace: &Namespace) -> PathBuf {
        self.run_dir().join("denied").join(namespace.as_str())
    }

    /// What a container was denied.
    #[must_use]
    pub fn denied_file(&self, namespace: &Namespace, id: &ContainerId) -> PathBuf {
        self.denied_dir(namespace).join(format!("{id}.json"))
    }

    /// `/run/bulkhead`: state that a reboot may lose.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run/bulkhead")
    }

    /// State of one container: derived spec and libcontainer's own.
    #[must_use]
    pub fn task_dir(&self, namespace: &Namespace, id: &ContainerId) -> PathBuf {
        self.run_dir().join("tasks").join(namespace.as_str()).join(id.as_str())
    }

    /// Ranges of ids that pods have.
    #[must_use]
    pub fn id_ranges_dir(&self) -> PathBuf {
        self.run_dir().join("ids")
    }

    /// Compiled seccomp programs, named by the hash of what they were compiled from.
    #[must_use]
    pub fn seccomp_cache_dir(&self) -> PathBuf {
        self.run_dir().join("seccomp")
    }
}
