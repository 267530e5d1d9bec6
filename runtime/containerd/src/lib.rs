//! Asks containerd what a container is made of, and the judge what its image is; binds the two.
//!
//! ```text
//! containers.Get ─► images.Get ┐                ┌ images.List (names of the same digest) ┐
//!                   Stat(key)  ├─► verdict ─────┤                                        ├─► bind ─► VerifiedImage
//!                   Mounts(key)┘   │            └ Stat of each chain ID, at once         ┘        └► Refusal
//!                                  ├ stored: read back, checked
//!                                  └ none: lock, spawn `bulkhead judge`, feed it blobs, store
//! ```
//!
//! Invariant: nothing is granted on an error. containerd that cannot be reached, does not answer in time or says
//! something odd is a [`Failure`]; a [`VerifiedImage`] comes out of `bulkhead_binding::bind` alone.
//! Invariant: bytes that an image's author wrote are hashed and counted here, never parsed.
//! Never here: policy; mounting; a process's exit status (whoever reaps the server's children may reap the judge).

#![forbid(unsafe_code)]

mod announced;
mod client;
mod content;
mod contents;
mod cri;
mod error;
mod evidence;
mod explained;
mod fetched;
mod judge;
mod observe;
mod process;
mod profiles;
mod store;
mod sweep;
mod verify;

pub use announced::{Announced, Changes, Unpacked};
pub use bulkhead_binding::{Snapshot, VerifiedImage};
pub use client::{CALL_TIMEOUT, Containerd};
pub use contents::{Contents, StartLayers, contents_facts, start_layers_alone};
pub use error::{Failure, VerifyError};
pub use evidence::{proven_signatures, signature_facts};
pub use fetched::{fetch_outcome, keep_fetch_outcome};
pub use judge::{AdmitJudge, GroupJudge, Judge, ReadBlob};
pub use profiles::{keep_analysis_small, keep_profile, layer_dirs, stored_profile};
pub use store::{Lock, remove_stale_files, try_lock};
pub use sweep::{Live, Swept, sweep};
pub use verify::{examine, examine_elsewhere, names_of, verify};
