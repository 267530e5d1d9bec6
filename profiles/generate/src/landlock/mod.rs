//! The closure to a Landlock ruleset: what of the image may be executed, and what may be read.
//!
//! ```text
//! files of the image ─► tree: each file a program, a library or data; of the closure or not
//!                          │
//!                          ▼ whole directories where nothing below is kept out
//!                       rules: execute + read for programs of the closure; read for its libraries and for data
//! ```
//! Landlock has no rule that denies, and a right on a directory reaches all below it. So a directory has a rule only if
//! nothing below it is kept out; else its entries have theirs.
//!
//! Invariant: no rule reaches a program that is not of the closure, with execute or with read: `ld.so PROGRAM` needs no
//! more than read. A library outside of the closure is kept out too while that takes few rules; where it would not, it
//! can be read and not executed, and is counted.
//! Never here: mounts, devices, /tmp: the container's own plan has rules for those.

mod kind;
mod tree;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{FilesError, Root, closure::Closure};

/// Rules that are aimed at. Beyond it, directories with libraries that nobody loads are taken as a whole.
pub const RULES_AIM: usize = 64;
/// Most rules. Each costs the container's start an open and an add; an image that takes more gets none.
pub const RULES_MAX: usize = 1024;

/// What a rule gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read files, list directories.
    Read,
    /// And execute.
    ReadExecute,
}

impl Access {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::ReadExecute => "execute",
        }
    }
}

/// One rule: a file, or a directory with all below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathRule {
    /// Absolute path in the image, without links on the way.
    pub path: PathBuf,
    /// What is allowed there.
    pub access: Access,
}

/// Rules for the image's own files. Every right in them is of Landlock ABI 1 (Linux 5.13): no kernel that has Landlock
/// loses one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// In order of their paths.
    pub rules: Vec<PathRule>,
    /// Programs of the image that can be neither executed nor read.
    pub programs_out: u64,
    /// Libraries of the image that cannot be read.
    pub libraries_out: u64,
    /// Libraries outside of the closure that can be read all the same.
    pub libraries_readable: u64,
    /// Why all of the image may be executed and read, where it may: there are no rules then.
    pub widened: Option<String>,
}

impl Landlock {
    /// The rule that gives the most on a path of the image, which has no link on its way. `None`: it can be neither executed
    /// nor read, unless there are no rules at all.
    #[must_use]
    pub fn rule_for(&self, path: &Path) -> Option<&PathRule> {
        self.rules.iter().filter(|rule| path.starts_with(&rule.path)).max_by_key(|rule| rule.access)
    }

    /// No narrowing, with the reason.
    #[must_use]
    pub fn whole_image(why: &str) -> Self {
        Self { widened: Some(why.to_owned()), ..Self::default() }
    }
}

/// The ruleset of a closure.
pub(crate) fn ruleset(root: &Root, closure: &Closure<'_>) -> Result<Landlock, FilesError> {
    let tree = tree::Tree::of(root, closure)?;
    // From keeping every library out to taking each directory without a foreign program as a whole.
    let limits = [usize::MAX, 64, 32, 16, 8, 4, 2, 1];
    let covers = limits.iter().map(|limit| tree.cover(*limit));
    let mut narrowest = None;
    for cover in covers {
        let few = cover.rules.len() <= RULES_AIM;
        let fewer =
            narrowest.as_ref().is_none_or(|other: &tree::Cover| cover.rules.len() < other.rules.len());
        if few || fewer {
            narrowest = Some(cover);
        }
        if few {
            break;
        }
    }
    let tree::Cover { rules, libraries_readable } = narrowest.unwrap_or_default();
    if rules.len() > RULES_MAX {
        let why =
            format!("programs outside of the closure lie among data: {} rules would be needed", rules.len());
        return Ok(Landlock::whole_image(&why));
    }
    if let Some(rule) = rules.iter().find(|rule| rule.path.to_str().is_none()) {
        // Nobody could write it down.
        return Ok(Landlock::whole_image(&format!("{} is no UTF-8", rule.path.display())));
    }
    Ok(Landlock {
        rules,
        programs_out: tree.programs_out(),
        libraries_out: tree.libraries_out() - libraries_readable,
        libraries_readable,
        widened: None,
    })
}

/// Directories where programs are looked for: a script there is a program, elsewhere it is the data of an interpreter.
fn program_directories(root: &Root, closure: &Closure<'_>) -> Result<BTreeSet<PathBuf>, FilesError> {
    const USUAL: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let mut found = BTreeSet::new();
    for directory in USUAL.iter().map(PathBuf::from).chain(closure.command.path.iter().map(PathBuf::from)) {
        if let Some(directory) = root.find(&directory)? {
            found.insert(directory.path);
        }
    }
    Ok(found)
}
