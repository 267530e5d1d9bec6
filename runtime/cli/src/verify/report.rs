//! What `bulkhead verify` prints: every link of the chain, and what proves it.

use bulkhead_model::{
    Digest, ImageFacts, Level, Refusal, RejectedSignature, Signature, SignatureFacts, SignatureFormat,
    Signer, chain_ids,
};
use bulkhead_policy::{Accepted, Preview};
use serde_json::{Value, json};

use super::links::{Found, Link, Unpacked};
use crate::answer::{Answer, refusal_json};

/// The chain of digests, the signatures, and what policy says of them.
pub(super) fn report(
    found: &Found,
    signatures: Option<&SignatureFacts>,
    unpacked: Option<&[Unpacked]>,
    verdict: Result<Preview, Refusal>,
) -> Answer {
    let Found { name: image, facts, place: _, blobs: _ } = found;
    let ImageFacts { user, volumes, diff_ids, .. } = facts;
    let links = found.links();
    let mut lines = vec![format!("image     {image}")];
    lines.extend(links.iter().map(Link::line));
    match unpacked {
        None => lines.push(
            "snapshots not in containerd: its files are compared where containerd unpacks it".to_owned(),
        ),
        Some([]) => lines.push(
            "snapshots none: containerd has not unpacked it, so no files are there to compare".to_owned(),
        ),
        Some(unpacked) => lines.extend(unpacked.iter().flat_map(Unpacked::lines)),
    }
    lines.push(format!("user      {}", if user.0.is_empty() { "(none: root)" } else { &user.0 }));
    if !volumes.is_empty() {
        lines.push(format!("volumes   {}", volumes.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    let json = |verdict: Value| {
        let chain: Vec<String> = chain_ids(diff_ids).iter().map(Digest::to_string).collect();
        let links: Vec<Value> = links.iter().map(Link::json).collect();
        let unpacked: Option<Vec<Value>> = unpacked.map(|all| all.iter().map(Unpacked::json).collect());
        json!({ "image": image, "facts": facts, "chain_ids": chain, "links": links, "unpacked": unpacked,
                "signatures": signatures, "verdict": verdict })
    };
    match signatures {
        Some(signatures) => lines.extend(signature_lines(facts, signatures)),
        None => lines.push("signed    not looked at: the policy names the keys".to_owned()),
    }
    match verdict {
        Ok(preview) => match preview.would_refuse() {
            None => {
                let scope = preview.scope().unwrap_or_default();
                for Accepted { rule, signer } in preview.accepted() {
                    lines.push(format!("rule      [rule.{rule}] is passed by {}", who(signer)));
                }
                lines.push(format!("policy    admits it by scope {scope:?}"));
                let rules: Vec<Value> = preview
                    .accepted()
                    .iter()
                    .map(|Accepted { rule, signer }| json!({ "rule": rule, "signer": signer }))
                    .collect();
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
                Answer::yes(
                    lines.join("\n"),
                    json(json!({ "admitted": { "scope": scope, "level": level, "rules": rules } })),
                )
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

/// Each signature with its evidence, and each file that counts for nothing with the reason.
fn signature_lines(facts: &ImageFacts, signatures: &SignatureFacts) -> Vec<String> {
    let SignatureFacts { signatures, rejected } = signatures;
    let mut lines = Vec::new();
    for signature in signatures {
        let Signature { blob, subject, format, signer, log, timestamp, predicate_type, repository } =
            signature;
        let what = if signature.is_attestation() { "attested" } else { "signed" };
        lines.push(format!("{what:<9} by {}", who(signer)));
        let link = if *subject == facts.manifest { "manifest" } else { "index" };
        let format = match format {
            SignatureFormat::Bundle => "bundle",
            SignatureFormat::SimpleSigning => "simple signing",
        };
        lines.push(format!("  over    the {link} {subject} ({format} {blob})"));
        if let Some(predicate) = predicate_type.as_deref().filter(|_| signature.is_attestation()) {
            lines.push(format!("  states  {predicate}"));
        }
        if let Some(repository) = repository {
            lines.push(format!("  says    it is of {repository}"));
        }
        match log {
            Some(log) => lines.push(format!("  log     {} entry {}", log.log_id, log.index)),
            None => lines.push("  log     none".to_owned()),
        }
        if let Some(seconds) = timestamp {
            lines.push(format!("  seen    {seconds} seconds after 1970, by a timestamp authority"));
        }
    }
    for RejectedSignature { blob, why } in rejected {
        lines.push(format!("rejected  {blob}: {why}"));
    }
    if lines.is_empty() {
        lines.push("signed    by nobody that this node knows of (bulkhead trust list)".to_owned());
    }
    lines
}

/// A signer as people know him.
fn who(signer: &Signer) -> String {
    match signer {
        Signer::Key { fingerprint } => format!("key {fingerprint}"),
        Signer::Certificate { issuer, identity, root } => format!("{identity} of {issuer} (root {root})"),
    }
}
