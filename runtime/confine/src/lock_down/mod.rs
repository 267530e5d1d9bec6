//! Confinement of a helper on the host that reads attacker's bytes: the judge.
//!
//! ```text
//! root ─► rlimits ─► bounding set ─► groups, gid, uid ─► all sets ─► no_new_privs
//!      ─► Landlock, a rule per directory handed in ─► probe ─► seccomp: a short list, else killed ─► /proc/self/status
//! ```
//! Invariant: after `Ok` of [`lock_down`] the process has an unprivileged id, no capability, and can do no more than
//! compute, and read, write and close the files that are open already. It cannot open a path, make a socket, process
//! or thread, or map memory executable.
//! Invariant: after `Ok` of [`lock_down_to`] it can besides read what lies below the directories that it was handed,
//! whoever it belongs to (CAP_DAC_READ_SEARCH, its only capability), and make threads of its own.
//! Limit: what is open stays open; the caller hands over nothing but pipes, or directories and files to be read. Pages
//! it has mapped stay mapped.

mod calls;
mod ruleset;

use std::{fs::File, io, os::fd::BorrowedFd};

use bulkhead_model::Credentials;
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use crate::{
    ConfineError, Difference, landlock,
    prepared::{no_new_privs, open_status, read_status},
    seccomp, status,
};

/// What the helper may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockDown {
    /// Its uid from now on; never 0.
    pub uid: u32,
    /// Its gid from now on; never 0.
    pub gid: u32,
    /// Address space, in bytes.
    pub memory_bytes_max: u64,
    /// CPU time, in seconds; SIGKILL then.
    pub cpu_seconds_max: u64,
}

/// Open files at most: stdio, and what was handed over.
const OPEN_FILES_MAX: u64 = 16;

/// The same with directories to read: twice 127 layers, and what is read of them.
const OPEN_FILES_MAX_READING: u64 = 512;

/// Threads at most of all helpers of one uid.
const THREADS_MAX: u64 = 1024;

/// What a helper reaches beyond what is open.
#[derive(Clone, Copy)]
enum Reach<'d> {
    Nothing,
    Below(&'d [BorrowedFd<'d>]),
}

/// Gives up everything that is not needed to compute. To be called as root, with one thread, before the first
/// byte of input is read.
///
/// # Errors
/// A step failed or the kernel does not confirm it: the process must exit.
pub fn lock_down(limits: LockDown) -> Result<(), ConfineError> {
    give_up(limits, Reach::Nothing)
}

