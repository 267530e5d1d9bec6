//! The kernel's function tracer, following forks, with a buffer that holds everything or says so.
//!
//! ```text
//! shim's stand-in: its pid into set_ftrace_pid, then the shim ─► function-fork: every descendant and thread
//! tracing_on ─► … trace_marker: serving … served … ─► off ─► per_cpu/*/trace_pipe_raw ─► functions, by phase
//! ```
//! Invariant: a lost event is an error, so that no number is too small by it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result, run};

use crate::ring::{self, Event};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Size of the buffer of each processor, in KiB: the largest run here fills some three quarters of it.
const BUFFER_KIB: u32 = 160_000;

/// The functions that were reached, by address.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// From the first process to the last.
    pub(crate) whole: BTreeSet<u64>,
    /// Between the two marks.
    pub(crate) serving: BTreeSet<u64>,
    /// How many entries of functions were looked at.
    pub(crate) entries: u64,
}

/// The tracer, set up; it records while [`Self::during`] runs.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// A process that does nothing: without any pid the kernel would trace all.
    nobody: Child,
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = self.nobody.kill().and_then(|()| self.nobody.wait()) {
            eprintln!("reach: end sleep: {error}");
        }
    }
}

impl Tracer {
    /// Mounts tracefs where it is not, and sets the buffer's size.
    pub(crate) fn new() -> Result<Self> {
        if !path("current_tracer").exists() {
            run(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]), Duration::from_secs(60))?
                .success()?;
        }
        let marks = path(MARKS);
        if !marks.exists() {
            fs::create_dir(&marks).map_err(HarnessError::at("mkdir", marks))?;
        }
        put("tracing_on", "0")?;
        put("buffer_size_kb", &BUFFER_KIB.to_string())?;
        put("options/overwrite", "0")?;
        put("options/function-fork", "1")?;
        let failed = |source| HarnessError::Run { program: "sleep".to_owned(), source };
        Ok(Self { nobody: Command::new("sleep").arg("infinity").spawn().map_err(failed)? })
    }

    /// A script that has itself and its descendants traced, and becomes `program`.
    pub(crate) fn stand_in(program: &Path) -> String {
        format!("#!/bin/sh\necho $$ >>{TRACEFS}/set_ftrace_pid\nexec {} \"$@\"\n", program.display())
    }

    /// What the descendants of stand-ins reach while `what` runs.
    pub(crate) fn during(&self, what: impl FnOnce() -> Result<()>) -> Result<Reached> {
        put("set_ftrace_pid", &self.nobody.id().to_string())?;
        put("current_tracer", "function")?;
        // Empties the buffer.
        put("trace", "")?;
        put("tracing_on", "1")?;
        let done = what();
        put("tracing_on", "0")?;
        let reached = done.and_then(|()| read());
        // Empties the buffer as well.
        put("current_tracer", "nop")?;
        reached
    }
}

/// From here on a function counts as reached while serving.
pub(crate) fn mark_serving() -> Result<()> {
    put_mark(SERVING)
}

/// Up to here.
pub(crate) fn mark_served() -> Result<()> {
    put_mark(SERVED)
}

/// A buffer for the marks alone, by the same clock: they are known before the functions are looked at.
const MARKS: &str = "instances/reach-marks";
/// Source: include/uapi/asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;

const SERVING: &str = "reach: serving";
const SERVED: &str = "reach: served";

fn put_mark(text: &str) -> Result<()> {
    put(&format!("{MARKS}/trace_marker"), text)
}

fn read() -> Result<Reached> {
    let (began, ended) = marks()?;
    let mut reached = Reached::default();
    let buffers = buffers(Path::new(TRACEFS))?;
    buffers.iter().try_for_each(|buffer| lost_nothing(buffer))?;
    for buffer in &buffers {
        events(buffer, |event| {
            if let Event::Entered { at, address } = event {
                reached.entries += 1;
                reached.whole.insert(address);
                if (began..=ended).contains(&at) {
                    reached.serving.insert(address);
                }
            }
        })?;
    }
    Ok(reached)
}

/// When serving began and ended; where nothing was served, a time that is never.
fn marks() -> Result<(u64, u64)> {
    let (mut began, mut ended) = (u64::MAX, 0);
    for buffer in buffers(&path(MARKS))? {
        events(&buffer, |event| match event {
            Event::Marked { at, text } if text == SERVING => began = at,
            Event::Marked { at, text } if text == SERVED => ended = at,
            _ => {}
        })?;
    }
    Ok((began, ended))
}

/// An error where the kernel had no room for an event.
fn lost_nothing(buffer: &Path) -> Result<()> {
    let stats = buffer.join("stats");
    let text = fs::read_to_string(&stats).map_err(HarnessError::at("read", &stats))?;
    for line in text.lines() {
        let (name, number) = line.split_once(": ").unwrap_or((line, ""));
        if ["overrun", "commit overrun", "dropped events"].contains(&name) && number.trim() != "0" {
            return Err(HarnessError::Format { what: "a buffer that lost nothing", found: text });
        }
    }
    Ok(())
}

/// The directory of each processor's buffer.
fn buffers(of: &Path) -> Result<Vec<PathBuf>> {
    let dir = of.join("per_cpu");
    let entries = fs::read_dir(&dir).map_err(HarnessError::at("read", &dir))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// Gives every event of one processor's buffer to `take`, and takes it out of there.
fn events(buffer: &Path, mut take: impl FnMut(Event)) -> Result<()> {
    let path = buffer.join("trace_pipe_raw");
    // An empty buffer is an end.
    let opened = File::options().read(true).custom_flags(O_NONBLOCK).open(&path);
    let mut file = opened.map_err(HarnessError::at("open", &path))?;
    let mut page = [0; ring::PAGE];
    loop {
        match file.read(&mut page) {
            Ok(0) => return Ok(()),
            Ok(count) => ring::read(&page[..count], &mut take).map_err(|damaged| HarnessError::Format {
                what: "a page of the ring buffer",
                found: damaged.0.to_owned(),
            })?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(HarnessError::at("read", path)(error)),
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(TRACEFS).join(name)
}

fn put(name: &str, text: &str) -> Result<()> {
    fs::write(path(name), text).map_err(HarnessError::at("write", path(name)))
}
