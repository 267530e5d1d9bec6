//! Runs programs with a deadline, and keeps what they wrote.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{HarnessError, RUNC, Result};

/// How often runc may answer where its shim loses output.
const RUNC_ANSWERS: usize = 5;

/// What a program left when it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// Its exit code; -1 where a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// This output, or an error where the exit code is not 0.
    pub fn success(self) -> Result<Self> {
        if self.ok() { Ok(self) } else { Err(self.into_error()) }
    }

    /// An error that says how it ended.
    #[must_use]
    pub fn into_error(self) -> HarnessError {
        let outcome = format!("{}\n{}{}", self.status, self.stdout, self.stderr);
        HarnessError::Command { line: self.line, outcome }
    }
}

/// Runs `command` to its end. One that takes longer than `within` is killed, which is an error.
pub fn run(command: &mut Command, within: Duration) -> Result<Output> {
    run_on(command, Stdio::null(), within)
}

/// As [`run`], reading `stdin`.
pub fn run_on(command: &mut Command, stdin: Stdio, within: Duration) -> Result<Output> {
    let line = line_of(command);
    let failed = |source| HarnessError::Run { program: line.clone(), source };
    let started = Instant::now();
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    // One thread per pipe: a program that fills one of them must not wait for the other.
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let Some(status) = wait(&mut child, within).map_err(failed)? else {
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        return Err(HarnessError::Timeout { what: line, within });
    };
    let took = started.elapsed();
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Output { line, status, stdout: text(stdout), stderr: text(stderr), took })
}

/// Waits up to `within`: `None` when it still runs.
pub fn wait(child: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    // Starts fine so that start times are measured well, ends coarse so that long runs cost nothing.
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(5));
    }
}

/// Asks `ready` until it says yes.
pub fn until(what: &str, within: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !ready()? {
        if Instant::now() >= deadline {
            return Err(HarnessError::Timeout { what: what.to_owned(), within });
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends what can be read: the exit status tells the rest.
        pipe.by_ref().read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
    })
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What runc answers beside `ours`. What a short run printed is lost once in some hundred runs when the machine is busy: its
/// shim opens a FIFO for both directions and closes it at the end, whether or not containerd's client has opened it by then.
/// Where it differs it is asked again, up to five times in all. Ours answers once.
///
/// Source: `copyPipes`, containerd cmd/containerd-shim-runc-v2/process/io.go; `openFifos`, pkg/cio/io_unix.go.
pub fn runcs<T: PartialEq>(ours: &T, ask: impl Fn() -> T) -> T {
    let mut answer = ask();
    for _ in 1..RUNC_ANSWERS {
        if answer == *ours {
            break;
        }
        answer = ask();
    }
    answer
}

/// What a run prints that prints something in any case, under a runtime or a handler of CRI's. Ours is asked once; runc, as
/// [`runcs`] says, until it is heard.
pub fn heard(runtime: &str, mut ask: impl FnMut() -> Result<String>) -> Result<String> {
    let mut said = ask()?;
    for _ in 1..RUNC_ANSWERS {
        if !["runc", RUNC].contains(&runtime) || !said.is_empty() {
            break;
        }
        said = ask()?;
    }
    Ok(said)
}

/// As [`heard`], of a run that has printed something where it has ended well.
pub fn answered(runtime: &str, mut ask: impl FnMut() -> Result<Output>) -> Result<Output> {
    let mut output = ask()?;
    for _ in 1..RUNC_ANSWERS {
        if runtime != RUNC || !output.ok() || !output.stdout.is_empty() {
            break;
        }
        output = ask()?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn output_and_exit_code_are_kept() {
        let output =
            run(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]), Duration::from_secs(5));
        let output = output.unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.code()), ("a\n", "b\n", 3));
        assert!(output.success().is_err());
    }

    #[test]
    fn a_program_that_takes_too_long_is_an_error() {
        let result = run(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(matches!(result, Err(HarnessError::Timeout { .. })));
    }
}