/// The same for a helper that reads what lies below these directories, with threads.
///
/// # Errors
/// A step failed or the kernel does not confirm it: the process must exit.
pub fn lock_down_to(limits: LockDown, dirs: &[BorrowedFd<'_>]) -> Result<(), ConfineError> {
    give_up(limits, Reach::Below(dirs))
}

fn give_up(limits: LockDown, reach: Reach<'_>) -> Result<(), ConfineError> {
    let LockDown { uid, gid, memory_bytes_max, cpu_seconds_max } = limits;
    if uid == 0 || gid == 0 {
        return Err(Difference::new("uid and gid to lock down to", "not 0", format!("{uid}:{gid}")).into());
    }
    let (programs, keep, open_files, threads) = match reach {
        Reach::Nothing => (vec![calls::program()?], CapsHashSet::new(), OPEN_FILES_MAX, 0),
        Reach::Below(_) => {
            let keep = CapsHashSet::from([Capability::CAP_DAC_READ_SEARCH]);
            (calls::reading()?, keep, OPEN_FILES_MAX_READING, THREADS_MAX)
        }
    };
    let before = read_status(&open_status()?)?;
    let after = open_status()?;
    let ruleset = match reach {
        Reach::Nothing => ruleset::nothing()?,
        Reach::Below(dirs) => ruleset::read_below(dirs)?,
    };

    prctl::set_dumpable(false).map_err(ConfineError::errno("prctl(2)", "PR_SET_DUMPABLE"))?;
    caps::clear(None, CapSet::Ambient).map_err(ConfineError::Capabilities)?;
    for capability in
        caps::read(None, CapSet::Bounding).map_err(ConfineError::Capabilities)?.difference(&keep)
    {
        caps::drop(None, CapSet::Bounding, *capability).map_err(ConfineError::Capabilities)?;
    }
    // Else the change of the uid would take it away; the change ends what is set here, too.
    prctl::set_keepcaps(!keep.is_empty()).map_err(ConfineError::errno("prctl(2)", "PR_SET_KEEPCAPS"))?;
    ids(Uid::from_raw(uid), Gid::from_raw(gid))?;
    prctl::set_keepcaps(false).map_err(ConfineError::errno("prctl(2)", "PR_SET_KEEPCAPS"))?;
    caps::clear(None, CapSet::Inheritable).map_err(ConfineError::Capabilities)?;
    caps::clear(None, CapSet::Effective).map_err(ConfineError::Capabilities)?;
    for set in [CapSet::Permitted, CapSet::Effective] {
        caps::set(None, set, &keep).map_err(ConfineError::Capabilities)?;
    }
    for (resource, limit) in [
        (Resource::RLIMIT_AS, memory_bytes_max),
        (Resource::RLIMIT_CPU, cpu_seconds_max),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, open_files),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, threads),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        limit_to(resource, limit)?;
    }
    no_new_privs()?;
    landlock::enforce(ruleset)?;
    nothing_opens()?;
    seccomp::load(&programs)?;

    let mut status = read_status(&after)?;
    let wanted: u64 = keep.iter().map(Capability::bitmask).fold(0, |all, one| all | one);
    let [inheritable, permitted, effective, bounding, ambient] = status.capabilities;
    for (field, wanted, found) in [
        ("CapInh", 0, inheritable),
        ("CapPrm", wanted, permitted),
        ("CapEff", wanted, effective),
        ("CapBnd", wanted, bounding),
        ("CapAmb", 0, ambient),
    ] {
        if wanted != found {
            return Err(Difference::new(field, format!("{wanted:#x}"), format!("{found:#x}")).into());
        }
    }
    status.capabilities = [0; 5];
    status::check(&status, &Credentials { uid, gid, groups: Vec::new() })?;
    let wanted = before.seccomp_filters + u32::try_from(programs.len()).unwrap_or(u32::MAX);
    if status.seccomp_filters == wanted {
        Ok(())
    } else {
        Err(Difference::new("Seccomp_filters", wanted, status.seccomp_filters).into())
    }
}

fn ids(uid: Uid, gid: Gid) -> Result<(), ConfineError> {
    setgroups(&[]).map_err(ConfineError::errno("setgroups(2)", "no group"))?;
    setresgid(gid, gid, gid).map_err(ConfineError::errno("setresgid(2)", gid.to_string()))?;
    setresuid(uid, uid, uid).map_err(ConfineError::errno("setresuid(2)", uid.to_string()))
}

/// Soft and hard; a hard limit that is lower already stays.
fn limit_to(resource: Resource, limit: u64) -> Result<(), ConfineError> {
    let name = format!("{resource:?}");
    let (_, hard) = getrlimit(resource).map_err(ConfineError::errno("getrlimit(2)", name.as_str()))?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).map_err(ConfineError::errno("setrlimit(2)", name.as_str()))?;
    let found = getrlimit(resource).map_err(ConfineError::errno("getrlimit(2)", name.as_str()))?;
    if found == (limit, limit) {
        Ok(())
    } else {
        let wanted = format!("{name} of {limit}");
        Err(Difference::new("resource limit", wanted, format!("{found:?}")).into())
    }
}

/// `/` could be opened by anyone a moment ago.
fn nothing_opens() -> Result<(), ConfineError> {
    let found = match File::open("/") {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(()),
        Err(error) => io::Error::to_string(&error),
        Ok(_) => "a directory".to_owned(),
    };
    Err(ConfineError::CanaryReached { path: "/".into(), found })
}
