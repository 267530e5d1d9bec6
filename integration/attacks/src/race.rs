//! Two names of a volume that change places while the runtime works: what another container that shares it would do.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::column::Column;

/// How often a race is run: where it is known to be won, until it is; elsewhere it costs a container each time.
pub(crate) fn times(column: Column) -> u32 {
    if column == Column::RuncOld { 60 } else { 3 }
}

/// How long a name stays: longer than between two system calls of a runtime, shorter than a mount takes to be prepared.
const STAYS: Duration = Duration::from_micros(150);

/// Does `work` while `one` and `other` change places. An error of the exchange is the harness's.
pub(crate) fn while_swapping<T>(one: &Path, other: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?;
                thread::sleep(STAYS);
            }
            Ok(())
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let swapped: nix::Result<()> =
            swapping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        swapped.map_err(|errno| HarnessError::at("renameat2", one)(errno.into()))?;
        done
    })
}
