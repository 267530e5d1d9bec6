//! What the judge gives up before it reads its first byte.

use std::{fs, io, os::fd::RawFd};

use bulkhead_confine::{ConfineError, LockDown};

/// Where the kernel lists what is open.
const OPEN_FILES: &str = "/proc/self/fd";

/// Why the judge does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockdownError {
    /// What is open cannot be listed or closed.
    #[error("close what is listed in {OPEN_FILES}")]
    Close(#[source] io::Error),
    /// The kernel did not take a right away.
    #[error("lock the judge down")]
    Confine(#[from] ConfineError),
}

/// Uid and gid of the judge. No account needs this number and no file has it; nothing else should run as it.
///
/// Source: 60578 to 61183 are "unused" in systemd's docs/UIDS-GIDS.md, outside of what adduser gives to people
/// (1000 to 59999) and of systemd's dynamic users.
const JUDGE_ID: u32 = 61_007;

/// Address space, in bytes: the largest document is 8 MiB, its at most 200,000 values some 20 MB more.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// CPU time, in seconds: a judge needs a hundredth of one.
const CPU_SECONDS_MAX: u64 = 10;

/// Gives up everything but stdin, stdout, stderr and memory. The judge must not go on if this fails.
pub(crate) fn lock_down() -> Result<(), LockdownError> {
    close_others().map_err(LockdownError::Close)?;
    bulkhead_confine::lock_down(LockDown {
        uid: JUDGE_ID,
        gid: JUDGE_ID,
        memory_bytes_max: MEMORY_BYTES_MAX,
        cpu_seconds_max: CPU_SECONDS_MAX,
    })?;
    Ok(())
}

/// Closes all but stdio: whoever started the judge may have left something open.
fn close_others() -> io::Result<()> {
    let mut open: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir(OPEN_FILES)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        open.push(number.ok_or(io::ErrorKind::InvalidData)?);
    }
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        match nix::unistd::close(fd) {
            // The directory listed itself, and is closed by now.
            Ok(()) | Err(nix::Error::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
