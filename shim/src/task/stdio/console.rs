//! A terminal's master, copied to and from FIFOs or to a log.
//!
//! ```text
//! stdin FIFO ─► master ─► process        ends with the input (then the terminal hangs up), or with the process
//! output     ◄─ master ◄─ process        ends when nobody has the terminal open any more: everything is out
//! ```
//! Invariant: one buffer for each direction; a reader that is slow slows the process, nothing is dropped.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use bulkhead_launch::Ends;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use super::{
    copying::Copying,
    fifo::{Direction, Output, asynchronous},
};
use crate::sys;

/// Bytes copied at once: what a terminal hands out at most.
///
/// Source: `N_TTY_BUF_SIZE`, drivers/tty/n_tty.c.
const BUFFER_BYTES: usize = 4096;

/// A terminal in use.
pub(super) struct Console {
    master: Arc<AsyncFd<File>>,
    input: Option<Copying>,
    output: Option<Copying>,
}

impl Console {
    /// Starts to copy.
    pub(super) fn new(
        master: OwnedFd,
        stdin: Option<OwnedFd>,
        stdout: Ends,
        deleted: Weak<()>,
    ) -> io::Result<Self> {
        let mut console = Self { master: Arc::new(watch_both(master)?), input: None, output: None };
        if let Ends { reader, writer: Some(writer) } = stdout {
            let (master, writer) = (console.master(), asynchronous(writer, Direction::Out)?);
            console.output = Some(Copying::start(async move {
                copy(&master, &writer, "output").await;
                drop(master);
                Output { reader, writer: writer.into_inner() }.let_go(&deleted);
            }));
        }
        if let Some(stdin) = stdin {
            let (stdin, master) = (asynchronous(stdin, Direction::In)?, console.master());
            console.input = Some(Copying::start(async move { copy(&stdin, &master, "input").await }));
        }
        Ok(console)
    }

    /// The master, for a copy of another kind.
    pub(super) fn master(&self) -> Arc<AsyncFd<File>> {
        Arc::clone(&self.master)
    }

    /// Sets its size, in characters; the processes that have it get SIGWINCH.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        sys::set_window_size(self.master.get_ref(), columns, rows)
    }

    /// The input has no reader any more.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    /// Tells when all output is where it goes.
    pub(super) fn take_drained(&mut self) -> Option<oneshot::Receiver<()>> {
        self.output.as_mut().and_then(Copying::take_done)
    }
}

fn watch_both(fd: OwnedFd) -> io::Result<AsyncFd<File>> {
    // The flags first: `asynchronous` knows one direction.
    let file = asynchronous(fd, Direction::In)?.into_inner();
    sys::watch(file, Interest::READABLE | Interest::WRITABLE)
}

async fn copy(from: &AsyncFd<File>, to: &AsyncFd<File>, which: &'static str) {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let count = match from.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await {
            Ok(0) => return,
            Ok(count) => count,
            // A master says EIO when nobody has the terminal open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return,
            Err(error) => {
                tracing::warn!(%error, which, "terminal is read no more");
                return;
            }
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match to.async_io(Interest::WRITABLE, |mut file| file.write(rest)).await {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return,
                Err(error) => {
                    tracing::warn!(%error, which, "terminal is written no more");
                    return;
                }
            }
        }
    }
}
