//! An image's files to the seccomp profile that its program needs.
//!
//! ```text
//! files of the image ─► closure: which programs and libraries run, and why
//!                          │
//!                          ▼ each ELF file once, by the hash of its content
//!                       syscalls: functions, whom they call with which constants, where they enter the kernel
//!                          │
//!                          ▼ linked as ld.so would, from the entry points
//!                       profile: syscalls with the function that makes each; what could not be decided
//! ```
//! Invariant: nothing of the image is executed, and no process is started. A profile never allows what the baseline
//! denies. What cannot be decided widens the profile and is listed in it: nothing is dropped in silence.
//! Every step is counted against [`Limits`]: an image that exceeds one gets the baseline, with the reason.
//! Never here: enforcement, policy.

#![forbid(unsafe_code)]

mod cache;
mod closure;
mod elf;
mod files;
mod generate;
mod landlock;
mod limits;
mod profile;
mod syscalls;

pub use cache::{Cache, DirectoryCache, NoCache};
pub use closure::{Command, Member};
pub use files::{FilesError, Found, Kind, Layer, Root};
pub use generate::{GENERATOR, generate};
pub use landlock::{Access, Landlock, PathRule, RULES_AIM, RULES_MAX};
pub use limits::Limits;
pub use profile::{Difference, Exported, FORMAT, ImportError, Imported, Key, Profile, Row, Site};
