//! What the judge gives up before it reads its first byte.

use bulkhead_confine::{ConfineError, LockDown};

/// Uid and gid of the judge. No account needs this number and no file has it; nothing else should run as it.
///
/// Source: 60578 to 61183 are "unused" in systemd's docs/UIDS-GIDS.md, outside of what adduser gives to people
/// (1000 to 59999) and of systemd's dynamic users.
const JUDGE_ID: u32 = 61_007;

/// Address space, in bytes: the largest document is 8 MiB, its at most 200,000 values some 20 MB more.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// CPU time, in seconds: a judge needs a hundredth of one.
const CPU_SECONDS_MAX: u64 = 10;

/// Gives up everything but stdin, stdout and memory. The judge must not go on if this fails.
pub(crate) fn lock_down() -> Result<(), ConfineError> {
    bulkhead_confine::lock_down(LockDown {
        uid: JUDGE_ID,
        gid: JUDGE_ID,
        memory_bytes_max: MEMORY_BYTES_MAX,
        cpu_seconds_max: CPU_SECONDS_MAX,
    })
}
