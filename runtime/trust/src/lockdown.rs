//! What the judge gives up before it reads its first byte.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::PathBuf,
};

use bulkhead_confine::{ConfineError, LockDown};

/// Where the kernel lists what is open.
const OPEN_FILES: &str = "/proc/self/fd";

/// Why the judge does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockdownError {
    /// It cannot be where it is limited.
    #[error("write(2) {}", .0.display())]
    Join(PathBuf, #[source] io::Error),
    /// What is open cannot be listed or closed.
    #[error("close what is listed in {OPEN_FILES}")]
    Close(#[source] io::Error),
    /// What was handed over cannot be opened.
    #[error("open what was handed over")]
    Open(#[source] io::Error),
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

/// Moves this process, which has no other thread, into the control groups whose files these are.
pub(crate) fn join(groups: &[PathBuf]) -> Result<(), LockdownError> {
    groups.iter().try_for_each(|path| {
        let opened = File::options().write(true).open(path);
        opened
            .and_then(|mut file| file.write_all(b"0"))
            .map_err(|error| LockdownError::Join(path.clone(), error))
    })
}

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

/// Uid and gid of the judge of contents, which may read every file below the layers: no other judge's.
const CONTENTS_JUDGE_ID: u32 = 61_008;

/// Its address space, in bytes: of its threads' stacks and heaps most is never touched. What it may use is its control
/// group's to say.
const CONTENTS_ADDRESSES_MAX: u64 = 8 << 30;

/// Its CPU time, in seconds: a hundred gigabytes of layers.
const CONTENTS_CPU_SECONDS_MAX: u64 = 1800;

/// The first descriptor that the judge of contents is handed.
const FIRST_FD: RawFd = 3;

/// What the judge of contents was handed: the layers' directories, and their blobs.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) dirs: Vec<OwnedFd>,
    pub(crate) blobs: Vec<OwnedFd>,
}

/// Gives up everything but stdio, and reading below the first `layers` descriptors and what the next `blobs` are. The
/// judge must not go on if this fails.
pub(crate) fn lock_down_to(layers: usize, blobs: usize) -> Result<Handed, LockdownError> {
    let handed = FIRST_FD..FIRST_FD + RawFd::try_from(layers + blobs).unwrap_or(0);
    let open = open_files().map_err(LockdownError::Close)?;
    close_all(open.into_iter().filter(|fd| !handed.contains(fd))).map_err(LockdownError::Close)?;
    // A number that was inherited is nobody's: what is owned here is a second descriptor of the same file.
    let own = |fd| File::open(format!("{OPEN_FILES}/{fd}")).map(OwnedFd::from);
    let mut dirs: Vec<OwnedFd> =
        handed.clone().map(own).collect::<io::Result<_>>().map_err(LockdownError::Open)?;
    close_all(handed).map_err(LockdownError::Close)?;
    let blobs = dirs.split_off(layers);
    confine_to(&dirs)?;
    Ok(Handed { dirs, blobs })
}

/// Gives up everything but stdio, reading below these directories, and what these blobs are: for a process that has
/// opened them itself.
pub(crate) fn lock_down_holding(handed: Handed) -> Result<Handed, LockdownError> {
    let held: Vec<RawFd> = handed.dirs.iter().chain(&handed.blobs).map(AsRawFd::as_raw_fd).collect();
    let open = open_files().map_err(LockdownError::Close)?;
    close_all(open.into_iter().filter(|fd| !held.contains(fd))).map_err(LockdownError::Close)?;
    confine_to(&handed.dirs)?;
    Ok(handed)
}

fn confine_to(dirs: &[OwnedFd]) -> Result<(), LockdownError> {
    let limits = LockDown {
        uid: CONTENTS_JUDGE_ID,
        gid: CONTENTS_JUDGE_ID,
        memory_bytes_max: CONTENTS_ADDRESSES_MAX,
        cpu_seconds_max: CONTENTS_CPU_SECONDS_MAX,
    };
    let borrowed: Vec<BorrowedFd<'_>> = dirs.iter().map(AsFd::as_fd).collect();
    Ok(bulkhead_confine::lock_down_to(limits, &borrowed)?)
}

/// Closes all but stdio: whoever started the judge may have left something open.
fn close_others() -> io::Result<()> {
    close_all(open_files()?.into_iter())
}

fn open_files() -> io::Result<Vec<RawFd>> {
    let mut open: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir(OPEN_FILES)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        open.push(number.ok_or(io::ErrorKind::InvalidData)?);
    }
    Ok(open)
}

fn close_all(open: impl Iterator<Item = RawFd>) -> io::Result<()> {
    for fd in open.filter(|fd| *fd > 2) {
        match nix::unistd::close(fd) {
            // The directory listed itself, and is closed by now.
            Ok(()) | Err(nix::Error::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
