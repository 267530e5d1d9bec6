//! A verified image, and the one place that makes it.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::{ContentsFacts, Digest, ImageFacts, Mount, Refusal, Rule, SignatureFacts};

use crate::{
    CriRecord, Observed, ObservedVolume, VerifiedVolume, VolumeClaim, chain, check_claim, rootfs, volume,
};

/// An image that is bound to the root file system which a request mounts.
///
/// Made by [`bind`] alone: whoever holds one knows that all its checks passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedImage {
    facts: ImageFacts,
    claimed_name: String,
    names: BTreeSet<String>,
    cri: CriRecord,
    rootfs: Mount,
    volumes: Vec<VerifiedVolume>,
    contents: ContentsFacts,
    signatures: BTreeMap<Digest, SignatureFacts>,
}

impl VerifiedImage {
    /// What the image is.
    #[must_use]
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// The name in the container's record. In CRI any reference of the image.
    #[must_use]
    pub fn claimed_name(&self) -> &str {
        &self.claimed_name
    }

    /// All names of this image: the claimed one, and the others of the namespace that were found to point to it. The
    /// strictest verdict over all of them counts. Empty where the CRI plugin knows the image by its config digest
    /// alone: nothing admits it then.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// What the pod calls its image: a hint of the pod's author, which may make a verdict stricter and nothing else.
    /// Where containerd agrees it is among [`VerifiedImage::names`] too.
    #[must_use]
    pub fn requested_name(&self) -> Option<&str> {
        match &self.cri {
            CriRecord::None | CriRecord::Sandbox => None,
            CriRecord::Container(record) => record.requested_name.as_deref(),
        }
    }

    /// What to mount as the root: what the request mounts, with layers that containerd has mounted for it as they are in
    /// the snapshots themselves.
    #[must_use]
    pub fn rootfs(&self) -> &[Mount] {
        std::slice::from_ref(&self.rootfs)
    }

    /// What is known of the files of its layers: nothing but their names, where nobody said more.
    #[must_use]
    pub fn contents(&self) -> &ContentsFacts {
        &self.contents
    }

    /// The same image, with what was found of the files of its layers.
    #[must_use]
    pub fn with_contents(self, contents: ContentsFacts) -> Self {
        Self { contents, ..self }
    }

    /// The same image, with what was found of the files of its volumes, in their order. What nobody says anything about
    /// has the chain alone.
    #[must_use]
    pub fn with_volume_contents(self, contents: Vec<ContentsFacts>) -> Self {
        let found = contents.into_iter().chain(std::iter::repeat(ContentsFacts::Chain));
        let volumes = self.volumes.into_iter().zip(found);
        Self { volumes: volumes.map(|(volume, found)| volume.with_contents(found)).collect(), ..self }
    }

    /// Who signed the image `target`, this one or one of its volumes'; none where nobody looked.
    #[must_use]
    pub fn signatures(&self, target: &Digest) -> Option<&SignatureFacts> {
        self.signatures.get(target)
    }

    /// The same image, with what was found of its signatures and of those of its volumes, by target.
    #[must_use]
    pub fn with_signatures(self, signatures: BTreeMap<Digest, SignatureFacts>) -> Self {
        Self { signatures, ..self }
    }

    /// The images that the container sees as volumes.
    #[must_use]
    pub fn volumes(&self) -> &[VerifiedVolume] {
        &self.volumes
    }

    /// Whether the CRI plugin made the container: only then its annotations may name the tenant.
    #[must_use]
    pub fn in_cri(&self) -> bool {
        self.cri != CriRecord::None
    }
}

/// Binds facts to the container that containerd described and to the mounts of the request.
///
/// # Errors
/// The refusal that names what does not belong together.
pub fn bind(facts: &ImageFacts, observed: &Observed, rootfs: &[Mount]) -> Result<VerifiedImage, Refusal> {
    let Observed { claim, target, names, chain, mounts, mount_label, volumes } = observed;
    check_claim(claim)?;
    let image = &claim.image_name;
    facts.check(target).map_err(|error| {
        Refusal::new(
            Rule::ImageContents,
            format!("image {image} ({target}) cannot be verified"),
            error.to_string(),
            "delete the verdict of this digest below /var/lib/bulkhead/verdicts and try again",
        )
    })?;
    let mut names = names.clone();
    names.insert(image.clone());
    let claimed_volumes = match &claim.cri {
        CriRecord::None | CriRecord::Sandbox => &[],
        CriRecord::Container(record) => {
            if record.config != facts.config {
                return Err(Refusal::new(
                    Rule::ImageContents,
                    format!("image {image} is not the one that the pod's container was created from"),
                    format!(
                        "the CRI record names config {}, {target} has {}: the name was moved after create",
                        record.config, facts.config
                    ),
                    "create the container anew, so that name, record and snapshot agree",
                ));
            }
            // The plugin's own reference to every image, by config digest: an id, not a name that scopes speak of.
            names.remove(&facts.config.to_string());
            record.image_volumes.as_slice()
        }
    };
    let rootfs = rootfs::check(image, mounts, mount_label.as_deref(), rootfs)?;
    chain::check(facts, image, &claim.snapshot_key, chain)?;
    Ok(VerifiedImage {
        facts: facts.clone(),
        claimed_name: image.clone(),
        names,
        cri: claim.cri.clone(),
        rootfs,
        volumes: bind_volumes(claimed_volumes, volumes)?,
        contents: ContentsFacts::Chain,
        signatures: BTreeMap::new(),
    })
}

/// All that the record names, and no other.
fn bind_volumes(claims: &[VolumeClaim], observed: &[ObservedVolume]) -> Result<Vec<VerifiedVolume>, Refusal> {
    if claims.len() != observed.len() {
        return Err(Refusal::new(
            Rule::Mounts,
            format!("{} images as volumes of the container", claims.len()),
            format!("{} of them were looked at", observed.len()),
            "create the pod anew",
        ));
    }
    claims.iter().zip(observed).map(|(claim, observed)| volume::bind(claim, observed)).collect()
}

#[cfg(test)]
mod tests;
