//! Test machines in QEMU: Debian 12 under systemd with cgroup v2, on kernels that this machine does not have.
//!
//! ```text
//! disk.sh ─► disk ─► boot once per kernel ─► stop, migrate to a file ─┐
//! cargo   ─► binaries and tests ─► payload, a disk of its own ────────┴─► restore, mount, run ─► output, exit code
//! ```
//! `bulkhead-vm run VERSION [--with PROGRAM]… [--] COMMAND…` runs a command in a machine of its own; without a command,
//! the script that it reads. Programs are taken along, and found on PATH there. `bulkhead-vm test [VERSION…]` runs every test of `tests/` in each.
//! `bulkhead-vm tree DIRECTORY` writes what a machine that is not ours needs to run them: see vagrant/Vagrantfile. KVM is used where it boots a machine in
//! time, TCG elsewhere.
//! Invariant: a command runs in a machine that nothing has run in before; what a machine writes goes with it.
//! Never here: a network. The machines have none.

#![forbid(unsafe_code)]

mod disk;
mod machine;
mod monitor;
mod payload;
mod port;
mod qemu;
mod state;
mod suite;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bulkhead_integration::HarnessError;

/// How long a command of `run` may take.
const RUN: Duration = Duration::from_secs(3600);

const USAGE: &str = "usage: bulkhead-vm run 6.1|6.12|6.12-selinux [--with PROGRAM]… [--] [COMMAND…]\n       \
     bulkhead-vm test [6.1|6.12|6.12-selinux]…\n       \
     bulkhead-vm tree DIRECTORY";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["run", version, command @ ..] if disk::MACHINES.contains(version) => run(version, command),
        ["test", versions @ ..] if versions.iter().all(|version| disk::MACHINES.contains(version)) => {
            suite::run(if versions.is_empty() { &disk::MACHINES } else { versions })
        }
        ["tree", at] => suite::tree(Path::new(at)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        error.tell("vm");
        ExitCode::FAILURE
    })
}

fn run(version: &str, mut command: &[&str]) -> Result<ExitCode, HarnessError> {
    let mut programs = Vec::new();
    while let ["--with", program, rest @ ..] = command {
        programs.push(PathBuf::from(program));
        command = rest;
    }
    let script = match command {
        [] | ["--"] => {
            let mut script = String::new();
            std::io::stdin().read_to_string(&mut script).map_err(HarnessError::at("read", "stdin"))?;
            script
        }
        ["--", words @ ..] | words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    };
    let disk = disk::Disk::made()?;
    let payload = payload::Payload::of(&disk, &programs)?;
    let mut machine = machine::Machine::start(&disk, version, &payload)?;
    let code = machine.run(&script, RUN, &mut std::io::stdout())?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A word as the shell reads it back.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
