//! A machine that runs, and the commands in it.

use std::{
    fs,
    io::{Read as _, Write},
    time::{Duration, SystemTime},
};

use bulkhead_integration::{HarnessError, workspace};

use crate::{
    disk::{Disk, Scratch},
    monitor::Monitor,
    payload::Payload,
    port::{Listening, Port},
    qemu::{Memory, Parts, Qemu},
    state::State,
};

/// How long a machine may take for what it does for itself: to come back, to set its clock.
const COMMAND: Duration = Duration::from_secs(180);

/// A machine; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Qemu,
    port: Port,
    pub(crate) monitor: Monitor,
    scratch: Scratch,
}

impl Machine {
    /// A machine with the kernel `version` that nothing has run in yet, with the payload mounted.
    pub(crate) fn start(disk: &Disk, version: &str, payload: &Payload) -> Result<Self, HarnessError> {
        let state = State::of(disk, version)?;
        let mut machine = Self::begin(
            &Parts {
                disk,
                version,
                accelerator: state.accelerator,
                memory: Memory::CopyOf(&state.memory()),
                changes: &state.changes(),
                payload: &payload.path(),
            },
            disk.scratch()?,
        )?;
        let fresh = becomes_new()?;
        let came_back = machine.monitor.load(&state.devices()).and_then(|()| machine.run_or_fail(&fresh));
        match came_back {
            Ok(()) => Ok(machine),
            Err(error) => {
                eprintln!("{}", machine.last_words());
                Err(error)
            }
        }
    }

    /// Starts QEMU and takes its two connections. What the machine will do next is up to the caller.
    pub(crate) fn begin(parts: &Parts<'_>, scratch: Scratch) -> Result<Self, HarnessError> {
        let port = Listening::at(&scratch.file("port"))?;
        let monitor = Listening::at(&scratch.file("monitor"))?;
        let mut qemu = Qemu::start(parts, &scratch)?;
        let port = Port(port.accept(COMMAND, || qemu.alive(&scratch))?);
        let monitor = Monitor::on(monitor.accept(COMMAND, || qemu.alive(&scratch))?)?;
        Ok(Self { qemu, port, monitor, scratch })
    }

    /// Waits for the end of the boot.
    pub(crate) fn wait_until_ready(&mut self, within: Duration) -> Result<(), HarnessError> {
        self.port.wait_until_ready(within)
    }

    /// Runs a script; what it writes goes to `output` as it comes. Its exit code.
    pub(crate) fn run(
        &mut self,
        script: &str,
        within: Duration,
        output: &mut dyn Write,
    ) -> Result<i32, HarnessError> {
        self.port.run(script, within, output)
    }

    /// Runs a script that has to succeed.
    pub(crate) fn run_or_fail(&mut self, script: &str) -> Result<(), HarnessError> {
        let mut output = Vec::new();
        match self.run(script, COMMAND, &mut output)? {
            0 => Ok(()),
            code => {
                let outcome = format!("exit code {code}\n{}", String::from_utf8_lossy(&output));
                Err(HarnessError::Command { line: script.to_owned(), outcome })
            }
        }
    }

    /// Waits until QEMU has ended, which it was told to.
    pub(crate) fn wait(&mut self) -> Result<(), HarnessError> {
        self.qemu.wait(COMMAND)
    }

    /// The end of what the kernel, systemd and QEMU said, as lines that run-tests.sh shows.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::new();
        for name in ["console.log", "qemu.log"] {
            let text = fs::read(self.scratch.file(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace(|c: char| c.is_control() && c != '\n', "");
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(25)..] {
                words += &format!("error: {name}: {line}\n");
            }
        }
        words
    }
}

/// What a restored machine runs first: its clock stands where it was saved, its random numbers are those of every other
/// copy, and its payload is another.
fn becomes_new() -> Result<String, HarnessError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut seed = [0u8; 32];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(HarnessError::at("read", "/dev/urandom"))?;
    let seed = seed.map(|byte| format!("{byte:02x}")).concat();
    Ok(format!(
        "set -e\ndate -s @{}.{:03} >/dev/null\necho {seed} >/dev/urandom\nmkdir -p {tree}\n\
         mount -t ext4 -o noatime /dev/vdb {tree}\nln -sf {tree}/target/debug/* /usr/local/bin/\n",
        now.as_secs(),
        now.subsec_millis(),
        tree = workspace().display(),
    ))
}
