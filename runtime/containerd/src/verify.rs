//! From a request to a verified image: the one way through.

use std::collections::BTreeSet;

use bulkhead_binding::{
    Claim, CriRecord, Observed, ObservedVolume, VerifiedImage, VolumeClaim, bind, check_claim, check_kind,
    image_broken, image_unknown,
};
use bulkhead_model::{ContainerId, ContainerKind, CreateRequest, Digest, ImageFacts, Layout, Refusal, Rule};

use crate::{
    Containerd, Failure, Judge, ReadBlob, VerifyError, cri,
    judge::{Opinion, Verdict},
    store,
};

/// Verifies the image and root file system of a task that is to be created. Nothing need be mounted yet.
///
/// # Errors
/// The refusal, or what failed; never an image that is not verified.
pub async fn verify(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    request: &CreateRequest,
) -> Result<VerifiedImage, VerifyError> {
    let claim = containerd.claim(&request.id).await?;
    check_claim(&claim)?;
    check_kind(&claim, &request.kind, &request.tenant)?;
    let (snapshotter, key) = (&claim.snapshotter, &claim.snapshot_key);
    let (target, asked, own, mounts) = tokio::try_join!(
        containerd.claimed_target(&claim),
        requested_target(containerd, &claim),
        containerd.snapshot(snapshotter, key),
        containerd.mounts(snapshotter, key),
    )?;
    let target = target.ok_or_else(|| image_unknown(&claim.image_name))?;
    let (mut names, (facts, chain)) =
        tokio::try_join!(async { containerd.names(&target).await.map_err(VerifyError::from) }, async {
            let facts = facts(containerd, layout, judge, &claim.image_name, &target).await?;
            let chain = match own {
                None => Vec::new(),
                Some(own) => containerd.chain(snapshotter, own, &facts.diff_ids).await?,
            };
            Ok((facts, chain))
        },)?;
    if let Some(asked) = asked.filter(|asked| *asked != target) {
        names.extend(names_of_same(containerd, layout, judge, &asked, &facts).await?);
    }
    let mount_label = request.spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
    let volumes = volumes(containerd, layout, judge, &claim, request).await?;
    let observed = Observed { claim, target, names, chain, mounts, mount_label, volumes };
    Ok(bind(&facts, &observed, &request.rootfs)?)
}

/// What belongs to the image volumes of the CRI plugin's record. Of a container in no pod there are none, and `bind`
/// refuses what is named all the same.
async fn volumes(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    claim: &Claim,
    request: &CreateRequest,
) -> Result<Vec<ObservedVolume>, VerifyError> {
    let (CriRecord::Container(record), ContainerKind::InSandbox { sandbox }) = (&claim.cri, &request.kind)
    else {
        return Ok(Vec::new());
    };
    let mut observed = Vec::with_capacity(record.image_volumes.len());
    for volume in &record.image_volumes {
        let mounts = request.spec.mounts().iter().flatten();
        let source = mounts
            .filter(|mount| *mount.destination() == volume.destination)
            .find_map(|mount| mount.source().clone());
        let found = observe_volume(containerd, layout, judge, &claim.snapshotter, volume, sandbox).await?;
        observed.push(ObservedVolume { source, ..found });
    }
    Ok(observed)
}

/// One of them, by the digest that its snapshot is named by.
async fn observe_volume(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    snapshotter: &str,
    volume: &VolumeClaim,
    sandbox: &ContainerId,
) -> Result<ObservedVolume, VerifyError> {
    let place = volume.place(sandbox)?;
    let requested = cri::normalise(&volume.name);
    let asked = async {
        match &requested {
            Some(name) => containerd.target(name).await,
            None => Ok(None),
        }
    };
    let (asked, mut names, own, mounts) = tokio::try_join!(
        asked,
        containerd.names(&place.target),
        containerd.snapshot(snapshotter, &place.key),
        containerd.mounts(snapshotter, &place.key),
    )?;
    let facts = facts(containerd, layout, judge, &volume.name, &place.target).await?;
    let chain = match own {
        None => Vec::new(),
        Some(own) => containerd.chain(snapshotter, own, &facts.diff_ids).await?,
    };
    if let Some(asked) = asked.filter(|asked| *asked != place.target) {
        names.extend(names_of_same(containerd, layout, judge, &asked, &facts).await?);
    }
    Ok(ObservedVolume { sandbox: sandbox.clone(), facts, names, chain, mounts, source: None })
}

