//! `bulkhead verify IMAGE`: the chain of digests, and what policy says of it.

mod elsewhere;
mod links;
mod report;

use std::path::Path;

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Judge, VerifyError, examine, names_of, signature_facts};
use bulkhead_model::{
    ContentsFacts, ContentsRule, Digest, ImageFacts, Layout, Namespace, Refusal, Rule, SignatureFacts,
    TrustMaterial,
};
use bulkhead_node::load_policy;
use bulkhead_policy::{Policy, Preview};

use self::links::{Blob, Files, Found, Place, Unpacked};
use crate::{
    answer::{Answer, Trouble},
    args::Daemon,
    settings::Settings,
};

/// Facts about an image of containerd's, or the refusal.
pub(crate) fn facts(
    layout: &Layout,
    socket: &Path,
    namespace: &Namespace,
    image: &str,
) -> Result<Result<ImageFacts, Refusal>, Trouble> {
    event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        let judge = Judge::beside_this_executable()?;
        match examine(&containerd, layout, &judge, image).await {
            Ok(facts) => Ok(Ok(facts)),
            Err(VerifyError::Refused(refusal)) => Ok(Err(refusal)),
            Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => Err(failure.into()),
        }
    })
}

pub(crate) fn verify(
    layout: &Layout,
    image: &str,
    name: Option<&str>,
    namespace: &Namespace,
    tenant: Option<&Namespace>,
    daemon: &Daemon,
) -> Result<Answer, Trouble> {
    let (found, containerd) = match image.strip_prefix("oci:") {
        Some(place) => (elsewhere::found(place)?, None),
        None => {
            let socket = match &daemon.address {
                Some(address) => address.clone(),
                None => Settings::read(daemon)?.socket(daemon),
            };
            (in_containerd(layout, &socket, namespace, image)?, Some(socket))
        }
    };
    let mut found = match found {
        Ok(found) => found,
        Err(refusal) => return Ok(refusal.into()),
    };
    if let Some(name) = name {
        name.clone_into(&mut found.name);
    }
    let tenant = tenant.unwrap_or(namespace);
    let policy = load_policy(layout, None, tenant);
    let signatures = match &policy {
        Ok(policy) => Some(signatures(layout, &found.facts, policy.material())?),
        Err(_) => None,
    };
    let asked = |policy: &Policy, contents: Option<&ContentsFacts>| {
        policy.preview_of(&found.facts, signatures.as_ref(), contents, &found.name, tenant)
    };
    let first = policy.as_ref().map_err(Clone::clone).and_then(|policy| asked(policy, None));
    // Of an image that is refused anyway nobody looks at the files.
    let rule = match (&policy, &first) {
        (Ok(policy), Ok(_)) => {
            Ok(policy.needs(&found.name).map_or(ContentsRule::Chain, |needs| needs.contents))
        }
        _ => Err("the image is refused whatever they are"),
    };
    let unpacked = match containerd {
        Some(socket) => Some(unpacked(layout, &socket, namespace, &found, rule)?),
        None => None,
    };
    let verdict = match (policy, unpacked.as_deref().and_then(decisive)) {
        (Ok(policy), Some(contents)) => asked(&policy, Some(contents)),
        _ => first,
    };
    let verdict = verdict.and_then(|preview| sound(&found, unpacked.as_deref()).map(|()| preview));
    Ok(report::report(&found, signatures.as_ref(), unpacked.as_deref(), verdict))
}

/// What is known of the files, where they were looked at: of several snapshotters what stands against the image.
fn decisive(unpacked: &[Unpacked]) -> Option<&ContentsFacts> {
    let facts = unpacked.iter().filter_map(|place| match &place.files {
        Files::Found(facts) => Some(facts),
        Files::NotAsked(_) => None,
    });
    facts.reduce(|one, other| if matches!(one, ContentsFacts::Unproven(_)) { one } else { other })
}

