//! Binds a container to the image that is really mounted: facts of the judge + what containerd says → a
//! [`VerifiedImage`], or a refusal.
//!
//! ```text
//! name ─images.Get─► target ─judge─► config ─► diff IDs ─chain_ids─► top chain ID
//!                                                                        ║ must be equal
//! request.rootfs ══ snapshots.Mounts(key) ─── snapshots.Stat(key).parent ╝ ─► parent ─► … ─► no parent
//! ```
//!
//! Invariant: pure. The same facts and observations give the same answer; no file, clock or network.
//! Invariant: a `VerifiedImage` exists only where [`bind`] made it; it cannot be deserialised. Chain IDs are
//! computed here from the diff IDs, never taken from whoever sent the facts.
//! Never here: whether the image may run; that is `bulkhead_policy`. How the facts were proven; that is
//! `bulkhead_trust`.
//!
//! # What a closed chain proves, and what it does not
//! It proves that containerd holds the mounted snapshot for the unpacked form of this very image. It does not prove
//! the bytes below it: the *name* of a snapshot can be squatted. Who commits a snapshot under the chain ID of an
//! image before that image is first unpacked, on the right parent, gives it other contents, and the chain closes.
//! Caught here is squatting that shows in the chain: a snapshot whose parent does not equal the next chain ID.
//! The contents themselves are compared once images are signed (DESIGN.md §4, "Contents").

#![forbid(unsafe_code)]

mod chain;
mod claim;
#[cfg(any(test, feature = "example"))]
pub mod example;
mod managed;
mod observed;
mod rootfs;
mod verified;
mod volume;

pub use chain::check as check_chain;
pub use claim::{check_claim, check_kind, image_broken, image_unknown};
pub use managed::one_mount;
pub use observed::{
    Claim, CriContainer, CriRecord, Observed, ObservedVolume, Snapshot, SnapshotKind, VolumeClaim,
};
pub use verified::{VerifiedImage, bind};
pub use volume::{VerifiedVolume, VolumePlace};
