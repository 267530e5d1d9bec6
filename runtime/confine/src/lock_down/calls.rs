//! What a locked-down helper may call. Everything else kills it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::ConfineError;

/// Which arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Args {
    Any,
    /// The third one has no PROT_EXEC.
    NotExecutable,
    /// The second one is F_GETFD.
    AskDescriptor,
}

/// Number, arguments, reason.
const CALLS: &[(libc::c_long, Args, &str)] = &[
    (libc::SYS_read, Args::Any, "the question and the blobs come over a pipe"),
    (libc::SYS_readv, Args::Any, "std's buffered readers"),
    (libc::SYS_write, Args::Any, "the answer, and panics on stderr"),
    (libc::SYS_writev, Args::Any, "std's buffered writers"),
    (libc::SYS_close, Args::Any, "its own files at exit"),
    (libc::SYS_fcntl, Args::AskDescriptor, "std asks whether a file is open before it closes it"),
    (libc::SYS_ppoll, Args::Any, "waiting for a pipe"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Args::Any, "waiting for a pipe"),
    (libc::SYS_brk, Args::Any, "malloc(3)"),
    (libc::SYS_mmap, Args::NotExecutable, "malloc(3) of large blocks"),
    (libc::SYS_mprotect, Args::NotExecutable, "malloc(3) grows an arena"),
    (libc::SYS_mremap, Args::Any, "realloc(3) of large blocks; keeps the protection it finds"),
    (libc::SYS_munmap, Args::Any, "free(3)"),
    (libc::SYS_madvise, Args::Any, "free(3) gives pages back"),
    (libc::SYS_futex, Args::Any, "std's locks"),
    (libc::SYS_getrandom, Args::Any, "std's hash keys"),
    (libc::SYS_clock_gettime, Args::Any, "the vDSO's fall-back"),
    (libc::SYS_gettid, Args::Any, "abort(3)"),
    (libc::SYS_getpid, Args::Any, "abort(3)"),
    (libc::SYS_tgkill, Args::Any, "abort(3): SIGABRT to itself; Landlock and the uid stop others"),
    (libc::SYS_rt_sigprocmask, Args::Any, "abort(3)"),
    (libc::SYS_rt_sigaction, Args::Any, "abort(3), std's stack guard"),
    (libc::SYS_rt_sigreturn, Args::Any, "return of a handler"),
    (libc::SYS_sigaltstack, Args::Any, "std takes its stack guard down at exit"),
    (libc::SYS_restart_syscall, Args::Any, "the kernel itself puts it in after a stop signal"),
    (libc::SYS_exit, Args::Any, "the end"),
    (libc::SYS_exit_group, Args::Any, "the end"),
];

pub(super) fn program() -> Result<BpfProgram, ConfineError> {
    let mut rules = BTreeMap::new();
    for (number, args, reason) in CALLS {
        debug_assert!(!reason.is_empty());
        let chain = match args {
            Args::Any => Vec::new(),
            // A condition on 32 bits: what the kernel reads of an int.
            Args::NotExecutable => {
                vec![rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), 0)?]
            }
            Args::AskDescriptor => vec![rule(1, SeccompCmpOp::Eq, libc::F_GETFD.unsigned_abs().into())?],
        };
        rules.insert(*number, chain);
    }
    let arch = std::env::consts::ARCH.try_into().map_err(failed)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch);
    filter.and_then(TryInto::try_into).map_err(failed)
}

fn rule(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, ConfineError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value).map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

fn failed(error: seccompiler::BackendError) -> ConfineError {
    ConfineError::Seccomp { index: 0, source: Error::Backend(error) }
}
