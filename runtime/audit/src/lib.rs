//! The record of verdicts: `/var/lib/bulkhead/audit/verdicts.jsonl`, one JSON line each.
//!
//! ```text
//! verdict ─► open (append) ─► flock ─► [a newline, where a killed writer left half a line] ─► one write ─► launch
//!                 └──────────────┴──────────── RecordError: nothing is launched ──┘
//! ```
//! Invariant: the line is in the file before what it allows begins; what cannot be recorded does not run.
//! Invariant: lines of several writers never mix, and what a killed writer began is never part of another's line.
//! Invariant: a line names images, digests, signers and rules; never argv, an environment value or a secret.
//! Limit: the line is with the kernel when [`append`] returns, not on the platter: a power cut may take the last ones.
//! Never here: who decides, and what; reading the record for people. A chain of hashes and rotation belong here later:
//! every line is written with the lock held and the end of the file in sight, and the file is opened anew for each.

#![forbid(unsafe_code)]

mod append;
mod line;
mod time;

pub use append::{LINE_BYTES_MAX, RecordError, append};
pub use line::{Call, Contents, ImageLine, Line, Outcome, RefusalLine, SignedBy, TimingsUs};
