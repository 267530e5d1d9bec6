//! A worker whose executable cannot be written through: for containers of the compatible level, whose processes may
//! be root.
//!
//! ```text
//! zygote ─clone─► worker: job is compatible ─► own executable, cloned as a read-only mount of no namespace
//!                                            └─execveat(2)─► the same worker again: checks /proc/self/exe, does the job
//! ```
//! Until its execve(2) a container's process is this executable: whoever makes the container run `/proc/self/exe`
//! can open that as root (CVE-2019-5736). Through a read-only mount no one can write, and a mount of no
//! namespace cannot be made writable again. Hardened containers have no root and need none of this.
//!
//! Source of the idea: `CloneSelfExe`, runc libcontainer/exeseal.

use std::{
    ffi::CString,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use bulkhead_cgroup::Host;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::statvfs::{FsFlags, fstatvfs},
};

use crate::{
    LaunchError,
    error::chain,
    message,
    rootfs::{MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY},
    sys, worker,
};

/// The first argument of a worker that was started again.
pub const WORKER_ARGUMENT: &str = "worker";

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// The first descriptor that a job of a worker started again has.
const FIRST_FD: i32 = 3;

/// Whether nobody can write to this process's executable through `/proc/<pid>/exe`.
pub(crate) fn is_sealed() -> Result<bool, LaunchError> {
    let failed = || LaunchError::io("open(2)", "/proc/self/exe");
    let executable = File::open("/proc/self/exe").map_err(failed())?;
    let flags = fstatvfs(&executable).map_err(LaunchError::io("fstatvfs(3)", "/proc/self/exe"))?.flags();
    if flags.contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    // Only a memfd has seals; of others the call is EINVAL.
    let seals = fcntl(&executable, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    Ok(seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL)))
}

/// Starts this worker again, sealed, with the descriptors of its job. Returns only to say why that failed.
pub(crate) fn start_again(fds: &[&OwnedFd]) -> LaunchError {
    match prepare(fds) {
        Ok((executable, argv)) => {
            let error = sys::execveat(executable.as_fd(), &argv, &[]);
            LaunchError::Io { call: "execveat(2)", subject: "sealed worker".to_owned(), source: error }
        }
        Err(error) => error,
    }
}

fn prepare(fds: &[&OwnedFd]) -> Result<(OwnedFd, Vec<CString>), LaunchError> {
    let executable = sys::open_tree_clone(SELF).map_err(LaunchError::io("open_tree(2)", "/proc/self/exe"))?;
    sys::set_mount_attributes(executable.as_fd(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
        .map_err(LaunchError::io("mount_setattr(2)", "/proc/self/exe"))?;
    // First all of them above the slots that they go to, so that none is overwritten on the way.
    let last = FIRST_FD + i32::try_from(fds.len()).map_err(|_| LaunchError::Plan("too many descriptors"))?;
    let above = |fd: &OwnedFd| -> Result<OwnedFd, LaunchError> {
        fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(last + 1))
            .map(sys::adopt)
            .map_err(LaunchError::io("fcntl(2)", "F_DUPFD_CLOEXEC"))
    };
    let moved = fds.iter().map(|fd| above(fd)).collect::<Result<Vec<_>, _>>()?;
    let executable = above(&executable)?;
    for (fd, slot) in moved.into_iter().zip(FIRST_FD..) {
        sys::move_fd(fd, slot).map_err(LaunchError::io("dup2(2)", "sealed worker"))?;
    }
    sys::close_on_exec_from(last).map_err(LaunchError::io("close_range(2)", "sealed worker"))?;
    let text =
        |text: String| CString::new(text).map_err(|_| LaunchError::Plan("an argument holds a zero byte"));
    let argv = ["containerd-shim-bulkhead-v2".to_owned(), WORKER_ARGUMENT.to_owned(), fds.len().to_string()];
    Ok((executable, argv.into_iter().map(text).collect::<Result<_, _>>()?))
}

/// The life of a worker that was started again: `arguments` are those after [`WORKER_ARGUMENT`].
#[must_use]
pub fn run_sealed_worker(arguments: &[std::ffi::OsString]) -> ExitCode {
    let number = |index: usize| arguments.get(index)?.to_str()?.parse::<u32>().ok();
    let Some(count @ 2..=8) = number(0) else {
        eprintln!("containerd-shim-bulkhead-v2: {WORKER_ARGUMENT} is for its own use");
        return ExitCode::FAILURE;
    };
    // execve(2) made it dumpable again.
    if sys::prctl(libc::PR_SET_DUMPABLE, 0).is_err() {
        return ExitCode::FAILURE;
    }
    let fds: Vec<OwnedFd> = (0..count).map(|index| sys::adopt(FIRST_FD + index.cast_signed())).collect();
    for fd in &fds {
        if sys::set_close_on_exec(fd.as_fd()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let code = match Host::detect() {
        Ok(host) => worker::run(fds, &host, std::os::unix::process::parent_id()),
        Err(error) => {
            let text = message::failed(None, &chain(&error));
            fds.first().and_then(|reply| message::send(reply.as_fd(), &text, &[]).err()).map_or(1, |_| 2)
        }
    };
    sys::exit_now(code)
}
