//! The part of the bench that runs inside the daemon's mount namespace: starts shims itself, as containerd would, so
//! that their own part is seen without containerd's.
//!
//! ```text
//! exec `start` ─► address ─► Create ─► Wait, Start ─► exit ─► Delete ─► Shutdown ─► all processes gone
//! └───────────────────────────── own part: wall ──────────────────────┘
//!                     minus: containerd's API owes an answer (proxy)
//! ```
//! A shim's processes become this process's children (subreaper), so that their processor time is counted when they are
//! reaped, whoever started them.

mod proxy;
mod reap;
mod shim;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    job::{Job, Measured, Step, Turn},
    wrong,
};
use proxy::Proxy;
use shim::Shim;
pub(crate) use shim::make_log;

/// Says that this process is the part that runs inside.
pub(crate) const ARGUMENT: &str = "--inside";

/// How much a container writes to its standard output, in bytes.
pub(crate) const STDOUT_BYTES: u64 = 256 << 20;

/// How long that may take.
const DRAINED: Duration = Duration::from_secs(60);

/// Does a job from standard input.
pub(crate) fn run() -> Result<(), HarnessError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(HarnessError::at("read", "standard input"))?;
    let job: Job = serde_json::from_str(&text).map_err(|error| wrong("a job", error.to_string()))?;
    reap::adopt_orphans()?;
    let proxy = Proxy::start(&job.proxy, &job.containerd)?;
    let mut measured = Vec::with_capacity(job.steps.len());
    for step in &job.steps {
        measured.push(match step {
            Step::Launch(turn) => launch(&job, &proxy, turn)?,
            Step::Refused(turn) => refused(&job, &proxy, turn)?,
            Step::Throughput(turn) => throughput(&job, turn)?,
            Step::Floor { program, script } => floor(program, script)?,
        });
    }
    println!("{}", serde_json::to_string(&measured).map_err(|error| wrong("JSON", error.to_string()))?);
    Ok(())
}

fn launch(job: &Job, proxy: &Proxy, turn: &Turn) -> Result<Measured, HarnessError> {
    let cpu = reap::children_cpu_ms()?;
    proxy.forget();
    let began = Instant::now();
    let shim = Shim::start(job, turn)?;
    let asked = Instant::now();
    shim.create(turn, None)?;
    let create_ms = millis(asked);
    shim.run_to_its_end(|| Ok(()))?;
    shim.delete()?;
    shim.shut_down();
    let wall_ms = millis(began);
    let waited_ms = proxy.waited_ms();
    reap::all_gone()?;
    Ok(Measured {
        wall_ms,
        waited_ms,
        cpu_ms: reap::children_cpu_ms()? - cpu,
        create_ms,
        ..Measured::default()
    })
}

fn refused(job: &Job, proxy: &Proxy, turn: &Turn) -> Result<Measured, HarnessError> {
    let shim = Shim::start(job, turn)?;
    proxy.forget();
    let asked = Instant::now();
    let answer = shim.create(turn, None);
    let (create_ms, waited_ms) = (millis(asked), proxy.waited_ms());
    match answer {
        Err(error) if error.to_string().contains("bulkhead refused: ") => {}
        Err(error) => return Err(error),
        Ok(()) => return Err(wrong("a refusal by the last gate", "it was created")),
    }
    shim.shut_down();
    reap::all_gone()?;
    Ok(Measured { create_ms, waited_ms, ..Measured::default() })
}

fn throughput(job: &Job, turn: &Turn) -> Result<Measured, HarnessError> {
    let path = turn.bundle.join("stdout");
    reap::make_fifo(&path)?;
    // Where runc's shim has one stream, it must have the other; nobody needs to read a few lines.
    let stderr = turn.bundle.join("stderr");
    reap::make_fifo(&stderr)?;
    let opened = OpenOptions::new().read(true).write(true).open(&stderr);
    let _kept = opened.map_err(HarnessError::at("open", &stderr))?;
    let shim = Shim::start(job, turn)?;
    let megabytes_per_second = thread::scope(|scope| {
        let reader = scope.spawn(|| drain(&path));
        shim.create(turn, Some((&path, &stderr)))?;
        shim.run_to_its_end(|| reader.join().unwrap_or_else(|_| Err(wrong("a reader", "it panicked"))))
    })?;
    shim.delete()?;
    shim.shut_down();
    reap::all_gone()?;
    Ok(Measured { megabytes_per_second, ..Measured::default() })
}

/// Reads all that a container writes; MB a second from the first byte to the last.
fn drain(path: &Path) -> Result<f64, HarnessError> {
    // Neither waits for a writer nor, with a deadline, for its bytes: a container that never starts ends it.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut fifo = opened.map_err(HarnessError::at("open", path))?;
    let deadline = Instant::now() + DRAINED;
    let mut buffer = vec![0; 1 << 20];
    let (mut total, mut began) = (0, None);
    while total < STDOUT_BYTES {
        if Instant::now() > deadline {
            return Err(wrong("all of the output", format!("{total} bytes after {DRAINED:?}")));
        }
        let mut ready = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(1000u16)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(HarnessError::at("poll", path)(errno.into())),
        }
        match fifo.read(&mut buffer) {
            Ok(0) => return Err(wrong("all of the output", format!("{total} bytes"))),
            Ok(more) => total += more as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(HarnessError::at("read", path)(error)),
        }
        began.get_or_insert_with(Instant::now);
    }
    let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
    Ok(total as f64 / 1e6 / seconds)
}

fn floor(program: &Path, script: &Path) -> Result<Measured, HarnessError> {
    let cpu = reap::children_cpu_ms()?;
    let began = Instant::now();
    let failed = |source| HarnessError::Run { program: program.display().to_string(), source };
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    let wall_ms = millis(began);
    if !status.success() {
        let script = fs::read_to_string(script).unwrap_or_default();
        return Err(wrong("a floor that ends well", format!("{status}\n{script}")));
    }
    Ok(Measured { wall_ms, cpu_ms: reap::children_cpu_ms()? - cpu, ..Measured::default() })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
