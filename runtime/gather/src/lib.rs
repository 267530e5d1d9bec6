//! Gathers signatures: from a registry, an OCI layout, a tarball of one, or a file, into the node's store.
//!
//! ```text
//! registry (mirrors, TLS, password) ─┐
//! OCI layout, its tarball ───────────┼─► manifests ─► Found { subject, format, bytes } ─► Store (by subject and hash)
//! bundle file ───────────────────────┘       └─► Skipped { what, why }
//! ```
//! Invariant: nothing here is believed. What is kept is filed under the digest that it says it is about; whether that
//! is so, and who signed, a judge finds out at each launch. A file here can at most take up room.
//! Invariant: every byte from outside is counted before it is read, hashed where it has a digest, and waited for with a
//! deadline; a document is parsed into fields that are known, and never run.
//! Never here: keys, policy, containerd; anything on the path of a launch.

#![forbid(unsafe_code)]

mod blobs;
mod bundle;
mod error;
mod import;
mod manifest;
mod registry;
mod store;

pub use blobs::{Blobs, Layout as OciLayout};
pub use error::GatherError;
pub use import::import;
pub use manifest::{Found, Harvest, Skipped};
pub use registry::{Access, Fetched, Reference, fetch};
pub use store::{Added, Entry, Proven, Store, StoreError};
