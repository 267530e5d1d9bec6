//! Children: adopted, counted, reaped.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;
use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        stat::Mode,
        time::TimeValLike as _,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::mkfifo,
};

/// How long a shim may go on after it was told to end.
const END: Duration = Duration::from_secs(20);

fn failed(what: &str) -> impl FnOnce(Errno) -> HarnessError {
    let program = what.to_owned();
    move |errno| HarnessError::Run { program, source: errno.into() }
}

/// Orphans of this process's children become its own.
pub(super) fn adopt_orphans() -> Result<(), HarnessError> {
    prctl::set_child_subreaper(true).map_err(failed("prctl(2) PR_SET_CHILD_SUBREAPER"))
}

/// Processor time of all children that were reaped, and of theirs.
pub(super) fn children_cpu_ms() -> Result<f64, HarnessError> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(failed("getrusage(2)"))?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e3)
}

/// Waits until no child is left.
pub(super) fn all_gone() -> Result<(), HarnessError> {
    let deadline = Instant::now() + END;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) if Instant::now() > deadline => {
                return Err(HarnessError::Timeout { what: "the end of a shim".to_owned(), within: END });
            }
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_micros(200)),
            Ok(_) => {}
            Err(errno) => return Err(failed("waitpid(2)")(errno)),
        }
    }
}

/// A named pipe.
pub(crate) fn make_fifo(path: &Path) -> Result<(), HarnessError> {
    mkfifo(path, Mode::from_bits_truncate(0o700))
        .map_err(|errno| HarnessError::at("mkfifo", path)(errno.into()))
}
