//! Preparing and enforcing: see the crate's drawing.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
};

use bulkhead_model::{ConfineSpec, Credentials, DeniedCalls, HardenedSpec, MountRoots, TcpRule};
use landlock::RulesetCreated;
use nix::sys::{
    prctl,
    statvfs::{FsFlags, statvfs},
};
use seccompiler::BpfProgram;

use crate::{ConfineError, Difference, canary, compatible::Compatible, landlock as ruleset, seccomp, status};

/// Longest `/proc/<pid>/status` to be read, in bytes: some 1.5 kB, more with thousands of groups.
const STATUS_BYTES_MAX: usize = 16 * 1024;

/// A confinement of which everything that can fail beforehand is done.
#[derive(Debug)]
pub enum Prepared {
    /// Of the hardened level.
    Hardened(Hardened),
    /// Of the compatible level.
    Compatible(Compatible),
}

impl Prepared {
    /// Makes ruleset and programs. To be called in the container, after pivot_root, as its user. `roots` says where its mounts
    /// are: a rule for a path that is not among them is for a device.
    ///
    /// # Errors
    /// Anything that would make [`Prepared::enforce`] fail and can be known now.
    pub fn new(spec: &ConfineSpec, roots: &MountRoots) -> Result<Self, ConfineError> {
        match spec {
            ConfineSpec::Hardened(spec) => Hardened::new(spec, roots).map(Self::Hardened),
            ConfineSpec::Compatible(spec) => Compatible::new(spec).map(Self::Compatible),
        }
    }

    /// Files that somebody must hold open while this process, or a child of its, lives: some of its Landlock rules are for
    /// them and hold no longer than they are known to the kernel. To be called before [`Prepared::enforce`]; at most
    /// [`PINS_MAX`](crate::PINS_MAX).
    #[must_use]
    pub fn take_pins(&mut self) -> Vec<OwnedFd> {
        match self {
            Self::Hardened(prepared) => std::mem::take(&mut prepared.pins),
            Self::Compatible(_) => Vec::new(),
        }
    }

    /// Confines this process for good. After `Ok`, execve(2) is all that should follow. Where denied calls are told, the
    /// listener is given to `hand_over`, which may call sendmsg(2) and nothing else; execve(2) closes it here.
    ///
    /// # Errors
    /// A step failed, or the kernel does not confirm it: the process is in an unknown state and must exit.
    pub fn enforce(
        self,
        hand_over: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<(), ConfineError> {
        match self {
            Self::Hardened(prepared) => prepared.enforce(hand_over),
            Self::Compatible(prepared) => prepared.enforce(),
        }
    }
}

/// A hardened confinement, prepared.
#[derive(Debug)]
pub struct Hardened {
    credentials: Credentials,
    root_read_only: bool,
    canary: PathBuf,
    tcp_bind: TcpRule,
    tcp_connect: TcpRule,
    ruleset: RulesetCreated,
    pins: Vec<OwnedFd>,
    programs: Vec<BpfProgram>,
    denied_calls: DeniedCalls,
}

impl Hardened {
    fn new(spec: &HardenedSpec, roots: &MountRoots) -> Result<Self, ConfineError> {
        // The label is set before this, by whoever holds the node's own /proc; so is the user namespace entered.
        let HardenedSpec {
            credentials,
            root_read_only,
            landlock,
            seccomp,
            denied_calls,
            selinux_label: _,
            user_namespace: _,
        } = spec;
        let programs = seccomp::unpack(seccomp)?;
        let (ruleset, pins) = ruleset::ruleset(landlock, roots)?;
        canary::opens(&landlock.canary)?;
        Ok(Self {
            credentials: credentials.clone(),
            root_read_only: *root_read_only,
            canary: landlock.canary.clone(),
            tcp_bind: landlock.tcp_bind.clone(),
            tcp_connect: landlock.tcp_connect.clone(),
            ruleset,
            pins,
            programs,
            denied_calls: *denied_calls,
        })
    }

    fn enforce(self, hand_over: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> Result<(), ConfineError> {
        let Self {
            credentials,
            root_read_only,
            canary,
            tcp_bind,
            tcp_connect,
            ruleset,
            pins,
            programs,
            denied_calls,
        } = self;
        // Those that nobody took: to close them here would be a call more.
        std::mem::forget(pins);
        no_new_privs()?;
        root(root_read_only)?;
        let before = read_status(&open_status()?)?;
        status::check_unfiltered(&before, &credentials)?;
        let after = open_status()?;
        canary::opens(&canary)?;

        ruleset::enforce(ruleset)?;
        canary::is_out_of_reach(&canary)?;
        canary::ports_are_out_of_reach(&tcp_bind, &tcp_connect)?;
        match denied_calls {
            DeniedCalls::Unseen => seccomp::load(&programs)?,
            DeniedCalls::Told => seccomp::load_told(&programs, hand_over)?,
        }

        // The kernel writes the text at the first read, which is the only call that is needed from here on.
        let status = read_status(&after)?;
        // Dropping it would close(2), which a request's narrow profile may not have; execve does it (O_CLOEXEC).
        std::mem::forget(after);
        status::check(&status, &credentials)?;
        let loaded = status.seccomp_filters.checked_sub(before.seccomp_filters);
        if loaded.and_then(|loaded| usize::try_from(loaded).ok()) == Some(programs.len()) {
            Ok(())
        } else {
            let wanted = format!("{} more than {}", programs.len(), before.seccomp_filters);
            Err(Difference::new("Seccomp_filters", wanted, status.seccomp_filters).into())
        }
    }
}

/// Sets no_new_privs (it cannot be unset) and asks for it back.
pub(crate) fn no_new_privs() -> Result<(), ConfineError> {
    prctl::set_no_new_privs().map_err(ConfineError::errno("prctl(2)", "PR_SET_NO_NEW_PRIVS"))?;
    match prctl::get_no_new_privs().map_err(ConfineError::errno("prctl(2)", "PR_GET_NO_NEW_PRIVS"))? {
        true => Ok(()),
        false => Err(Difference::new("NoNewPrivs", 1, 0).into()),
    }
}

/// `/` is nosuid (file capabilities and setuid bits of the image), nodev (its device nodes), and read-only if asked.
fn root(read_only: bool) -> Result<(), ConfineError> {
    let found = statvfs("/").map_err(ConfineError::errno("statvfs(3)", "/"))?.flags();
    let mut wanted = FsFlags::ST_NOSUID | FsFlags::ST_NODEV;
    if read_only {
        wanted |= FsFlags::ST_RDONLY;
    }
    if found.contains(wanted) {
        Ok(())
    } else {
        Err(Difference::new("mount flags of /", format!("{wanted:?}"), format!("{found:?}")).into())
    }
}

pub(crate) fn open_status() -> Result<File, ConfineError> {
    let path = "/proc/self/status";
    File::open(path).map_err(ConfineError::call("open(2)", path))
}

pub(crate) fn read_status(mut file: &File) -> Result<status::Status, ConfineError> {
    let mut bytes = [0; STATUS_BYTES_MAX];
    let mut length = 0;
    let failed = || ConfineError::call("read(2)", "/proc/self/status");
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(failed())? {
            0 => break,
            more => length += more,
        }
    }
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
    Ok(status::parse_status(&text)?)
}
