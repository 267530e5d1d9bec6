//! What the suites of made-up images share.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, path::Path};

use bulkhead_generate::{Command, Layer, Limits, NoCache, Profile, Root, generate};

/// The profile of a command of the image in this directory, and of programs that may be exec'd.
pub(crate) fn profile(root: &Path, argv: &[&str], exec: &[&str]) -> Profile {
    let limits = Limits::everyday();
    let root = Root::of(Layer::open(root).unwrap(), &limits);
    let command = Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        path: vec!["/usr/bin".to_owned()],
        cwd: "/".to_owned(),
        loader_environment: BTreeMap::new(),
        exec: exec.iter().map(|path| vec![(*path).to_owned()]).collect(),
    };
    generate(&root, None, &command, &NoCache, &limits).unwrap()
}
