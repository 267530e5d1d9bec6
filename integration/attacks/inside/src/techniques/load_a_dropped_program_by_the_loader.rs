//! ld.so runs what noexec keeps execve from.
//!
//! Source: ld.so(8).

use crate::{Stop, Technique};
use std::process::Command;

pub(crate) const THIS: Technique = Technique {
    source: "ld.so(8)",
    tries: "have the image's loader run a program dropped in /tmp",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    std::fs::copy("/bin/dynamic-echo", "/tmp/echo").map_err(Stop::at("copy to /tmp/echo"))?;
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let output = Command::new(loader).args(["/tmp/echo", "loaded"]).output().map_err(Stop::at(loader))?;
    if output.stdout.starts_with(b"loaded") {
        Ok("the loader ran /tmp/echo".to_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Stop::because(said.lines().next().unwrap_or("the loader said nothing").to_owned()))
    }
}
