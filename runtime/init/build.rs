//! Compiles the program, for the platform of whoever embeds it.

use std::{env, error::Error, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=program");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("bulkhead-init");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-name", "bulkhead_init", "--target", &env::var("TARGET")?]);
    for option in [
        "opt-level=s",
        "panic=abort",
        "strip=symbols",
        "target-feature=+crt-static",
        "relocation-model=static",
        "link-args=-nostdlib -nostartfiles -static -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,separate-code",
    ] {
        rustc.args(["-C", option]);
    }
    let done = rustc.arg("-o").arg(&out).arg("program/main.rs").status()?;
    if done.success() { Ok(()) } else { Err(format!("rustc of program/main.rs: {done}").into()) }
}
