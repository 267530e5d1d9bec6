//! `bulkhead verify IMAGE`: the chain of digests, and what policy says of it.

mod elsewhere;
mod report;

use std::path::Path;

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Judge, VerifyError, examine, name_of, signature_facts};
use bulkhead_model::{Digest, ImageFacts, Layout, Namespace, Refusal, SignatureFacts, TrustMaterial};
use bulkhead_node::load_policy;
use bulkhead_policy::Preview;

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
    let found = match image.strip_prefix("oci:") {
        Some(place) => elsewhere::facts(place)?,
        None => {
            let socket = match &daemon.address {
                Some(address) => address.clone(),
                None => Settings::read(daemon)?.socket(daemon),
            };
            let called = called(&socket, namespace, image)?;
            facts(layout, &socket, namespace, &called)?.map(|facts| (called, facts))
        }
    };
    let (called, facts) = match found {
        Ok(found) => found,
        Err(refusal) => return Ok(refusal.into()),
    };
    let name = name.unwrap_or(&called);
    let tenant = tenant.unwrap_or(namespace);
    let policy = load_policy(layout, None, tenant);
    let signatures = match &policy {
        Ok(policy) => Some(signatures(layout, &facts, policy.material())?),
        Err(_) => None,
    };
    let verdict = policy.and_then(|policy| policy.preview(&facts, signatures.as_ref(), name, tenant));
    Ok(report::report(name, &facts, signatures.as_ref(), verdict))
}

/// The name of an image of containerd's that was named by its digest.
fn called(socket: &Path, namespace: &Namespace, image: &str) -> Result<String, Trouble> {
    let Ok(digest) = image.parse::<Digest>() else { return Ok(image.to_owned()) };
    let found = event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        name_of(&containerd, &digest).await
    })?;
    Ok(found.unwrap_or_else(|| image.to_owned()))
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
