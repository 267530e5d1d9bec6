//! The stage that has signatures fetched which a launch lacks, where policy lets a launch ask for them.
//!
//! ```text
//! not signed well enough ─► asked within the last minute? ─yes─► as it is
//!                              └ no: a worker starts `bulkhead judge fetch`, which outlives it ─► what came is judged
//!                                       └ takes longer than a launch waits: UNAVAILABLE, and the fetch goes on
//! ```
//! The server has no way into the network: it looks at what the fetcher writes down. All launches of an image from a repository that come
//! meanwhile wait for the one fetch, and none asks again for a minute.
//!
//! Never here: which registry; that is policy's to say.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bulkhead_cgroup::CgroupError;
use bulkhead_containerd::fetch_outcome;
use bulkhead_launch::Zygote;
use bulkhead_model::{FetchFrom, FetchOutcome, FetchTask, LayersJob, LayersTask, Layout, Refusal, Rule};

use super::verify::limits;
use crate::task::{TaskError, chain};

/// The control group of all fetchers of a node.
const GROUP: &str = "/bulkhead-fetch";

/// What fetchers may use together: one reads 64 MiB at most, and four are at work at a time.
const MEMORY_BYTES_MAX: i64 = 512 << 20;

/// Those at work with their threads, and those that find out that another is at it.
const PIDS_MAX: i64 = 128;

/// How long a launch waits for a registry. kubelet tries again by itself.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How long to sleep between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Has signatures fetched, and says what came of it. Whether they are good enough is then to be judged anew.
pub(super) async fn fetch(
    layout: &Layout,
    zygote: &Zygote,
    program: PathBuf,
    from: Vec<FetchFrom>,
) -> Result<Vec<FetchOutcome>, TaskError> {
    let until = Instant::now() + WAIT_MAX;
    let mut outcomes = Vec::with_capacity(from.len());
    for from in from {
        let mut outcome = asked(layout, &from)?;
        if outcome.is_none() {
            start(layout, zygote, program.clone(), &from)?;
        }
        while outcome.is_none() {
            if Instant::now() >= until {
                return Err(TaskError::Unavailable(going_on(&from)));
            }
            tokio::time::sleep(PAUSE).await;
            outcome = asked(layout, &from)?;
        }
        outcomes.extend(outcome);
    }
    Ok(outcomes)
}

/// A refusal for want of a signature, with what came of asking for one.
pub(super) fn told(refusal: Refusal, outcomes: &[FetchOutcome]) -> Refusal {
    let Some(FetchOutcome { repository, found, .. }) = outcomes.first() else { return refusal };
    if refusal.rule != Rule::ImageSignature {
        return refusal;
    }
    let Refusal { rule, what, why, fix } = refusal;
    let asked = match found {
        Ok(count) => format!("{repository} was asked within the last minute and has {count}"),
        Err(error) => format!("{repository} was asked within the last minute: {error}"),
    };
    Refusal::new(rule, what, format!("{why}; {asked}"), fix)
}

fn asked(layout: &Layout, from: &FetchFrom) -> Result<Option<FetchOutcome>, TaskError> {
    fetch_outcome(layout, from)
        .map_err(|error| TaskError::FailedPrecondition(format!("bulkhead failed: {}", chain(&error))))
}

/// A second fetcher for the same image ends at once: nobody keeps count here.
fn start(layout: &Layout, zygote: &Zygote, program: PathBuf, from: &FetchFrom) -> Result<(), TaskError> {
    let failed = |error: &(dyn std::error::Error + 'static)| TaskError::internal(error);
    let task = FetchTask { program, root: layout.root().to_owned(), from: from.clone() };
    let job = LayersJob { dirs: Vec::new(), own: None, task: LayersTask::Fetch(Box::new(task)) };
    let null = std::fs::File::options().write(true).open("/dev/null").map_err(|error| failed(&error))?;
    let group = GROUP.parse().map_err(|error: CgroupError| failed(&error))?;
    let limits = limits(MEMORY_BYTES_MAX, PIDS_MAX).map_err(|error| failed(&error))?;
    let started = zygote.layers(&job, Some((&group, limits)), std::os::fd::AsFd::as_fd(&null));
    started.map(drop).map_err(|error| failed(&error))
}

fn going_on(from: &FetchFrom) -> String {
    let FetchFrom { target, repository, .. } = from;
    format!(
        "bulkhead: signatures of {target} are being fetched from {repository}, which has not answered within {} seconds; \
         try again: the fetch goes on",
        WAIT_MAX.as_secs()
    )
}
