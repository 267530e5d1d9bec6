//! The end of a process's output, which Delete waits for: after it, all that was written is where it belongs.

use std::{io, time::Duration};

use bulkhead_launch::LogProcess;
use tokio::{io::Interest, sync::oneshot, time::timeout};

use crate::sys;

/// How long output may take to its reader after its process has ended.
///
/// Source: `waitTimeout`, containerd cmd/containerd-shim-runc-v2/process/init.go.
const DRAIN_MS: u64 = 10_000;

/// How long a logger may take until it is asked to end: it has seen the end of its input.
const QUIET_MS: u64 = 1_000;

/// How long a logger that was asked may take: 12 s in all, as under runc's shim.
///
/// Source: `binaryIOProcTermTimeout`, containerd cmd/containerd-shim-runc-v2/process/io.go.
const TERM_MS: u64 = 11_000;

/// What is still on its way.
pub(crate) struct Rest {
    pub(super) copies: Vec<oneshot::Receiver<()>>,
    pub(super) log: Option<LogProcess>,
}

impl Rest {
    /// Waits for it, for a while.
    pub(crate) async fn drain(self) {
        let copied = async {
            for copy in self.copies {
                // One that has been given up is done as well.
                copy.await.unwrap_or_default();
            }
        };
        if timeout(Duration::from_millis(DRAIN_MS), copied).await.is_err() {
            tracing::warn!(
                "output is not read, or its process has left others that have it open: the rest is given up"
            );
        }
        let Some(log) = self.log else { return };
        if let Err(error) = end(&log).await {
            tracing::warn!(%error, "the end of a log cannot be waited for");
            return;
        }
        log.leave();
    }
}

/// Ends a log that has seen the end of its input. One that is still there then is killed as it is dropped.
async fn end(log: &LogProcess) -> io::Result<()> {
    if ended(log, QUIET_MS).await? {
        return Ok(());
    }
    log.signal(libc::SIGTERM)?;
    if ended(log, TERM_MS).await? {
        return Ok(());
    }
    log.signal(libc::SIGKILL)?;
    Err(io::Error::other("it did not end by itself and was killed"))
}

async fn ended(log: &LogProcess, at_most_ms: u64) -> io::Result<bool> {
    use std::os::fd::AsFd as _;

    let pidfd = std::fs::File::from(log.as_fd().try_clone_to_owned()?);
    let watched = sys::watch(pidfd, Interest::READABLE)?;
    match timeout(Duration::from_millis(at_most_ms), watched.readable()).await {
        Ok(ready) => ready.map(|_| true),
        Err(_) => Ok(false),
    }
}
