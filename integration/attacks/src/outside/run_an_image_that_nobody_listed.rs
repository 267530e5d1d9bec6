//! An image that policy does not name, imported from a tarball.
//!
//! Source: containerd#12540.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "containerd#12540",
    tries: "run an image that no policy allows",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let name = format!("registry.test/elsewhere/unlisted-{}:1", arena.next());
    arena.import_unallowed(&arena.busybox(column, &name)?)?;
    let output = image::run_by_name(arena, column, &name, &["/bin/echo", "ran"])?;
    Ok(Outcome::judged(output.stdout == "ran\n", "an image that nobody listed ran", &output))
}
