//! Reaches into a process that the node brings into the container, before it is the program that was asked for: it is the
//! runtime's until its execve, with descriptors, memory and rights that are the runtime's too.
//!
//! ```text
//! attacker await-exec    pid 1: a child tries every process that is not yet called as this program is
//! attacker whoami        exec'd by the node, again and again
//! attacker exec-caught   what came of it
//! ```

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{Stop, sys};

/// Made when no more is to come.
const OVER: &str = "/tmp/exec-over";

/// What came of it.
const REPORT: &str = "/tmp/exec-report";

/// Longer than the node takes to exec a few times.
const WITHIN: Duration = Duration::from_secs(60);

/// As the container's first process: watches in a child.
pub(crate) fn wait() -> ! {
    if let Ok(0) = sys::fork() {
        let said = match watch(Instant::now() + WITHIN) {
            Ok(evidence) => format!("+{evidence}"),
            Err(Stop(by)) => format!("-{by}"),
        };
        let half = format!("{REPORT}.half");
        // Unwritten it is told by `report`.
        drop(fs::write(&half, said).and_then(|()| fs::rename(&half, REPORT)));
    }
    sys::pause()
}

/// Says that no more is to come; what came of it.
pub(crate) fn report() -> io::Result<String> {
    File::create(OVER)?;
    let deadline = Instant::now() + WITHIN / 3;
    while !Path::new(REPORT).exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::read_to_string(REPORT)
}

fn watch(deadline: Instant) -> Result<String, Stop> {
    let mut stopped = Stop::because("no process was seen on its way");
    while Instant::now() < deadline && !Path::new(OVER).exists() {
        for process in fs::read_dir("/proc").map_err(Stop::at("/proc"))?.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(name) = fs::read_to_string(process.path().join("comm")) else { continue };
            if name.trim_end() == "attacker" {
                continue;
            }
            match reach(pid, name.trim_end()) {
                Ok(evidence) => return Ok(evidence),
                // One that ends while it is looked at says nothing.
                Err(Reached::Gone) => {}
                Err(Reached::Stopped(by)) => stopped = by,
            }
        }
    }
    Err(stopped)
}

/// Why a process was not reached into.
enum Reached {
    Gone,
    Stopped(Stop),
}

/// Opens a file of a process.
type Way = fn(&str) -> io::Result<()>;

/// Every way into a process, one after the other.
fn reach(pid: i32, name: &str) -> Result<String, Reached> {
    let at = |file: &str| format!("/proc/{pid}/{file}");
    let ways: [(&str, Way); 6] = [
        ("mem", |path| File::options().read(true).write(true).open(path).map(drop)),
        ("fd", open_any),
        ("exe", |path| File::open(path).map(drop)),
        ("root", |path| fs::read_dir(path).map(drop)),
        ("cwd", |path| fs::read_dir(path).map(drop)),
        ("environ", |path| File::open(path).map(drop)),
    ];
    let mut stopped = Vec::new();
    for (file, way) in ways {
        match way(&at(file)) {
            // It may have become the program meanwhile, which belongs to whoever asks.
            Ok(()) if still(pid, name) => return Ok(format!("{file} of {name}")),
            Ok(()) => return Err(Reached::Gone),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                return Err(Reached::Gone);
            }
            Err(error) => stopped.push(format!("{file} {}", sys::errno_name(&error))),
        }
    }
    match trace(pid) {
        Ok(()) if still(pid, name) => return Ok(format!("{name} is traced")),
        Ok(()) => return Err(Reached::Gone),
        Err(error) => stopped.push(format!("ptrace {}", sys::errno_name(&error))),
    }
    if !still(pid, name) {
        return Err(Reached::Gone);
    }
    Err(Reached::Stopped(Stop::because(format!("{name}: {}", stopped.join(", ")))))
}

/// To list them is little: it is what stands behind one that counts.
fn open_any(path: &str) -> io::Result<()> {
    let mut last = Err(io::ErrorKind::PermissionDenied.into());
    for entry in fs::read_dir(path)?.flatten() {
        last = fs::metadata(entry.path()).map(drop);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Traces it for a moment: a tracer that ends lets go of what it traced, one that stays would keep it from being waited for.
fn trace(pid: i32) -> io::Result<()> {
    let tracer = sys::fork()?;
    if tracer == 0 {
        // PTRACE_SEIZE
        let traced = sys::raw(libc::SYS_ptrace, [0x4206, i64::from(pid), 0, 0, 0, 0]);
        sys::exit(traced.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
    }
    match sys::wait(tracer) >> 8 {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn still(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|now| now.trim_end() == name)
}
