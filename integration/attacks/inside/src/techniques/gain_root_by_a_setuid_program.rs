//! A setuid program of the image.
//!
//! Source: execve(2), no_new_privs.

use crate::{Stop, Technique};
use std::process::Command;

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1548.001",
    tries: "run a setuid program of the image and be root",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let output = Command::new("/bin/setuid-id").arg("whoami").output().map_err(Stop::at("execve"))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "0" => Ok("effective uid 0".to_owned()),
        other => Err(Stop::because(format!("effective uid {other}"))),
    }
}
