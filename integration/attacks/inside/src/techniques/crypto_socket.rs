//! AF_ALG: the kernel's crypto API for user space.
//!
//! Source: CVE-2016-8646, CVE-2026-31431 in algif_aead.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "AF_ALG", tries: "socket(AF_ALG)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET, 0)?;
    Ok("an AF_ALG socket".to_owned())
}
