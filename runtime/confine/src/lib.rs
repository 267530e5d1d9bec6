//! A process confines itself as its plan says, and asks the kernel back.
//!
//! ```text
//! Prepared::new(spec, …)   in the container, as its user, before Start: all that can fail
//!    │  Landlock ABI ≥ floor · rules added · canary can be opened · programs well-formed
//!    ▼
//! Prepared::enforce()      after Start, one thread, nothing but execve after it
//!    │  ids · no capability · no_new_privs · `/` read-only, nosuid, nodev · canary can still be opened
//!    ├─► landlock_restrict_self ─► canary gives EACCES ─► so do TCP ports, where there are rules for them
//!    ├─► seccomp programs, in order
//!    └─► /proc/self/status says so ─► Ok            any difference ─► Err, and the caller must exit
//! ```
//! Invariant: `Ok` from [`Prepared::enforce`] means that the kernel confirmed every part of the [`ConfineSpec`];
//! there is no best effort. After the seccomp programs are loaded, the only call made is read(2), so that a
//! request's own narrow profile does not stop the check.
//! Never here: what a container may do; that is in the spec. Nothing of libcontainer.
//!
//! The compatible level, where policy grants it, has neither Landlock nor a baseline: there the process gets the
//! capabilities, no_new_privs and seccomp filter that its request asks for, and the kernel is asked back as well
//! (`compatible.rs`).
//!
//! What Landlock does not do here, and why:
//! - Signals and abstract sockets are scoped (ABI 6) only where the spec says so: PID and network namespaces separate
//!   them from other pods already, and an exec is a sibling domain that must still be able to `kill -HUP 1`.
//! - TCP is handled (ABI 4) only where the spec names ports: a server's ports are its own network namespace's.
//! - Unix sockets by path (ABI 9) can be connected to below every rule: mounts decide which there are.
//! - stat, chdir, chmod and xattr calls are not covered by any ABI.

#![deny(unsafe_code)]

mod canary;
mod compatible;
mod error;
mod landlock;
mod lock_down;
mod prepared;
mod seccomp;
mod server;
mod status;
mod streams;
#[allow(unsafe_code, reason = "raw system calls live there, each with its reason")]
mod sys;

pub use error::ConfineError;
pub use landlock::{PINS_MAX, landlock_abi};
pub use lock_down::{LockDown, lock_down, lock_down_to};
pub use prepared::Prepared;
pub use server::{SERVER_CAPABILITIES, ServerAccess, ServerNeeds, confine_server};
pub use status::{Difference, Status, check_maps, check_status, parse_status};

pub use bulkhead_model::ConfineSpec;
