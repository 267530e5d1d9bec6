//! Confinement of the server on the host, which holds containers and never enters one.
//!
//! ```text
//! set up, zygote forked, one thread ─► bounding set ─► Landlock ─► probe ─► all sets ─► seccomp ─► /proc/self/status
//! ```
//! Invariant: after `Ok` the process and all that it starts have the listed capabilities and no more, open below the
//! listed paths only, and call what the program allows; there is no best effort. Signals are not scoped: the server
//! ends processes of other domains, which is its work.
//! Limit: what is open stays open. Neither a memfd nor memory mapped executable is covered by Landlock.

use std::{fs::File, io, path::PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, openat2},
    sys::prctl,
};

use crate::{
    ConfineError, Difference, landlock as ruleset,
    prepared::{open_status, read_status},
    seccomp, sys,
};

/// The capabilities that a server keeps.
///
/// Source: capabilities(7); each says for what.
pub const SERVER_CAPABILITIES: [Capability; 5] = [
    // Control groups are made in directories of root's that nobody may write to (0555).
    Capability::CAP_DAC_OVERRIDE,
    // Signals to the container's processes, which are another user's.
    Capability::CAP_KILL,
    // A judge, which begins as root, changes to its own user and gives up the rest.
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
];

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAccess {
    /// Files are read, directories listed, sockets connected to.
    Read,
    /// And programs are run.
    ReadExecute,
    /// Files that are there are read and written; nothing is made or removed.
    Use,
    /// Everything but running it, and making devices.
    Change,
    /// Files are made, read and written; none is cut, renamed or removed.
    Append,
    /// Names are removed.
    Remove,
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct ServerNeeds {
    /// What it opens; what does not exist gets no rule.
    pub paths: Vec<(PathBuf, ServerAccess)>,
    /// Its seccomp program, in the form of [`crate::ConfineSpec`].
    pub program: Vec<u64>,
}

/// Gives up everything else, for this thread and those that it will start. To be called as root with one thread.
///
/// # Errors
/// A step failed or the kernel does not confirm it: the process must exit.
pub fn confine_server(needs: &ServerNeeds) -> Result<(), ConfineError> {
    let ServerNeeds { paths, program } = needs;
    // Five capabilities are fewer than a container of the compatible level may have: one that shares the node's PID
    // namespace could trace it without CAP_SYS_PTRACE, were it dumpable.
    prctl::set_dumpable(false).map_err(ConfineError::errno("prctl(2)", "PR_SET_DUMPABLE"))?;
    let programs = seccomp::unpack(std::slice::from_ref(program))?;
    let before = read_status(&open_status()?)?;
    let after = open_status()?;
    let ruleset = rules(paths)?;

    let keep: CapsHashSet = SERVER_CAPABILITIES.into_iter().collect();
    caps::clear(None, CapSet::Ambient).map_err(ConfineError::Capabilities)?;
    for capability in
        caps::read(None, CapSet::Bounding).map_err(ConfineError::Capabilities)?.difference(&keep)
    {
        caps::drop(None, CapSet::Bounding, *capability).map_err(ConfineError::Capabilities)?;
    }
    ruleset::enforce(ruleset)?;
    root_is_closed()?;
    caps::clear(None, CapSet::Inheritable).map_err(ConfineError::Capabilities)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &keep).map_err(ConfineError::Capabilities)?;
    }
    seccomp::load(&programs)?;

    let status = read_status(&after)?;
    let bits = SERVER_CAPABILITIES.iter().fold(0, |bits, capability| bits | capability.bitmask());
    let is = |field, wanted: u64, found: u64| {
        if wanted == found { Ok(()) } else { Err(Difference::new(field, wanted, found)) }
    };
    for ((field, wanted), found) in
        [("CapInh", 0), ("CapPrm", bits), ("CapEff", bits), ("CapBnd", bits), ("CapAmb", 0)]
            .into_iter()
            .zip(status.capabilities)
    {
        is(field, wanted, found)?;
    }
    is("Threads", 1, status.threads.into())?;
    is("NoNewPrivs", 1, status.no_new_privs.into())?;
    is("Seccomp", 2, status.seccomp.into())?;
    is("Seccomp_filters", u64::from(before.seccomp_filters) + 1, status.seccomp_filters.into())?;
    Ok(())
}

fn rules(paths: &[(PathBuf, ServerAccess)]) -> Result<RulesetCreated, ConfineError> {
    let abi = ruleset::abi(1)?;
    let failed = |step| move |source| ConfineError::Landlock { step, source: Box::new(source) };
    let mut created = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed("handling file access"))?
        .create()
        .map_err(failed("creating the ruleset"))?;
    for (path, access) in paths {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
        let fd = match openat2(AT_FDCWD, path, how) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(ConfineError::errno("openat2(2)", path.display().to_string())(errno)),
        };
        let node = sys::node(&fd).map_err(ConfineError::call("statx(2)", path.display().to_string()))?;
        let mut rights = rights(*access) & AccessFs::from_all(abi);
        if !node.directory {
            rights &= AccessFs::from_file(abi);
        }
        let refused = |source| ConfineError::Rule { path: path.clone(), source: Box::new(source) };
        let rule = PathBeneath::new(fd, rights).set_compatibility(CompatLevel::HardRequirement);
        (&mut created).add_rule(rule).map_err(refused)?;
    }
    if abi >= ABI::V7 {
        created = created.log_same_exec(false).map_err(failed("keeping the probe out of the audit log"))?;
    }
    Ok(created)
}

fn rights(access: ServerAccess) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::ResolveUnix;
    let use_ = read | AccessFs::WriteFile | AccessFs::Truncate;
    match access {
        ServerAccess::Read => read,
        ServerAccess::ReadExecute => read | AccessFs::Execute,
        ServerAccess::Use => use_,
        ServerAccess::Change => {
            use_ | AccessFs::MakeDir
                | AccessFs::MakeReg
                | AccessFs::RemoveDir
                | AccessFs::RemoveFile
                | AccessFs::Refer
        }
        ServerAccess::Append => {
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::MakeReg
        }
        ServerAccess::Remove => AccessFs::RemoveFile.into(),
    }
}

/// No rule is on `/` itself, and root could list it a moment ago.
fn root_is_closed() -> Result<(), ConfineError> {
    let found = match File::open("/") {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(()),
        Err(error) => io::Error::to_string(&error),
        Ok(_) => "a directory".to_owned(),
    };
    Err(ConfineError::CanaryReached { path: "/".into(), found })
}
