//! What the server keeps of a process's standard streams while it lives, and how they end.
//!
//! ```text
//! FIFO      client ═══ FIFO ═══ process     no copy: an end of each kind is held, so that neither side sees the other
//!                                          vanish when containerd restarts
//! copied    client ═══ FIFO ◄ splice ═ pipe ═ process     outputs of an exec: see `moved`
//! log       file or logger ◄═ pipe ═ process     no copy: see `bulkhead_launch`; a process of its own
//! stream    client ◄─ ttrpc ─ copy ═ pipe ═ process     see `streaming`
//! terminal  any of these ═ copy ═ master ═ terminal ═ process     see `console`
//! ```
//! ```text
//! running ─ exit ─► ending: readers see the end once they have read all ─ Delete ─► drained, or given up
//! ```
//! Invariant: one buffer for each copy, and each copy is a task of its own: a side that stops holds up that one stream.
//! What a process wrote is let go when it was read, or at Delete.
//! Never here: opening anything by its path; that is the worker's.

mod address;
mod console;
mod copying;
mod fifo;
mod moved;
mod rest;
mod streaming;

use std::{fs::File, io, os::fd::OwnedFd, sync::Arc};

use bulkhead_launch::{Ends, Kept, LogProcess, Stream};

pub(crate) use address::{Addresses, Role, Whose};
pub(crate) use rest::Rest;
pub(crate) use streaming::{Hub, services as streaming_services};

use self::{console::Console, copying::Copying, fifo::Output, streaming::Joined};
use super::TaskError;

/// The server's side of the streams of one process.
#[derive(Default)]
pub(crate) struct Streams {
    /// Keeps the input open until CloseIO.
    stdin: Option<OwnedFd>,
    outputs: Vec<Output>,
    copies: Vec<Copying>,
    console: Option<Console>,
    log: Option<LogProcess>,
    joined: Vec<Joined>,
    /// Gone when nobody will read any more.
    deleted: Arc<()>,
}

impl Streams {
    /// Takes what a worker has opened, and starts to copy what must be copied.
    pub(crate) fn new(kept: Kept, addresses: &Addresses, hub: &Arc<Hub>) -> Result<Self, TaskError> {
        let Kept { terminal, stdin, stdout, stderr, log } = kept;
        let mut streams = Self { log, ..Self::default() };
        let failed = |error: io::Error| TaskError::Internal(format!("streams: {error}"));
        if let Some(master) = terminal {
            streams.stdin = stdin.writer;
            let deleted = Arc::downgrade(&streams.deleted);
            let console = Console::new(master, stdin.reader, stdout, deleted).map_err(failed)?;
            if let Some(id) = &addresses.stdin {
                streams.joined.push(hub.join_input(id, console.master())?);
            }
            if let Some(id) = &addresses.stdout {
                streams.joined.push(hub.join_output(id, console.master())?);
            }
            streams.console = Some(console);
            return Ok(streams);
        }
        let end = |fd: OwnedFd, direction| fifo::asynchronous(fd, direction).map(Arc::new).map_err(failed);
        match (&addresses.stdin, stdin) {
            (Some(id), Ends { writer: Some(fd), .. }) => {
                streams.joined.push(hub.join_input(id, end(fd, fifo::Direction::Out)?)?);
            }
            (_, Ends { writer, .. }) => streams.stdin = writer,
        }
        let asked = &addresses.stdio;
        for (kind, id, ends) in
            [(&asked.stdout, &addresses.stdout, stdout), (&asked.stderr, &addresses.stderr, stderr)]
        {
            match (kind, id, ends) {
                (Stream::Copied(_), _, Ends { reader: Some(pipe), writer: Some(fifo) }) => {
                    let deleted = Arc::downgrade(&streams.deleted);
                    streams.copies.push(moved::start(pipe, fifo, deleted).map_err(failed)?);
                }
                (_, Some(id), Ends { reader: Some(fd), .. }) => {
                    streams.joined.push(hub.join_output(id, end(fd, fifo::Direction::In)?)?);
                }
                (_, _, Ends { reader, writer: Some(writer) }) => {
                    streams.outputs.push(Output { reader, writer: File::from(writer) });
                }
                (_, _, Ends { writer: None, .. }) => {}
            }
        }
        Ok(streams)
    }

    /// Sets the size of the terminal, where there is one.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &self.console {
            Some(console) => console.resize(columns, rows),
            None => Ok(()),
        }
    }

    /// No more input will come: with the writer's end closed too, the process reads the end of its input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
        for joined in &self.joined {
            joined.close_io();
        }
    }

    /// The process has ended: nobody reads its input, and its output will have an end.
    pub(crate) fn end(&mut self) {
        self.stdin = None;
        if let Some(console) = &mut self.console {
            console.end_input();
        }
        for joined in &self.joined {
            joined.process_ended();
        }
        for output in self.outputs.drain(..) {
            output.let_go(&Arc::downgrade(&self.deleted));
        }
    }

    /// What is still on its way, for Delete to wait for.
    pub(crate) fn take_rest(&mut self) -> Rest {
        let terminal = self.console.as_mut().and_then(Console::take_drained);
        let copies = self.copies.iter_mut().filter_map(Copying::take_done).chain(terminal).collect();
        Rest { copies, log: self.log.take() }
    }
}
