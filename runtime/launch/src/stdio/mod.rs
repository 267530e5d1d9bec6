//! Standard streams of a process: its worker makes them, who reaches every path, so that the server need not.
//!
//! ```text
//! FIFO      client ══ FIFO ══ process                    the server holds an end of each kind: see `Kept`
//! copied    client ══ FIFO ══ server ══ pipe ══ process  what an orphan keeps open is then the pipe, not the FIFO
//! pipe      server ══ pipe ══ process                    the server is the client's other side (streaming)
//! log       file or logger ══ pipe ══ process            see `log`
//! terminal  server ══ master ═ terminal ═ process        and FIFO, stream or log behind the server
//! ```

mod console;
mod device;
mod fifo;
mod kept;
mod log;
mod null;
pub(crate) mod terminal;

use std::{fs, os::fd::OwnedFd};

pub(crate) use kept::KEPT_FDS_MAX;
pub use kept::{Ends, Kept};
pub use log::LogProcess;
pub(crate) use null::{is_null, open_null_for_both};

use self::{console::Console, fifo::Fifo, log::pipe_of};
use crate::{
    LaunchError,
    job::{Stdio, Stream},
};

/// Standard streams, ready for the process.
pub(crate) struct Opened {
    /// What the process gets; none where it gets a terminal.
    streams: Option<[OwnedFd; 3]>,
    console: Option<Console>,
    /// Whose a terminal is to be.
    uid: u32,
    kept: Kept,
}

/// What the process is given.
pub(crate) enum Given {
    /// Standard input, output and error.
    Streams([OwnedFd; 3]),
    /// Where the master of a terminal is sent that is made in the container.
    Terminal(OwnedFd),
    /// Nothing yet: the process makes its terminal by itself.
    Later,
}

/// The end of a stream that the process reads or writes.
#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

impl Opened {
    /// Opens and starts what they lead to, for a process of that user. Before its control group is entered.
    pub(crate) fn new(stdio: &Stdio, uid: u32, gid: u32) -> Result<Self, LaunchError> {
        let Stdio { terminal, stdin, stdout, stderr, log } = stdio;
        let log = log.as_ref().map(|log| log::start(log, uid, gid)).transpose()?;
        let (mut log_stdout, mut log_stderr, mut kept) = (None, None, Kept::default());
        if let Some(log) = log {
            (log_stdout, log_stderr) = (Some(log.stdout), Some(log.stderr));
            kept.log = Some(log.process);
        }
        if *terminal {
            kept.stdin = behind_terminal(stdin, None)?;
            kept.stdout = behind_terminal(stdout, log_stdout)?;
            return Ok(Self { streams: None, console: None, uid, kept });
        }
        let streams = [
            stream(stdin, Direction::In, &mut None, &mut kept.stdin, uid, gid)?,
            stream(stdout, Direction::Out, &mut log_stdout, &mut kept.stdout, uid, gid)?,
            stream(stderr, Direction::Out, &mut log_stderr, &mut kept.stderr, uid, gid)?,
        ];
        Ok(Self { streams: Some(streams), console: None, uid, kept })
    }

    /// Hands the streams over, or a socket on which the terminal will come back.
    pub(crate) fn give(&mut self) -> Result<Given, LaunchError> {
        match self.streams.take() {
            Some(streams) => Ok(Given::Streams(streams)),
            None => {
                let (console, socket) = Console::new()?;
                self.console = Some(console);
                Ok(Given::Terminal(socket))
            }
        }
    }

    /// What the server is to keep, once the process is prepared; a terminal is its user's by then. The process waits
    /// meanwhile: it may open `/dev/stdout` anew.
    pub(crate) fn kept(mut self) -> Result<Kept, LaunchError> {
        if let Some(console) = self.console {
            self.kept.terminal = Some(console.master_for(self.uid)?);
        }
        Ok(self.kept)
    }
}

/// One stream of a process without a terminal: its own end, and what the server keeps.
fn stream(
    stream: &Stream,
    direction: Direction,
    log: &mut Option<OwnedFd>,
    kept: &mut Ends,
    uid: u32,
    gid: u32,
) -> Result<OwnedFd, LaunchError> {
    match (stream, direction) {
        (Stream::Null, _) => null(),
        (Stream::Log, _) => log.take().ok_or(LaunchError::Plan("a stream leads to a log that is not there")),
        (Stream::Fifo(path), Direction::In) => {
            let fifo = Fifo::open(path)?;
            fifo.give(uid, gid)?;
            kept.writer = Some(fifo.writer()?);
            fifo.reader()
        }
        (Stream::Fifo(path), Direction::Out) => {
            let fifo = Fifo::open(path)?;
            fifo.give(uid, gid)?;
            *kept = fifo.ends()?;
            fifo.writer()
        }
        (Stream::Copied(path), Direction::Out) => {
            let (reader, writer) = pipe_of(uid, gid)?;
            *kept = Ends { reader: Some(reader), writer: Some(Fifo::open(path)?.writer()?) };
            Ok(writer)
        }
        (Stream::Copied(_), Direction::In) => Err(LaunchError::Plan("standard input is not copied")),
        (Stream::Pipe, Direction::In) => {
            let (reader, writer) = pipe_of(uid, gid)?;
            kept.writer = Some(writer);
            Ok(reader)
        }
        (Stream::Pipe, Direction::Out) => {
            let (reader, writer) = pipe_of(uid, gid)?;
            kept.reader = Some(reader);
            Ok(writer)
        }
    }
}

/// What the server copies a terminal from or to. A pipe to the server itself would be one too many.
fn behind_terminal(stream: &Stream, log: Option<OwnedFd>) -> Result<Ends, LaunchError> {
    match stream {
        Stream::Null | Stream::Pipe => Ok(Ends::default()),
        Stream::Log => Ok(Ends { reader: None, writer: log }),
        Stream::Fifo(path) | Stream::Copied(path) => Fifo::open(path)?.ends(),
    }
}

fn null() -> Result<OwnedFd, LaunchError> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(LaunchError::io("open(2)", "/dev/null"))
}