/// What no policy can admit: snapshots that are not the image's, and blobs that are not their names'.
fn sound(found: &Found, unpacked: Option<&[Unpacked]>) -> Result<(), Refusal> {
    if let Some(refusal) = unpacked.into_iter().flatten().find_map(|place| place.chain.as_ref().err()) {
        return Err(refusal.clone());
    }
    let spoilt = found.facts.layers.iter().zip(&found.blobs).find_map(|(layer, blob)| match blob {
        Blob::Spoilt(other) => Some((layer, other)),
        Blob::Kept(_) | Blob::Hashed(_) | Blob::Missing => None,
    });
    match spoilt {
        None => Ok(()),
        Some((layer, other)) => Err(Refusal::new(
            Rule::ImageContents,
            format!("image {} ({}) cannot be verified", found.name, found.facts.target),
            format!("the blob of its layer {layer} hashes to {other}: it is damaged or was changed"),
            "fetch or build the image anew",
        )),
    }
}

/// An image of containerd's, by its name or its digest.
fn in_containerd(
    layout: &Layout,
    socket: &Path,
    namespace: &Namespace,
    image: &str,
) -> Result<Result<Found, Refusal>, Trouble> {
    let by_digest = image.parse::<Digest>();
    let (name, facts) = event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        let called = match &by_digest {
            Ok(digest) => names_of(&containerd, digest).await?.pop_first(),
            Err(_) => None,
        };
        let called = called.unwrap_or_else(|| image.to_owned());
        let judge = Judge::beside_this_executable()?;
        let facts = examine(&containerd, layout, &judge, &called).await;
        Ok::<_, Trouble>((called, facts))
    })?;
    let facts = match facts {
        Ok(facts) => facts,
        Err(VerifyError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => return Err(failure.into()),
    };
    let (names, blobs) = event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        let names = names_of(&containerd, &facts.target).await?;
        let mut blobs = Vec::with_capacity(facts.layers.len());
        for layer in &facts.layers {
            blobs.push(containerd.blob_size(layer).await?.map_or(Blob::Missing, Blob::Kept));
        }
        Ok::<_, Trouble>((names, blobs))
    })?;
    Ok(Ok(Found { name, facts, place: Place::Containerd(names), blobs }))
}

fn unpacked(
    layout: &Layout,
    socket: &Path,
    namespace: &Namespace,
    found: &Found,
    rule: Result<ContentsRule, &'static str>,
) -> Result<Vec<Unpacked>, Trouble> {
    let judge = Judge::beside_this_executable()?;
    let looked = event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        links::unpacked(&containerd, layout, &judge, found, rule).await
    });
    match looked {
        Ok(unpacked) => Ok(unpacked),
        // Nothing is asked there that refuses.
        Err(VerifyError::Refused(refusal)) => Err(Trouble::Odd(refusal.line())),
        Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => Err(failure.into()),
    }
}

/// An image of a layout, `DIR` or `DIR:TAG`: facts about it and where the layout is, its blobs being what their names say; or the
/// refusal.
pub(crate) fn of_layout(place: &str) -> Result<Result<(ImageFacts, String), Refusal>, Trouble> {
    let found = match elsewhere::found(place)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = sound(&found, None) {
        return Ok(Err(refusal));
    }
    match found.place {
        Place::Layout(dir) => Ok(Ok((found.facts, dir))),
        Place::Containerd(_) => Err(Trouble::Odd("an image of containerd's".to_owned())),
    }
}

/// What policy says of an image of that name.
pub(crate) fn verdict(
    layout: &Layout,
    facts: &ImageFacts,
    image: &str,
    tenant: &Namespace,
) -> Result<Result<Preview, Refusal>, Trouble> {
    let policy = match load_policy(layout, None, tenant) {
        Ok(policy) => policy,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let signatures = signatures(layout, facts, policy.material())?;
    Ok(policy.preview(facts, Some(&signatures), image, tenant))
}

/// Who signed the image, by the signatures that this node has.
pub(crate) fn signatures(
    layout: &Layout,
    facts: &ImageFacts,
    material: &TrustMaterial,
) -> Result<SignatureFacts, Trouble> {
    let judge = Judge::beside_this_executable()?;
    match event_loop()?.block_on(signature_facts(layout, &judge, facts, material)) {
        Ok(facts) => Ok(facts),
        // Nothing but a judge is asked, and a judge refuses nothing.
        Err(VerifyError::Refused(_)) => Ok(SignatureFacts::default()),
        Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => Err(failure.into()),
    }
}

pub(crate) fn event_loop() -> Result<tokio::runtime::Runtime, Trouble> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::Kernel("start the event loop", error))
}
