//! The virtio-serial port over which a machine is told what to run.
//!
//! ```text
//! host → guest   a line: the base64 of a shell script
//! guest → host   what the script writes, then RS, its exit code, newline
//! ```
//! The guest's end is `guest/agent`. No ssh, no address, no module on the host.

use std::{
    io::{Read as _, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;

/// ASCII's record separator: what no test prints.
const SEPARATOR: u8 = 0x1e;

/// A socket that QEMU connects to when it starts.
#[derive(Debug)]
pub(crate) struct Listening(UnixListener);

impl Listening {
    pub(crate) fn at(path: &Path) -> Result<Self, HarnessError> {
        UnixListener::bind(path).map(Self).map_err(HarnessError::at("bind", path))
    }

    /// QEMU's end. `alive` says whether there is still a QEMU to wait for.
    pub(crate) fn accept(
        &self,
        within: Duration,
        mut alive: impl FnMut() -> Result<(), HarnessError>,
    ) -> Result<UnixStream, HarnessError> {
        let failed = HarnessError::at("accept", "QEMU's connection");
        if let Err(error) = self.0.set_nonblocking(true) {
            return Err(failed(error));
        }
        let deadline = Instant::now() + within;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return stream.set_nonblocking(false).map(|()| stream).map_err(failed),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(failed(error)),
                Err(_) if Instant::now() > deadline => {
                    return Err(HarnessError::Timeout { what: "QEMU's connection".to_owned(), within });
                }
                Err(_) => alive()?,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The connection to the agent in a machine.
#[derive(Debug)]
pub(crate) struct Port(pub(crate) UnixStream);

impl Port {
    /// Waits until the agent says that it listens.
    pub(crate) fn wait_until_ready(&mut self, within: Duration) -> Result<(), HarnessError> {
        self.read_record("the boot of the machine", within, &mut std::io::sink()).map(drop)
    }

    /// Runs a script; what it writes goes to `output` as it comes. Its exit code.
    pub(crate) fn run(
        &mut self,
        script: &str,
        within: Duration,
        output: &mut dyn Write,
    ) -> Result<i32, HarnessError> {
        let line = format!("{}\n", base64(script.as_bytes()));
        self.0.write_all(line.as_bytes()).map_err(HarnessError::at("write to", "the machine's port"))?;
        let code = self.read_record("the end of the command", within, output)?;
        code.parse().map_err(|_| HarnessError::Format { what: "an exit code", found: code })
    }

    /// Hands on what comes before the separator; what stands between it and the end of the line.
    fn read_record(
        &mut self,
        what: &str,
        within: Duration,
        output: &mut dyn Write,
    ) -> Result<String, HarnessError> {
        let at_port = || HarnessError::at("read", "the machine's port");
        let deadline = Instant::now() + within;
        let mut record: Option<Vec<u8>> = None;
        let mut bytes = [0; 64 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HarnessError::Timeout { what: what.to_owned(), within });
            }
            self.0.set_read_timeout(Some(left)).map_err(at_port())?;
            let read = match self.0.read(&mut bytes) {
                Ok(0) => {
                    let found = "the end of the connection".to_owned();
                    return Err(HarnessError::Format { what: "a machine that runs", found });
                }
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(at_port()(error)),
            };
            let mut rest = &bytes[..read];
            if record.is_none() {
                let end = rest.iter().position(|byte| *byte == SEPARATOR);
                let (before, after) = rest.split_at(end.unwrap_or(rest.len()));
                output
                    .write_all(before)
                    .and_then(|()| output.flush())
                    .map_err(HarnessError::at("write", "the output"))?;
                rest = after.get(1..).unwrap_or_default();
                record = end.map(|_| Vec::new());
            }
            if let Some(record) = &mut record {
                record.extend(rest);
                if record.ends_with(b"\n") {
                    return Ok(String::from_utf8_lossy(record).trim().to_owned());
                }
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().chain([&0, &0]).take(3).fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn base64_is_what_rfc_4648_says() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn output_and_exit_code_are_told_apart_however_they_are_cut_and_silence_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let guest = std::thread::spawn(move || {
            let mut line = [0; 9];
            theirs.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"ZXhpdCA3\n");
            for part in ["out\nmore", "\x1e1", "3\n"] {
                theirs.write_all(part.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            theirs
        });
        let (mut port, mut output) = (Port(ours), Vec::new());
        assert_eq!(port.run("exit 7", Duration::from_secs(20), &mut output).unwrap(), 13);
        assert_eq!(output, b"out\nmore");
        let theirs = guest.join().unwrap();
        let silent = port.run("exit 7", Duration::from_millis(50), &mut output);
        assert!(matches!(silent, Err(HarnessError::Timeout { .. })), "{silent:?}");
        drop(theirs);
        assert!(port.run("exit 7", Duration::from_secs(20), &mut output).is_err());
    }
}
