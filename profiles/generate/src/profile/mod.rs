//! The profile: which system calls, each with the function that makes it, and what could not be decided.

mod arguments;
mod compare;
mod conditions;
mod export;
mod file;
mod import;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bulkhead_model::CallArguments;
use serde::{Deserialize, Serialize};

use crate::{Command, Landlock, Member};

pub(crate) use arguments::{Values, enforceable};
pub use compare::Difference;
pub use export::Exported;
pub use import::{ImportError, Imported};
pub(crate) use rows::{baseline_numbers, runtime_needs};

/// Format of a stored profile.
pub const FORMAT: u32 = 3;

/// What decides a profile: the same key, the same profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Digest of the image's manifest, where it is known.
    pub image: Option<String>,
    /// What is run.
    pub command: Command,
    /// Version of this generator.
    pub generator: String,
    /// Hash of the baseline's rows.
    pub baseline: String,
}

/// What a command of an image may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// [`FORMAT`].
    pub format: u32,
    /// What it is for.
    pub key: Key,
    /// Allowed calls, by name.
    pub rows: BTreeMap<String, Row>,
    /// Calls that the program can make and the baseline denies.
    pub denied_by_baseline: Vec<String>,
    /// Sites whose number is not known. If there is one, the baseline is what is allowed.
    pub unresolved: Vec<Site>,
    /// Why the baseline is what is allowed, where it is.
    pub widened: Option<String>,
    /// What could not be known besides.
    pub notes: Vec<String>,
    /// Programs and libraries.
    pub members: Vec<Member>,
    /// What of the image's files may be executed and read.
    pub landlock: Landlock,
    /// Of all ELF files in it, each counted once.
    pub elf_bytes: u64,
}

impl Profile {
    /// Values of arguments, by call.
    #[must_use]
    pub fn arguments(&self) -> CallArguments {
        let narrowed = self.rows.iter().filter(|(_, row)| !row.args.is_empty());
        narrowed.map(|(call, row)| (call.clone(), row.args.clone())).collect()
    }
}

/// An allowed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where it is made; some of the places, if there are many.
    pub reasons: Vec<Site>,
    /// Values of arguments that [`bulkhead_profiles::narrowings`] lists, where all places agree that there are only these:
    /// what is enforced. Argument number to values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<u8, BTreeSet<u32>>,
}

/// A place that enters the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    /// The function, by name or address.
    pub function: String,
    /// Its file, or what else needs the call.
    pub file: PathBuf,
    /// Address of the instruction.
    pub at: u64,
    /// Who calls the function, the nearest first, up to where the program begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<String>,
}
