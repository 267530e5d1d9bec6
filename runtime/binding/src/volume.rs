//! An image volume is bound as a root file system is: to a snapshot whose chain is that of the image's layers.
//!
//! ```text
//! record.host_path = STATE/image-volumes/SANDBOX/TARGET[/DIRECTORY]
//!                    └──────── key of the snapshot ────┘ ─► parent ═ top chain ID of TARGET ─► …
//! ```
//! The CRI plugin mounts that snapshot on the host, writable, and has containers bind the place. What lies there later
//! is anybody's guess; so it is not used: of the snapshot's mount the layers are taken, and nothing to write to.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use bulkhead_model::{ContainerId, ContentsFacts, Digest, ImageFacts, ImageVolume, Mount, Refusal, Rule};

use crate::{ObservedVolume, VolumeClaim, chain, one_mount};

/// Directory of the CRI plugin's state in which it mounts image volumes.
///
/// Source: `imageVolumeDir`, containerd internal/cri/server/helpers.go.
const DIRECTORY: &str = "image-volumes";

const FIX: &str =
    "create the pod anew; of an image volume only what containerd's CRI plugin has made itself is mounted";

/// An image that is bound to the layers which a container is to see as a volume. Made by [`crate::bind`] alone, as a
/// part of a [`crate::VerifiedImage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVolume {
    facts: ImageFacts,
    names: BTreeSet<String>,
    claim: VolumeClaim,
    volume: ImageVolume,
    contents: ContentsFacts,
}

impl VerifiedVolume {
    /// What the image is.
    #[must_use]
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// All its names: the strictest verdict over them counts.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// What the pod calls it, and where the container sees it: for people.
    #[must_use]
    pub fn claim(&self) -> &VolumeClaim {
        &self.claim
    }

    /// What to mount.
    #[must_use]
    pub fn volume(&self) -> &ImageVolume {
        &self.volume
    }

    /// What is known of the files of its layers: nothing but their names, where nobody said more.
    #[must_use]
    pub fn contents(&self) -> &ContentsFacts {
        &self.contents
    }

    /// The same volume, with what was found of the files of its layers.
    pub(crate) fn with_contents(self, contents: ContentsFacts) -> Self {
        Self { contents, ..self }
    }
}

/// Where the CRI plugin has put an image volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlace {
    /// Key of its snapshot.
    pub key: String,
    /// What the image's name pointed to when the plugin mounted it.
    pub target: Digest,
    /// What of the image is asked for; empty for all.
    pub directory: PathBuf,
}

/// Takes the place of an image volume apart; none where it is not one of a pod `sandbox`.
///
/// Source: `getImageVolumeHostPath`, containerd internal/cri/server/helpers.go: `STATE/image-volumes/SANDBOX/HEX`.
fn volume_place(path: &Path, sandbox: &ContainerId) -> Option<VolumePlace> {
    let names: Vec<Component<'_>> = path.components().collect();
    if names.first() != Some(&Component::RootDir)
        || !names.iter().skip(1).all(|name| matches!(name, Component::Normal(_)))
    {
        return None;
    }
    let text = |at: usize| names.get(at).and_then(|name| name.as_os_str().to_str());
    let at =
        (1..names.len()).find(|at| text(*at) == Some(DIRECTORY) && text(at + 1) == Some(sandbox.as_str()))?;
    let target = format!("sha256:{}", text(at + 2)?).parse().ok()?;
    let key: PathBuf = names.get(..at + 3)?.iter().collect();
    let directory = names.get(at + 3..)?.iter().collect();
    Some(VolumePlace { key: key.to_str()?.to_owned(), target, directory })
}

impl VolumeClaim {
    /// Where the plugin has put it.
    ///
    /// # Errors
    /// The refusal of one that is not among those of the pod `sandbox`.
    pub fn place(&self, sandbox: &ContainerId) -> Result<VolumePlace, Refusal> {
        self.host_path.as_deref().and_then(|path| volume_place(path, sandbox)).ok_or_else(|| {
            refuse(self, "the CRI record does not say which snapshot of this pod's it is".to_owned())
        })
    }
}

/// Binds one.
pub(crate) fn bind(claim: &VolumeClaim, observed: &ObservedVolume) -> Result<VerifiedVolume, Refusal> {
    let ObservedVolume { sandbox, facts, names, chain, mounts, source } = observed;
    let VolumePlace { key, target, directory } = claim.place(sandbox)?;
    facts.check(&target).map_err(|error| refuse(claim, error.to_string()))?;
    // containerd resolves links on the way to its own directories, and in the image; the tail is the plugin's.
    let shown = source.as_deref().and_then(|source| volume_place(source, sandbox));
    let source = match (source, shown) {
        (Some(source), Some(shown)) if shown.target == target => source.clone(),
        _ => {
            let why = "config.json mounts something else there than the CRI record says".to_owned();
            return Err(refuse(claim, why));
        }
    };
    chain::check(facts, &claim.name, &key, chain)?;
    let layers = one_mount(mounts).and_then(|mount| read_only(&mount)).map_err(|why| refuse(claim, why))?;
    let mut names = names.clone();
    names.remove(&facts.config.to_string());
    Ok(VerifiedVolume {
        facts: facts.clone(),
        names,
        claim: claim.clone(),
        volume: ImageVolume { source, layers, directory },
        contents: ContentsFacts::Chain,
    })
}

/// The layers of a snapshot's mount without what can be written to.
fn read_only(mount: &Mount) -> Result<Mount, String> {
    let Mount { kind, source, target, options } = mount;
    if target != Path::new("") {
        return Err(format!("its snapshot is a mount on {target:?}; only one on the root is known"));
    }
    let strange =
        |option: &String| format!("its snapshot is mounted with {option:?}, which is not known here");
    let mut kept = Vec::with_capacity(options.len());
    match kind.as_str() {
        "overlay" => {
            for option in options {
                match option.split_once('=').map_or(option.as_str(), |(key, _)| key) {
                    "lowerdir" | "index" | "userxattr" | "metacopy" | "redirect_dir" | "xino"
                    | "nfs_export" => {
                        kept.push(option.clone());
                    }
                    "upperdir" | "workdir" | "volatile" | "fsync" | "rw" | "ro" => {}
                    _ => return Err(strange(option)),
                }
            }
            if kept.iter().filter(|option| option.starts_with("lowerdir=")).count() != 1 {
                return Err("its snapshot's overlay does not name its layers once".to_owned());
            }
        }
        "bind" => {
            if let Some(option) =
                options.iter().find(|o| !matches!(o.as_str(), "bind" | "rbind" | "ro" | "rw"))
            {
                return Err(strange(option));
            }
            kept.push("bind".to_owned());
        }
        kind => {
            return Err(format!("its snapshot is a mount of type {kind:?}; only overlay and bind are known"));
        }
    }
    kept.push("ro".to_owned());
    Ok(Mount { kind: kind.clone(), source: source.clone(), target: PathBuf::new(), options: kept })
}

fn refuse(claim: &VolumeClaim, why: String) -> Refusal {
    let VolumeClaim { name, destination, host_path: _ } = claim;
    Refusal::new(Rule::Mounts, format!("image {name} as a volume on {}", destination.display()), why, FIX)
}

#[cfg(test)]
mod tests;
