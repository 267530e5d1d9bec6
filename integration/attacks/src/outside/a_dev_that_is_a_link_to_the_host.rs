//! An image whose /dev is a symbolic link: the runtime makes its device links in a directory of the host.
//!
//! Source: CVE-2025-52565 and its kin (runc: links followed while the root is prepared).

use std::fs;

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2025-52565",
    tries: "have the runtime make files in a directory of the host through a linked /dev",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let victim = arena.fresh_directory("victim")?;
    let target = victim.to_string_lossy().into_owned();
    let output = image::run_with_link(arena, column, "dev", &target)?;
    let made = fs::read_dir(&victim).map_or(0, Iterator::count);
    Ok(Outcome::judged(made > 0, format!("{made} files made in {target} of the host"), &output))
}
