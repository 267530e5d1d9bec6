//! fsopen and fsconfig: a parser of file system options, in the kernel, with a history.
//!
//! Source: CVE-2022-0185 (legacy_parse_param).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2022-0185",
    tries: "fsopen a file system and configure it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let context = call("fsopen", libc::SYS_fsopen, [c"tmpfs".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    // FSCONFIG_SET_STRING
    let (key, value) = (c"source".as_ptr() as i64, c"x".as_ptr() as i64);
    call("fsconfig", libc::SYS_fsconfig, [context, 1, key, value, 0, 0])?;
    Ok("fsconfig took an option".to_owned())
}
