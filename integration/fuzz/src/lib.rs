//! Every parser of bytes from outside, as a function from bytes to an answer, and what it is tried with.
//!
//! ```text
//! corpus/TARGET, seeds ─┬─ as they are, and a few hundred damaged copies ─► seconds: tests/corpus.rs, in every CI run
//!                       └─ libFuzzer with coverage (src/fuzz.rs) ─► a minute each: integration/scripts/fuzz.sh
//! ```
//! A target panics where an answer would be wrong: a fact about bytes that do not say so, more than the limits allow.
//! That it ends in time and in bounded memory is watched from outside.
//! Never here: a parser.

#![forbid(unsafe_code)]

mod damage;
mod targets;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use damage::{Dice, damaged};

/// One parser.
pub struct Target {
    /// Its name, and that of its directory in `corpus/`.
    pub name: &'static str,
    /// Gives it bytes. Panics where the answer is wrong.
    pub run: fn(&[u8]),
    /// More seeds: a directory of the workspace, and how the names of its files end.
    pub seeds: &'static [(&'static str, &'static str)],
}

const SIGNATURES: &str = "runtime/trust/tests/signatures";

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "image", run: targets::image::run, seeds: &[] },
    Target { name: "bundle", run: targets::signature::bundle, seeds: &[(SIGNATURES, ".bundle.json")] },
    Target {
        name: "simple-signing",
        run: targets::signature::simple_signing,
        seeds: &[(SIGNATURES, ".simplesigning.json")],
    },
    Target { name: "key", run: targets::signature::key, seeds: &[(SIGNATURES, ".pub")] },
    Target { name: "root", run: targets::signature::root, seeds: &[(SIGNATURES, "_root.json")] },
    Target { name: "layer", run: targets::layer::run, seeds: &[] },
    Target { name: "policy", run: targets::policy::run, seeds: &[] },
    Target { name: "import", run: targets::gather::import, seeds: &[(SIGNATURES, ".bundle.json")] },
    Target { name: "registry", run: targets::gather::registry, seeds: &[] },
    Target { name: "answers", run: targets::answers::run, seeds: &[] },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// What it is tried with first, in one order.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn corpus(&self) -> io::Result<Vec<PathBuf>> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let mut files = if own.exists() { below(&own, "")? } else { Vec::new() };
        for (dir, end) in self.seeds {
            files.extend(below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir), end)?);
        }
        files.sort();
        Ok(files)
    }
}

fn below(dir: &Path, end: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect())
}
