//! Lines that are counted: a process that prints them when it is told to, and a reader with a deadline.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    ops::RangeInclusive,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use bulkhead_integration::{Result, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::help::PATIENCE;

/// Lines of one burst: more bytes than a FIFO holds (64 KiB).
pub(crate) const BURST: usize = 20_000;

/// Counts on by [`BURST`] at its start and at each SIGUSR1. What it waits with has none of its streams.
pub(crate) const COUNTER: &str = "n=0; burst() { i=0; while [ $i -lt 20000 ]; do i=$((i+1)); n=$((n+1)); echo $n; done; }; \
     trap burst USR1; burst; while :; do sleep 1 >/dev/null 2>&1 & wait $!; done";

/// Has it count on.
pub(crate) fn burst(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGUSR1).unwrap();
}

/// As [`burst`], waiting until nothing more fits where nobody reads.
pub(crate) fn burst_into_the_void(pid: u32) -> Result<()> {
    let before = written(pid);
    burst(pid);
    until("a FIFO that is full", PATIENCE, || Ok(written(pid) >= before + 60_000))
}

/// Bytes that a process has written so far; those of a write that waits are not.
pub(crate) fn written(pid: u32) -> usize {
    field(pid, "io", "wchar:")
}

/// Until a process that floods writes no more.
pub(crate) fn until_it_stands_still(pid: u32) {
    let mut last = 0;
    until("a flood that stands still", PATIENCE, || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut last, written(pid));
        Ok(last > 0 && last == before)
    })
    .unwrap();
}

pub(crate) fn parent_of(pid: u32) -> usize {
    field(pid, "status", "PPid:")
}

fn field(pid: u32, file: &str, name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

/// Lines as they come.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    /// Opens and reads elsewhere: to open a FIFO waits for its writer.
    pub(crate) fn of<R: Read>(open: impl FnOnce() -> R + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(open()).lines() {
                if sender.send(line.unwrap().trim_end_matches('\r').to_owned()).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    #[track_caller]
    pub(crate) fn next_is(&mut self, expected: &str) {
        assert_eq!(self.0.recv_timeout(PATIENCE).as_deref(), Ok(expected));
    }

    /// These numbers come next, each once.
    #[track_caller]
    pub(crate) fn expect(&mut self, numbers: RangeInclusive<usize>) {
        for number in numbers {
            self.next_is(&number.to_string());
        }
    }

    /// Nothing more comes, and the end does.
    #[track_caller]
    pub(crate) fn end(self) {
        assert_eq!(self.0.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}

/// From 1 to there, each once.
#[track_caller]
pub(crate) fn assert_counted(text: &str, to: usize) {
    let mut lines = text.lines();
    for number in 1..=to {
        assert_eq!(lines.next(), Some(number.to_string().as_str()));
    }
    assert_eq!(lines.next(), None);
}
