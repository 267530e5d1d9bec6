//! The words that every part of Bulkhead shares.
//!
//! Invariant: data only. No file, clock, network or system call; what a value means is checked when it is
//! made, so that whoever holds one need not ask again.
//! Never here: a decision. A `VerifiedImage` is made by `binding`, a `Grant` by `policy`, a `Plan` by `plan`.

#![forbid(unsafe_code)]

mod confine;
mod confinement;
mod digest;
mod id;
mod image;
mod judge;
mod layout;
mod mount;
mod refusal;
mod request;
mod signature;

pub use confine::{
    CapabilitySets, CompatibleSpec, ConfineSpec, Credentials, HardenedSpec, LandlockSpec, PathAccess,
    PathRule, SeccompFilter, TcpRule,
};
pub use confinement::{
    Confinement, ExecPattern, HostPath, LandlockRule, Level, MemfdRule, MountAccess, RootRule, UserRule,
};
pub use digest::{ChainId, Digest, DigestError, chain_ids};
pub use id::{ContainerId, IdError, Namespace, Tenant};
pub use image::{ImageFacts, ImageUser};
pub use judge::{
    BlobLine, FactsError, IMAGE_LAYERS_MAX, IMAGE_TEXT_BYTES_MAX, JUDGE_BLOB_BYTES_MAX, JUDGE_LINE_BYTES_MAX,
    JUDGE_VERSION, JudgeLine, JudgeQuestion,
};
pub use layout::{Layout, ROOT_VARIABLE};
pub use mount::{ImageVolume, Mount};
pub use refusal::{LINE_BYTES_MAX, Refusal, Rule};
pub use request::{ContainerKind, CreateRequest, ExecRequest};
pub use signature::{
    COSIGN_SIGN_PREDICATE, LogEvidence, RejectedSignature, SIGNATURE_BYTES_MAX, SIGNATURE_FILES_MAX,
    SIGNATURES_BYTES_MAX, Signature, SignatureFacts, SignatureFormat, Signer, SimpleSigningFile,
};