/// What the image called `name` is, without a container: `bulkhead verify`.
///
/// # Errors
/// The refusal, or what failed.
pub async fn examine(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    name: &str,
) -> Result<ImageFacts, VerifyError> {
    let target = containerd.target(name).await?.ok_or_else(|| image_unknown(name))?;
    facts(containerd, layout, judge, name, &target).await
}

/// What an image is that is not in containerd: `bulkhead verify oci:DIR`. Nothing is stored.
///
/// # Errors
/// The refusal, or what failed.
pub async fn examine_elsewhere(
    judge: &Judge,
    name: &str,
    target: &Digest,
    read: &ReadBlob<'_>,
) -> Result<ImageFacts, VerifyError> {
    match judge.ask_elsewhere(read, target).await? {
        Opinion::Verdict(Verdict::Facts(facts)) => Ok(facts),
        Opinion::Verdict(Verdict::Flaw(flaw)) => Err(image_broken(name, target, &flaw).into()),
        Opinion::Spoilt(blob) => Err(Refusal::new(
            Rule::ImageContents,
            format!("image {name} ({target}) cannot be verified"),
            format!("{blob} does not hash to its name: it is damaged or was changed"),
            "fetch or build the image anew",
        )
        .into()),
    }
}

/// The names in containerd of the image with this digest.
///
/// # Errors
/// containerd does not answer.
pub async fn names_of(containerd: &Containerd, target: &Digest) -> Result<BTreeSet<String>, Failure> {
    containerd.names(target).await
}

/// What the pod's own name for its image points to, if it has one and containerd knows it.
async fn requested_target(containerd: &Containerd, claim: &Claim) -> Result<Option<Digest>, Failure> {
    match &claim.cri {
        CriRecord::None | CriRecord::Sandbox => Ok(None),
        CriRecord::Container(record) => match &record.requested_name {
            Some(name) if *name != claim.image_name => containerd.target(name).await,
            Some(_) | None => Ok(None),
        },
    }
}

/// The names of `other` if it is the same image: the CRI plugin keeps an index and its manifest as one, and claims
/// whichever reference comes first.
async fn names_of_same(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    other: &Digest,
    image: &ImageFacts,
) -> Result<BTreeSet<String>, VerifyError> {
    match facts(containerd, layout, judge, "of the pod", other).await {
        Ok(facts) if facts.config == image.config => Ok(containerd.names(other).await?),
        // The name was moved to another image since, a broken one perhaps: it says nothing about this one.
        Ok(_) | Err(VerifyError::Refused(_)) => Ok(BTreeSet::new()),
        Err(error @ (VerifyError::Failed(_) | VerifyError::Unavailable(_))) => Err(error),
    }
}

/// The facts about `target`: stored, or from a judge that all launches of this image wait for.
async fn facts(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    name: &str,
    target: &Digest,
) -> Result<ImageFacts, VerifyError> {
    let verdict = match store::load(layout, target)? {
        Some(verdict) => verdict,
        None => {
            let _lock = store::lock(layout, target, judge.wait_max).await?;
            // Another launch may have been waiting for a judge that is done by now.
            match store::load(layout, target)? {
                Some(verdict) => verdict,
                None => match judge.ask(containerd, target).await? {
                    Opinion::Spoilt(blob) => return Err(spoilt(name, target, &blob).into()),
                    Opinion::Verdict(verdict) => {
                        store::save(layout, target, &verdict)?;
                        verdict
                    }
                },
            }
        }
    };
    match verdict {
        Verdict::Facts(facts) => Ok(facts),
        Verdict::Flaw(flaw) => Err(image_broken(name, target, &flaw).into()),
    }
}

fn spoilt(name: &str, target: &Digest, blob: &Digest) -> Refusal {
    Refusal::new(
        Rule::ImageContents,
        format!("image {name} ({target}) cannot be verified"),
        format!(
            "{blob} in containerd's content store does not hash to its name: it is damaged or was changed"
        ),
        "remove the image with its content (ctr content rm), look for whoever changed it, and pull it again",
    )
}
