//! Confinement of a helper on the host that reads attacker's bytes: the judge.
//!
//! ```text
//! root ─► rlimits ─► bounding set ─► groups, gid, uid ─► all sets ─► no_new_privs
//!      ─► Landlock without a rule ─► probe ─► seccomp: a short list, else killed ─► /proc/self/status
//! ```
//! Invariant: after `Ok` the process has an unprivileged id, no capability, and can do no more than compute, and
//! read, write and close the files that are open already. It cannot open a path, make a socket, process or thread,
//! or map memory executable.
//! Limit: what is open stays open; the caller hands over nothing but pipes. Pages it has mapped stay mapped.

mod calls;

use std::{fs::File, io};

use bulkhead_model::Credentials;
use caps::CapSet;
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use crate::{
    ConfineError, Difference, landlock as ruleset,
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

/// Gives up everything that is not needed to compute. To be called as root, with one thread, before the first
/// byte of input is read.
///
/// # Errors
/// A step failed or the kernel does not confirm it: the process must exit.
pub fn lock_down(limits: LockDown) -> Result<(), ConfineError> {
    let LockDown { uid, gid, memory_bytes_max, cpu_seconds_max } = limits;
    if uid == 0 || gid == 0 {
        return Err(Difference::new("uid and gid to lock down to", "not 0", format!("{uid}:{gid}")).into());
    }
    let programs = [calls::program()?];
    let before = read_status(&open_status()?)?;
    let after = open_status()?;
    let ruleset = ruleset::nothing()?;

    prctl::set_dumpable(false).map_err(ConfineError::errno("prctl(2)", "PR_SET_DUMPABLE"))?;
    caps::clear(None, CapSet::Ambient).map_err(ConfineError::Capabilities)?;
    caps::clear(None, CapSet::Bounding).map_err(ConfineError::Capabilities)?;
    ids(Uid::from_raw(uid), Gid::from_raw(gid))?;
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(ConfineError::Capabilities)?;
    }
    for (resource, limit) in [
        (Resource::RLIMIT_AS, memory_bytes_max),
        (Resource::RLIMIT_CPU, cpu_seconds_max),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES_MAX),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        limit_to(resource, limit)?;
    }
    no_new_privs()?;
    ruleset::enforce(ruleset)?;
    nothing_opens()?;
    seccomp::load(&programs)?;

    let status = read_status(&after)?;
    status::check(&status, &Credentials { uid, gid, groups: Vec::new() })?;
    if status.seccomp_filters == before.seccomp_filters + 1 {
        Ok(())
    } else {
        let wanted = before.seccomp_filters + 1;
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
