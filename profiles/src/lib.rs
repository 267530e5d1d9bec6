//! Profile rows and a request's own seccomp section to one seccomp program.
//!
//! ```text
//! data/baseline.toml ─build.rs─► rows ─► Table ─┐
//!                                               ├─► intersection ─► one BPF program
//! request's linux.seccomp ─────────────► Table ─┤   (strictest of all, for every call and argument)
//! names, values of a generated profile ► Table ─┘
//! ```
//! Invariant: pure. What [`program`] returns never allows a call that the baseline denies, whatever the request
//! says; and never one that the request denies. What cannot be translated exactly is a [`ProfileError`].
//! Never here: loading a program; that is `bulkhead_confine`. How rules become conditions in BPF is seccompiler's.
//!
//! Limits: arguments are compared by value, pointers are never followed; x86_64 and aarch64.

#![forbid(unsafe_code)]

mod arguments;
mod baseline;
mod compile;
mod generated;
mod names;
mod request;
mod rules;

pub use arguments::{Narrowing, VALUES_MAX, narrowing, narrowings};
pub use baseline::{Row, rows, server_rows};
pub use generated::{Call, generated_programs, told_errno};
pub use names::{is_elsewhere, syscall_name, syscall_number};
pub use request::ProfileError;
pub use rules::{Action, Condition, Test, Width};

use bulkhead_model::{Digest, MemfdRule, SeccompFilter};
use oci_spec::runtime::LinuxSeccomp;

/// Longest seccomp program the kernel accepts, in BPF instructions of 8 bytes.
///
/// Source: `BPF_MAXINSNS`, include/uapi/linux/bpf_common.h.
pub const SECCOMP_INSTRUCTIONS_MAX: usize = 4096;

/// Version of the analysis that makes profiles of images: a new one makes new profiles. Whoever looks one up links no
/// analysis, so it stands here.
pub const GENERATOR: &str = concat!("bulkhead-generate ", env!("CARGO_PKG_VERSION"), " analysis 29");

/// The program for one process: the baseline, and the request's own section on top of it.
///
/// `None` and a section that allows everything give the baseline. Where both deny in the same way, the baseline's
/// errno wins: ENOSYS where a libc should fall back. Each u64 is one `sock_filter`: code in bits 0–15, jt 16–23,
/// jf 24–31, k 32–63.
///
/// # Errors
/// The request's section cannot be translated exactly, or is longer than the kernel accepts.
pub fn program(memfd: MemfdRule, request: Option<&LinuxSeccomp>) -> Result<Vec<u64>, ProfileError> {
    let baseline = baseline::table(memfd);
    match request {
        None => compile::program(&baseline),
        Some(section) => compile::program(&baseline.intersect(&request::table(section)?)),
    }
}

/// The request's own section and nothing else: for the compatible level, where there is no baseline.
///
/// # Errors
/// As [`program`].
pub fn request_filter(section: &LinuxSeccomp) -> Result<SeccompFilter, ProfileError> {
    Ok(SeccompFilter { program: compile::program(&request::table(section)?)?, flags: 0 })
}

/// The program of the server itself, which a judge inherits until it has locked itself down. In the form of
/// [`program`].
///
/// # Errors
/// It is longer than the kernel accepts.
pub fn server_program() -> Result<Vec<u64>, ProfileError> {
    compile::program(&baseline::server_table())
}

/// Hash of the baseline's rows: another baseline makes other profiles. Worked out by build.rs: each launch with a profile
/// asks for it.
#[must_use]
pub fn baseline_hash() -> Digest {
    Digest::of_hash(baseline::ROWS_HASH)
}

/// What `memfd` and `request` answer to one call: the rules themselves, without BPF. For explanations and tests.
///
/// # Errors
/// As [`program`].
pub fn answer(
    memfd: MemfdRule,
    request: Option<&LinuxSeccomp>,
    number: u32,
    args: &[u64; 6],
) -> Result<Action, ProfileError> {
    let own = baseline::table(memfd).answer(number, args);
    Ok(match request {
        None => own,
        Some(section) => own.stricter(request::table(section)?.answer(number, args)),
    })
}
