//! I/O ports: the hardware itself.
//!
//! Source: ioperm(2).

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique { source: "ioperm(2)", tries: "ioperm", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // Port 0x80: the one that nothing listens on.
    sys::raw(libc::SYS_ioperm, [0x80, 1, 1, 0, 0, 0]).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => Stop::absent("I/O ports", &error),
        _ => Stop::at("ioperm")(error),
    })?;
    Ok("I/O port 0x80".to_owned())
}
