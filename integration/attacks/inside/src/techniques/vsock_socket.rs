//! AF_VSOCK goes round every network policy to the hypervisor.
//!
//! Source: vsock(7), CVE-2021-26708.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2021-26708", tries: "socket(AF_VSOCK)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    sys::socket("AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    Ok("a vsock socket".to_owned())
}
