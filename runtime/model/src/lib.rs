//! The words that every part of Bulkhead shares.
//!
//! Invariant: data only. No file, clock, network or system call; what a value means is checked when it is
//! made, so that whoever holds one need not ask again.
//! Never here: a decision. A `VerifiedImage` is made by `binding`, a `Grant` by `policy`, a `Plan` by `plan`.

#![forbid(unsafe_code)]

mod confine;
mod confinement;
mod contents;
mod digest;
mod fetch;
mod id;
mod image;
mod judge;
mod key;
mod layout;
mod material;
mod mount;
mod profile;
mod refusal;
mod request;
mod signature;
mod user_namespace;

pub use confine::{
    CapabilitySets, CompatibleSpec, ConfineSpec, Credentials, DeniedCalls, HardenedSpec, ImageAccess,
    LandlockSpec, MountRoot, MountRoots, PathAccess, PathRule, ScopeRule, SeccompFilter, TcpRule,
};
pub use confinement::{
    BindRule, Confinement, ExecPattern, HostPath, IdentityRule, InitRule, Interaction, LandlockRule, Level,
    MemfdRule, MountAccess, PodSecurityRule, RootRule, UserRule, VolumesRule,
};
pub use contents::{
    CONTENTS_QUESTION_BYTES_MAX, CONTENTS_VERSION, CompareTask, ContentsFacts, ContentsFlaw, ContentsLine,
    ContentsQuestion, ContentsRule, FileXattr, Hex, LayerQuestion, LayersJob, LayersTask, WalkLine,
};
pub use digest::{ChainId, Digest, DigestError, DigestOf, chain_ids};
pub use fetch::{FETCH_VERSION, FetchFrom, FetchOutcome, FetchTask};
pub use id::{ContainerId, IdError, Namespace, Tenant};
pub use image::{ImageFacts, ImageUser};
pub use judge::{
    BlobLine, FactsError, IMAGE_LAYERS_MAX, IMAGE_TEXT_BYTES_MAX, JUDGE_BLOB_BYTES_MAX, JUDGE_LINE_BYTES_MAX,
    JUDGE_VERSION, JudgeAbout, JudgeLine, JudgeQuestion, SignatureQuestion, StoredSignature,
};
pub use key::{KeyError, PublicKey};
pub use layout::{Layout, ROOT_VARIABLE};
pub use material::{RootFile, TrustMaterial};
pub use mount::{ImageVolume, Mount};
pub use profile::{
    ARGUMENTS_VERSION, CallArguments, DENIED_BYTES_MAX, DENIED_ROWS_MAX, DeniedCall, DeniedFile, EndedBadly,
    FILE_RULES_BYTES_MAX, FILE_RULES_MAX, FileRules, GeneratedFiles, GeneratedProfile, LOADER_VARIABLES,
    MountedPlace, PLACES_MAX, PROFILE_BYTES_MAX, PROFILE_VERSION, ProfileExec, ProfileQuestion, ProfileRule,
    ProfileTask, StoredProfile,
};
pub use refusal::{LINE_BYTES_MAX, Refusal, Rule};
pub use request::{ContainerKind, CreateRequest, ExecRequest};
pub use signature::{
    COSIGN_SIGN_PREDICATE, LogEvidence, RejectedSignature, SIGNATURE_BYTES_MAX, SIGNATURE_FILES_MAX,
    SIGNATURE_TEXT_BYTES_MAX, SIGNATURES_BYTES_MAX, SIGNERS_MAX, Signature, SignatureFacts,
    SignatureFactsError, SignatureFormat, Signer, SimpleSigningFile,
};
pub use user_namespace::{
    IdExtent, Ids, MountOwners, NODE_RANGES, RANGE_IDS, UserNamespace, UserNamespaceRule,
};
