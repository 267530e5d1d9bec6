//! Refusals that need no facts: a container without an image, and images that are none.

use bulkhead_model::{ContainerKind, Digest, Refusal, Rule, Tenant};

use crate::{Claim, CriRecord};

/// Most image volumes of one container: for each of them containerd and perhaps a judge is asked.
const IMAGE_VOLUMES_MAX: usize = 64;

const PULL: &str = "pull the image again and create the container anew";

/// Refuses a container whose record names no image or no snapshot, or more image volumes than are looked at.
///
/// # Errors
/// The refusal.
pub fn check_claim(claim: &Claim) -> Result<(), Refusal> {
    let Claim { image_name, snapshotter, snapshot_key, cri } = claim;
    if image_name.is_empty() {
        return Err(Refusal::new(
            Rule::ImageMissing,
            "container has no image",
            "containerd's record names none (ctr run --rootfs and the like), so there is no digest to judge",
            "build and import an image of this root file system, and run that",
        ));
    }
    if snapshotter.is_empty() || snapshot_key.is_empty() {
        return Err(Refusal::new(
            Rule::Rootfs,
            format!("container of image {image_name} has no snapshot"),
            "containerd's record names no snapshotter and key, so its root is not bound to the image",
            "create the container with a snapshot of its image (not with --rootfs)",
        ));
    }
    match cri {
        CriRecord::Container(record) if record.image_volumes.len() > IMAGE_VOLUMES_MAX => Err(Refusal::new(
            Rule::Mounts,
            format!("{} image volumes of one container", record.image_volumes.len()),
            format!("at most {IMAGE_VOLUMES_MAX} are accepted"),
            "use fewer volumes",
        )),
        CriRecord::None | CriRecord::Sandbox | CriRecord::Container(_) => Ok(()),
    }
}

/// Refuses a request whose annotations speak of a pod that the CRI plugin's record does not know, or of another part in
/// it: anybody who makes containers can write annotations, and with them another tenant's name.
///
/// # Errors
/// The refusal.
pub fn check_kind(claim: &Claim, kind: &ContainerKind, tenant: &Tenant) -> Result<(), Refusal> {
    let said = match (kind, &claim.cri) {
        (ContainerKind::Plain, CriRecord::None) if tenant.namespace == tenant.containerd_namespace => {
            return Ok(());
        }
        (ContainerKind::Sandbox, CriRecord::Sandbox)
        | (ContainerKind::InSandbox { .. }, CriRecord::Container(_)) => return Ok(()),
        (_, CriRecord::None) => "no pod's",
        (_, CriRecord::Sandbox) => "a pod's own",
        (_, CriRecord::Container(_)) => "one in a pod",
    };
    let asked = match kind {
        ContainerKind::Plain => format!("a plain container of namespace {}", tenant.namespace),
        ContainerKind::Sandbox => format!("a pod of namespace {}", tenant.namespace),
        ContainerKind::InSandbox { sandbox } => {
            format!("a container of pod {sandbox}, namespace {}", tenant.namespace)
        }
    };
    Err(Refusal::new(
        Rule::Spec,
        format!("io.kubernetes.cri annotations that make it {asked}"),
        format!("containerd's record of the container is {said}: somebody else wrote the annotations"),
        "run pods through the kubelet, and leave io.kubernetes.cri annotations to containerd",
    ))
}

/// The refusal of a container whose image containerd does not know (any more).
#[must_use]
pub fn image_unknown(name: &str) -> Refusal {
    Refusal::new(
        Rule::ImageMissing,
        format!("image {name} is not known to containerd"),
        "the container's record names it, but no image of that name is in this namespace",
        PULL,
    )
}

/// The refusal of an image that the judge found to be broken.
#[must_use]
pub fn image_broken(name: &str, target: &Digest, flaw: &str) -> Refusal {
    Refusal::new(
        Rule::ImageContents,
        format!("image {name} ({target}) cannot be verified"),
        flaw,
        "build a well-formed linux/amd64 image, pull it again, and create the container anew",
    )
}
