//! The node's shared memory and queues.
//!
//! Source: Pod Security baseline.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "share the node's ipc namespace",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    spec::share_namespace(arena, column, "ipc")
}
