//! Decides whether an image may run, and how it is confined: a [`VerifiedImage`](bulkhead_binding::VerifiedImage)
//! and a request to a [`Grant`], or to a refusal.
//!
//! ```text
//! policy.toml ──parse─┐                  ┌─► Grant ──admit_exec(argv)─► ExecGrant | Refusal
//! tenants/NS.toml ────┴─► Policy ─admit──┤
//!                            VerifiedImage└─► Refusal (mode = "audit": a Grant that carries it)
//! ```
//!
//! Invariant: pure. The same texts, image and request give the same decision; no file, clock or network.
//! Invariant: strict. What is not understood in full refuses all. A tenant's file can only narrow the node's.
//! Invariant: a `Grant` exists only where [`Policy::admit`] made it, an `ExecGrant` only where a `Grant` did.
//! Never here: reading files and their owners, that is `bulkhead_node`; what a confinement comes to, that is
//! `bulkhead_plan`.

#![forbid(unsafe_code)]

mod confine;
mod contents;
mod exec;
mod explain;
mod glob;
mod grant;
mod keys;
mod material;
mod parse;
mod parse_confine;
mod parse_exec;
mod parse_landlock;
mod parse_level;
mod parse_rule;
mod policy;
mod read;
mod rule;
mod scope;
mod source;
mod strict;

pub use explain::explain;
pub use grant::{Accepted, ExecGrant, Grant, Preview};
pub use material::{NamedFile, NamedKind};
pub use policy::{ContentsRules, Needs, Policy};
pub use rule::FetchRule;
pub use source::{PolicyError, Problem, Source};

/// What a refusal of policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It refuses.
    Enforce,
    /// It is recorded, and the task runs.
    Audit,
}
