//! What has run out, when a launch has failed and nobody says why: libcontainer drops the errno of many of its calls.
//!
//! Invariant: asked only by a worker that is about to end.

use std::{fs, io, path::Path};

use crate::{
    LaunchError,
    error::{chain, fix_of},
    sys::{self, Forked},
};

/// Where a process of the container's ran into the container's own limits.
const OWN_LIMITS: &str = "fix: raise what is too small for a start in process.rlimits or in the memory limit";

/// What a process of the container's says of a call that failed: it lives under the container's limits already.
pub(crate) fn in_container(what: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENOMEM | libc::EAGAIN) => format!("{what}: {error}; {OWN_LIMITS}"),
        _ => format!("{what}: {error}"),
    }
}

/// The error with its causes and what to do about it. Where it does not say, the calls that fail first when something has
/// run out are tried once more.
pub(crate) fn explained(error: &LaunchError, task_dir: Option<&Path>) -> String {
    let text = chain(error);
    if !matches!(error, LaunchError::Failed(_)) || text.contains("fix: ") {
        return text;
    }
    let tried = [("open(2)", fs::File::open("/dev/null").map(drop)), ("fork(2)", try_fork())]
        .into_iter()
        .chain(task_dir.map(|dir| ("write(2)", try_write(dir))));
    for (call, tried) in tried {
        if let Err(error) = tried
            && let Some(fix) = error.raw_os_error().and_then(fix_of)
        {
            return format!("{text}: {call}: {error}; {fix}");
        }
    }
    // There may be room again by now: what made it has ended.
    let by_words = [("notify socket", libc::ENOSPC)];
    if let Some((_, errno)) = by_words.iter().find(|(words, _)| text.contains(words))
        && let Some(fix) = fix_of(*errno)
    {
        return format!("{text}; {fix}");
    }
    // Its processes died on the way: by a limit, or by someone's hand.
    match ["BrokenChannel", "io error", "exec process failed"].iter().any(|word| text.contains(word)) {
        true => format!("{text}; {OWN_LIMITS}"),
        false => text,
    }
}

fn try_fork() -> io::Result<()> {
    match sys::fork()? {
        Forked::Parent(_) => Ok(()),
        Forked::Child => sys::exit_now(0),
    }
}

/// Goes with the directory.
fn try_write(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("room"), [0; 4096])
}
