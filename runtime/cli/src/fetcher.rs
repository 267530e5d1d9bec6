//! `bulkhead judge fetch`: asks a registry for the signatures that a launch lacks, and keeps what it has.
//!
//! Started by a worker of a shim, which it outlives. What it keeps proves nothing: the launch judges it, as everything in
//! the store. It writes down what it came to, so that launches ask once between them, and not again for a while.
//!
//! Invariant: bounded. One fetch at a time for an image from a repository, a few at a time on a node; a minute and
//! 64 MiB each.

use std::{
    io::{self, Read as _},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use bulkhead_containerd::{Lock, fetch_outcome, keep_fetch_outcome, try_lock};
use bulkhead_gather::{Access, Reference};
use bulkhead_model::{FetchFrom, FetchTask, Layout};

use crate::{
    answer::{Trouble, full},
    args::DaemonConfig,
    settings::Settings,
    trust::{HOSTS_DIR, fetch_and_keep},
};

/// Longest task, in bytes.
const TASK_BYTES_MAX: u64 = 1 << 20;

/// How long one fetch may take.
const FETCH_MAX: Duration = Duration::from_secs(60);

/// How many fetches are at work on a node.
const AT_ONCE: usize = 4;

/// How long to wait for one of them to end. The next launch starts another.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest reason that is written down.
const REASON_CHARS_MAX: usize = 500;

/// The task is its input, and nobody reads what it says.
#[must_use]
pub(crate) fn fetcher_main() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(TASK_BYTES_MAX).read_to_end(&mut text);
    let task = read.ok().and_then(|_| serde_json::from_slice::<FetchTask>(&text).ok());
    let Some(FetchTask { program: _, root, from }) = task else { return ExitCode::from(2) };
    match fetch(&Layout::below(root), &from) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("failed: {}", full(&trouble));
            ExitCode::from(3)
        }
    }
}

fn fetch(layout: &Layout, from: &FetchFrom) -> Result<(), Trouble> {
    let Some(_mine) = try_lock(&layout.judge_lock(&from.id()))? else { return Ok(()) };
    // Another may have been asked while this one came up.
    if fetch_outcome(layout, from)?.is_some() {
        return Ok(());
    }
    let Some(_slot) = slot(layout)? else { return Ok(()) };
    let found = ask(layout, from).map_err(|trouble| reason(&full(&trouble)));
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(keep_fetch_outcome(layout, from, at, found)?)
}

/// One of the few places, unless all are taken for long.
fn slot(layout: &Layout) -> Result<Option<Lock>, Trouble> {
    let until = Instant::now() + WAIT_MAX;
    loop {
        for number in 0..AT_ONCE {
            if let Some(lock) = try_lock(&layout.judge_dir().join(format!("fetch-{number}.lock")))? {
                return Ok(Some(lock));
            }
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many signatures the registry has that were kept, or had been.
fn ask(layout: &Layout, from: &FetchFrom) -> Result<u32, Trouble> {
    let FetchFrom { target, repository, hosts_dirs, docker_config } = from;
    let hosts_dirs = match hosts_dirs.is_empty() {
        false => hosts_dirs.clone(),
        true => Some(Settings::read_of(&DaemonConfig::of_the_node())?.hosts_dirs)
            .filter(|dirs| !dirs.is_empty())
            .unwrap_or_else(|| vec![HOSTS_DIR.into()]),
    };
    let access =
        Access { hosts_dirs, docker_config: docker_config.clone(), plain_http: false, time_max: FETCH_MAX };
    let reference = repository.parse::<Reference>()?.at(*target);
    let fetched = fetch_and_keep(layout, &reference, &access)?;
    Ok(u32::try_from(fetched.harvest.found.len()).unwrap_or(u32::MAX))
}

fn reason(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(REASON_CHARS_MAX).collect()
}
