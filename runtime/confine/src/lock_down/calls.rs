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
    /// The first one has CLONE_THREAD.
    Thread,
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

/// And what one may call that reads below directories, with threads.
const READING: &[(libc::c_long, Args, &str)] = &[
    (libc::SYS_openat2, Args::Any, "files below the directories; Landlock says which"),
    (libc::SYS_statx, Args::Any, "what a name is"),
    (libc::SYS_getdents64, Args::Any, "names of a directory"),
    (libc::SYS_fstat, Args::Any, "what a file is"),
    (libc::SYS_fgetxattr, Args::Any, "whether a layer's directory hides those below"),
    (libc::SYS_readlinkat, Args::Any, "targets of symbolic links"),
    (libc::SYS_pread64, Args::Any, "bytes of a file, again"),
    (libc::SYS_lseek, Args::Any, "a blob from its start"),
    (libc::SYS_clone, Args::Thread, "a thread"),
    (libc::SYS_clone3, Args::Any, "answered ENOSYS by the other filter, so that libc takes clone"),
    (libc::SYS_openat, Args::Any, "the same: malloc(3) of a second thread wants to count the processors"),
    (libc::SYS_set_robust_list, Args::Any, "a thread's start"),
    (libc::SYS_rseq, Args::Any, "a thread's start"),
    (libc::SYS_sched_getaffinity, Args::Any, "pthread_getattr_np(3) of a new thread"),
    (libc::SYS_sched_yield, Args::Any, "std's channels"),
];

/// For a helper that computes.
pub(super) fn program() -> Result<BpfProgram, ConfineError> {
    compile(CALLS.iter())
}

/// For one that reads: clone3(2) keeps its arguments in memory, where no filter sees whether it makes a thread.
pub(super) fn reading() -> Result<Vec<BpfProgram>, ConfineError> {
    let arch = std::env::consts::ARCH.try_into().map_err(failed)?;
    let not_there = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new()), (libc::SYS_openat, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        arch,
    );
    let not_there: BpfProgram = not_there.and_then(TryInto::try_into).map_err(failed)?;
    // The stricter of two answers holds, and the filter that allows less would forbid to load another.
    Ok(vec![not_there, compile(CALLS.iter().chain(READING))?])
}

fn compile<'c>(
    calls: impl Iterator<Item = &'c (libc::c_long, Args, &'c str)>,
) -> Result<BpfProgram, ConfineError> {
    let mut rules = BTreeMap::new();
    for (number, args, reason) in calls {
        debug_assert!(!reason.is_empty());
        let chain = match args {
            Args::Any => Vec::new(),
            // A condition on 32 bits: what the kernel reads of an int.
            Args::NotExecutable => {
                vec![rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), 0)?]
            }
            Args::AskDescriptor => vec![rule(1, SeccompCmpOp::Eq, libc::F_GETFD.unsigned_abs().into())?],
            Args::Thread => {
                let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
                vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]
            }
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
