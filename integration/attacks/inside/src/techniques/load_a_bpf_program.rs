//! Makes a BPF map: the verifier and its helpers are a kernel of their own.
//!
//! Source: bpf(2); CVE-2021-3490, CVE-2023-2163.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2021-3490, bpf(2)", tries: "bpf(BPF_MAP_CREATE)", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // union bpf_attr of BPF_MAP_CREATE: type (array), key size, value size, entries.
    let mut attributes = [0u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 8, 1]);
    call("bpf", libc::SYS_bpf, [0, attributes.as_ptr() as i64, 128, 0, 0, 0])?;
    Ok("a BPF map".to_owned())
}
