//! QEMU's machine protocol: stop, save, load, go on.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;
use serde_json::{Value, json};

/// How long QEMU may take to answer, and to save or load a machine.
const ANSWER: Duration = Duration::from_secs(120);

/// A connection to QEMU's monitor, past its greeting.
#[derive(Debug)]
pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    pub(crate) fn on(stream: UnixStream) -> Result<Self, HarnessError> {
        stream
            .set_read_timeout(Some(ANSWER))
            .map_err(HarnessError::at("set the timeout of", "QEMU's monitor"))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.call("qmp_capabilities", json!({}))?;
        // The memory is a file that is shared with the machine: only the devices are saved and loaded.
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        monitor.call("migrate-set-capabilities", capabilities)?;
        Ok(monitor)
    }

    /// Stops the machine and writes the state of its devices.
    pub(crate) fn save(&mut self, to: &Path) -> Result<(), HarnessError> {
        self.call("stop", json!({}))?;
        self.call("migrate", json!({ "uri": format!("file:{}", to.display()) }))?;
        self.wait_until_migrated()?;
        self.call("quit", json!({})).map(drop)
    }

    /// Loads the state of a machine that was saved, and lets it go on.
    pub(crate) fn load(&mut self, from: &Path) -> Result<(), HarnessError> {
        self.call("migrate-incoming", json!({ "uri": format!("file:{}", from.display()) }))?;
        self.wait_until_migrated()?;
        self.call("cont", json!({})).map(drop)
    }

    fn wait_until_migrated(&mut self) -> Result<(), HarnessError> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let answer = self.call("query-migrate", json!({}))?;
            match answer["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(HarnessError::Format { what: "a migration", found: answer.to_string() });
                }
                _ if Instant::now() > deadline => {
                    return Err(HarnessError::Timeout {
                        what: "QEMU's migration".to_owned(),
                        within: ANSWER,
                    });
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn call(&mut self, command: &str, arguments: Value) -> Result<Value, HarnessError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(HarnessError::at("write to", "QEMU's monitor"))?;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).map_err(HarnessError::at("read", "QEMU's monitor"))?;
            let wrong = |found: String| HarnessError::Format { what: "an answer of QEMU's monitor", found };
            let mut answer: Value = serde_json::from_str(&line).map_err(|_| wrong(line))?;
            // Its greeting and its events come in between.
            if !answer["error"].is_null() {
                return Err(wrong(format!("{command}: {answer}")));
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }
}
