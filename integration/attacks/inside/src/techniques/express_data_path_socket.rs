//! AF_XDP: packets past the kernel's own path.
//!
//! Source: AF_XDP in Documentation/networking.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2022-48816", tries: "socket(AF_XDP)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("AF_XDP", libc::AF_XDP, libc::SOCK_RAW, 0)?;
    Ok("an AF_XDP socket".to_owned())
}
