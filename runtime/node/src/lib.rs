//! What this node holds: the root-owned files of Bulkhead, and the kernel's features.
//!
//! Invariant: a file is believed only if root alone can have written it: its owner, its mode and those of every
//! directory above it are read from the opened file descriptors, and no symlink is followed on the way.
//! Never here: what a policy means; that is `bulkhead_policy`.

#![deny(unsafe_code)]

mod idmap;
mod kernel;
mod landlock;
mod material;
mod policy;
mod sys;
mod trusted;

pub use kernel::{CgroupFacts, Finding, KernelFacts, Kvm, Standing};
pub use material::load_material;
pub use policy::{layout_from_environment, load_node_policy, load_policy, tenants_dir};
pub use trusted::{FILE_BYTES_MAX, NodeError, TrustedFile, read_trusted};
