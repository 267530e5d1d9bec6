//! `bulkhead verify IMAGE`: the chain of digests, and what policy says of it.

use std::path::Path;

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Judge, VerifyError, examine, signature_facts};
use bulkhead_model::{Digest, ImageFacts, Layout, Level, Namespace, Refusal, SignatureFacts, chain_ids};
use bulkhead_node::load_policy;
use bulkhead_policy::{Policy, Preview};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Trouble, refusal_json},
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
    namespace: &Namespace,
    tenant: Option<&Namespace>,
    daemon: &Daemon,
) -> Result<Answer, Trouble> {
    let socket = match &daemon.address {
        Some(address) => address.clone(),
        None => Settings::read(daemon)?.socket(daemon),
    };
    let facts = match facts(layout, &socket, namespace, image)? {
        Ok(facts) => facts,
        Err(refusal) => return Ok(refusal.into()),
    };
    let tenant = tenant.unwrap_or(namespace);
    let verdict = verdict(layout, &facts, image, tenant)?;
    Ok(report(image, &facts, verdict))
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
    let signatures = signatures(layout, facts, image, &policy)?;
    Ok(policy.preview(facts, signatures.as_ref(), image, tenant))
}

/// Who signed the image, where policy wants to know.
fn signatures(
    layout: &Layout,
    facts: &ImageFacts,
    image: &str,
    policy: &Policy,
) -> Result<Option<SignatureFacts>, Trouble> {
    if !policy.requires(image) {
        return Ok(None);
    }
    let judge = Judge::beside_this_executable()?;
    match event_loop()?.block_on(signature_facts(layout, &judge, facts, policy.material())) {
        Ok(facts) => Ok(Some(facts)),
        // Nothing but a judge is asked, and a judge refuses nothing.
        Err(VerifyError::Refused(_)) => Ok(None),
        Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => Err(failure.into()),
    }
}

fn event_loop() -> Result<tokio::runtime::Runtime, Trouble> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::Kernel("start the event loop", error))
}

fn report(image: &str, facts: &ImageFacts, verdict: Result<Preview, Refusal>) -> Answer {
    let ImageFacts { target, manifest, config, diff_ids, layers: _, user, volumes } = facts;
    let mut lines = vec![format!("image     {image}")];
    if target != manifest {
        lines.push(format!("index     {target}"));
    }
    lines.push(format!("manifest  {manifest}"));
    lines.push(format!("config    {config}"));
    let chain = chain_ids(diff_ids);
    for (number, (diff_id, chain_id)) in diff_ids.iter().zip(&chain).enumerate() {
        lines.push(format!("layer {:<3} {diff_id}", number + 1));
        if diff_id != chain_id {
            lines.push(format!("  chain   {chain_id}"));
        }
    }
    lines.push(format!("user      {}", if user.0.is_empty() { "(none: root)" } else { &user.0 }));
    if !volumes.is_empty() {
        lines.push(format!("volumes   {}", volumes.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    let json = |verdict: Value| {
        let chain: Vec<String> = chain.iter().map(Digest::to_string).collect();
        json!({ "image": image, "facts": facts, "chain_ids": chain, "verdict": verdict })
    };
    match verdict {
        Ok(preview) => match preview.would_refuse() {
            None => {
                let scope = preview.scope().unwrap_or_default();
                lines.push(format!("policy    admits it by scope {scope:?}"));
                let level = match preview.confinement().level {
                    Level::Hardened => "hardened",
                    Level::Compatible => {
                        lines.push(
                            "level     compatible: what a request asks for is granted as runc would"
                                .to_owned(),
                        );
                        "compatible"
                    }
                };
                Answer::yes(lines.join("\n"), json(json!({ "admitted": { "scope": scope, "level": level } })))
            }
            Some(refusal) => {
                lines.push(format!("policy    admits it only because mode is audit\n{refusal}"));
                let json = json(json!({ "audit": refusal_json(refusal) }));
                Answer::yes(lines.join("\n"), json)
            }
        },
        Err(refusal) => {
            lines.push(refusal.to_string());
            Answer::refused(lines.join("\n"), json(json!({ "refused": refusal_json(&refusal) })))
        }
    }
}
