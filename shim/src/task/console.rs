//! A terminal's master, copied to and from containerd's FIFOs.
//!
//! ```text
//! stdin FIFO ─► master ─► process        ends with the input, or with the process
//! stdout FIFO ◄─ master ◄─ process       ends when nobody has the terminal open any more: everything is out
//! ```
//! Invariant: one buffer for each direction; a reader that is slow slows the process, nothing is dropped.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

use crate::sys;

/// Bytes copied at once: what a terminal hands out at most.
///
/// Source: `N_TTY_BUF_SIZE`, drivers/tty/n_tty.c.
const BUFFER_BYTES: usize = 4096;

/// A terminal in use.
pub(crate) struct Console {
    master: Arc<AsyncFd<File>>,
    input: Option<JoinHandle<()>>,
}

impl Console {
    /// Starts to copy.
    pub(crate) fn new(master: OwnedFd, stdin: Option<OwnedFd>, stdout: Option<OwnedFd>) -> io::Result<Self> {
        let master = Arc::new(asynchronous(master)?);
        if let Some(stdout) = stdout {
            tokio::spawn(copy(Arc::clone(&master), Arc::new(asynchronous(stdout)?), "output"));
        }
        let input = match stdin {
            Some(stdin) => {
                Some(tokio::spawn(copy(Arc::new(asynchronous(stdin)?), Arc::clone(&master), "input")))
            }
            None => None,
        };
        Ok(Self { master, input })
    }

    /// Sets its size, in characters; the processes that have it get SIGWINCH.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        sys::set_window_size(self.master.get_ref(), columns, rows)
    }
}

/// The output goes on until it is all out; the input has no reader any more.
impl Drop for Console {
    fn drop(&mut self) {
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

fn asynchronous(fd: OwnedFd) -> io::Result<AsyncFd<File>> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let interest = match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => Interest::READABLE,
        OFlag::O_WRONLY => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    };
    sys::watch(File::from(fd), interest)
}

async fn copy(from: Arc<AsyncFd<File>>, to: Arc<AsyncFd<File>>, which: &'static str) {
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
