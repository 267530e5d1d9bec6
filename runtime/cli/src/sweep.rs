//! `bulkhead trust sweep`: removes what is kept of images that containerd has no more.
//!
//! Facts and receipts can be worked out again, and go after a day. Signatures cannot, and may have been brought before their
//! image: they go after a month, and only where it is known of everything that containerd has what it is signed by.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use bulkhead_containerd::{
    CALL_TIMEOUT, Containerd, Judge, Live, Swept, VerifyError, examine, sweep as sweep_facts,
};
use bulkhead_gather::Store;
use bulkhead_model::{Digest, Layout};
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    args::Daemon,
    settings::Settings,
    verify::event_loop,
    watch::CRI_NAMESPACE,
};

/// How long facts and receipts stay in any case: an image may be on its way.
pub(crate) const FACTS_STAY: Duration = Duration::from_secs(86_400);

pub(crate) fn sweep(layout: &Layout, days: u64, daemon: &Daemon) -> Result<Answer, Trouble> {
    let socket = match &daemon.address {
        Some(address) => address.clone(),
        None => Settings::read(daemon)?.socket(daemon),
    };
    let namespace =
        CRI_NAMESPACE.parse().map_err(|_| Trouble::Odd(format!("{CRI_NAMESPACE} is no namespace")))?;
    let (live, subjects) = event_loop()?.block_on(async {
        let containerd = Containerd::connect(&socket, &namespace, CALL_TIMEOUT).await?;
        let live = containerd.live().await?;
        let subjects = subjects(&containerd, layout, &live).await?;
        Ok::<_, Trouble>((live, subjects))
    })?;
    let Swept { images, layers } = sweep_facts(layout, &live.targets(), FACTS_STAY)?;
    let mut text = format!("removed the facts of {images} images and the receipts of {layers} layers");
    let mut json = json!({ "images": images, "layers": layers, "signatures": 0, "kept_because": null });
    let before = SystemTime::now().checked_sub(Duration::from_secs(days.saturating_mul(86_400)));
    match subjects {
        Err(why) => {
            text.push_str(&format!("; no signature, because {why}"));
            json["kept_because"] = json!(why);
        }
        Ok(subjects) => {
            let files = signatures(layout, &subjects, before.unwrap_or(SystemTime::UNIX_EPOCH))?;
            text.push_str(&format!(", and {files} signatures"));
            json["signatures"] = json!(files);
        }
    }
    Ok(Answer::yes(text, json))
}

/// What signatures may be about that are still needed; or why that is not known.
async fn subjects(
    containerd: &Containerd,
    layout: &Layout,
    live: &Live,
) -> Result<Result<BTreeSet<Digest>, String>, Trouble> {
    if let Some(container) = live.nameless.first() {
        return Ok(Err(format!("the image of container {container} has no name any more")));
    }
    let judge = Judge::beside_this_executable()?;
    let mut subjects = live.targets();
    for (target, (namespace, name)) in &live.images {
        match examine(&containerd.in_namespace(namespace)?, layout, &judge, name).await {
            Ok(facts) if facts.target == *target => {
                subjects.insert(facts.manifest);
            }
            Ok(_) => return Ok(Err(format!("{name} was moved meanwhile"))),
            // A broken image, or one without this platform: nobody runs it.
            Err(VerifyError::Refused(_)) => {}
            Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => {
                return Err(failure.into());
            }
        }
    }
    Ok(Ok(subjects))
}

/// Removes signatures that are about nothing of these and were all kept before then; how many.
fn signatures(layout: &Layout, subjects: &BTreeSet<Digest>, before: SystemTime) -> Result<usize, Trouble> {
    let store = Store::of(layout);
    let kept: BTreeSet<Digest> = store.list()?.into_iter().map(|entry| entry.subject).collect();
    let mut removed = 0;
    for subject in kept.difference(subjects) {
        if store.kept_last(subject)?.is_some_and(|last| last < before) {
            removed += store.remove(subject, None)?;
        }
    }
    Ok(removed)
}
