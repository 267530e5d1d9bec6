//! Ctrl-C: measurements stop at the next run, and everything goes the way it goes at the end.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bulkhead_integration::HarnessError;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::wrong;

static CAME: AtomicBool = AtomicBool::new(false);

/// Listens, in a thread of its own, for SIGINT and SIGTERM.
pub(crate) fn listen() -> Result<(), HarnessError> {
    let failed = |source| HarnessError::Run { program: "signal handler".to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        CAME.store(true, Ordering::Relaxed);
        end_children();
    });
    Ok(())
}

/// Nobody waits any longer for what is being measured: its error is the way to the clean end.
fn end_children() {
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            if let Err(errno) = kill(Pid::from_raw(child), Signal::SIGTERM) {
                eprintln!("bench: {child} has ended: {errno}");
            }
        }
    }
}

/// Whether one came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error if one came.
pub(crate) fn check() -> Result<(), HarnessError> {
    if came() { Err(wrong("a run to the end", "interrupted")) } else { Ok(()) }
}
