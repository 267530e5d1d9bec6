//! Other programs decide by it.
//!
//! Source: sethostname(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "sethostname(2)", tries: "sethostname", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    call("sethostname", libc::SYS_sethostname, [c"evil".as_ptr() as i64, 4, 0, 0, 0, 0])?;
    Ok("the hostname is evil".to_owned())
}
