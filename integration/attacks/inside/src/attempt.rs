//! Tries a technique in a child process, so that a killed or stuck one tells as much as one that returns.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{Stop, sys};

/// How long a technique may take.
const WITHIN: Duration = Duration::from_secs(8);

/// What a copy of this program prints, wherever it was dropped.
pub(crate) const RAN: &str = "dropped program ran";

/// What came of a technique.
pub(crate) enum Outcome {
    /// It bit; the evidence.
    Succeeded(String),
    /// It did not; what stopped it.
    Stopped(String),
}

/// Tries it in a child.
pub(crate) fn try_in_child(attempt: fn() -> Result<String, Stop>) -> Outcome {
    let Ok((mut read, mut write)) = std::io::pipe() else {
        return Outcome::Stopped("no pipe".to_owned());
    };
    let child = match sys::fork() {
        Err(error) => return Outcome::Stopped(format!("fork: {}", sys::errno_name(&error))),
        Ok(0) => {
            drop(read);
            let line = match attempt() {
                Ok(evidence) => format!("+{evidence}"),
                Err(Stop(by)) => format!("-{by}"),
            };
            // Nobody reads it any more: nothing is left to say.
            sys::exit(i32::from(write.write_all(line.as_bytes()).is_err()));
        }
        Ok(child) => child,
    };
    drop(write);
    let deadline = Instant::now() + WITHIN;
    let status = loop {
        match sys::try_wait(child) {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                sys::kill_group(child);
                return Outcome::Stopped(format!("no end within {WITHIN:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut said = String::new();
    if status & 0x7f != 0 {
        return Outcome::Stopped(format!("killed by signal {}", status & 0x7f));
    }
    // Its own children may hold the pipe open: what it wrote is all there, so that one read suffices.
    let mut bytes = [0; 512];
    if let Ok(count) = read.read(&mut bytes) {
        said = String::from_utf8_lossy(&bytes[..count]).into_owned();
    }
    match said.split_at_checked(1) {
        Some(("+", evidence)) => Outcome::Succeeded(evidence.to_owned()),
        Some(("-", by)) => Outcome::Stopped(by.to_owned()),
        _ => Outcome::Stopped(format!("ended with {}", status >> 8)),
    }
}

/// This program, by the path that the image gives it.
pub(crate) fn own_bytes() -> Result<Vec<u8>, Stop> {
    fs::read("/bin/attacker").or_else(|_| fs::read("/proc/self/exe")).map_err(Stop::at("read /bin/attacker"))
}

/// Drops a copy of this program at `path`.
pub(crate) fn drop_copy(path: &str) -> Result<(), Stop> {
    let program = own_bytes()?;
    if Path::new(path).exists() {
        fs::remove_file(path).map_err(Stop::at(path))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
    file.and_then(|mut file| file.write_all(&program)).map_err(Stop::at(path))
}

/// Whether `command` is a copy of this program that runs.
pub(crate) fn ran(command: &mut Command) -> Result<String, Stop> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.arg("dropped").output().map_err(Stop::at(&format!("execve {program}")))?;
    if output.stdout.starts_with(RAN.as_bytes()) {
        Ok(format!("{program} ran"))
    } else {
        let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
        Err(Stop::because(format!("{program}: {} {said}", output.status)))
    }
}
