//! Ends of FIFOs and pipes.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Weak,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use crate::sys;

/// How often it is looked whether a reader has come back. Only while output waits for one, and nobody else has the FIFO
/// open.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// A FIFO that is written to; the reader is held for as long as a process may write to it by itself.
pub(super) struct Output {
    pub(super) reader: Option<OwnedFd>,
    pub(super) writer: File,
}

/// Which way an end is used.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    In,
    Out,
}

/// An end for tokio.
pub(super) fn asynchronous(fd: OwnedFd, direction: Direction) -> io::Result<AsyncFd<File>> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let interest = match direction {
        Direction::In => Interest::READABLE,
        Direction::Out => Interest::WRITABLE,
    };
    sys::watch(File::from(fd), interest)
}

impl Output {
    /// Lets the reader see the end. The last open end of a FIFO takes what is in it along: where nobody reads it at
    /// this moment (containerd restarts), it is held until somebody does, or until `deleted` is gone.
    pub(super) fn let_go(self, deleted: &Weak<()>) {
        let Self { reader, writer } = self;
        drop(reader);
        if is_waiting(&writer) {
            let deleted = Weak::clone(deleted);
            tokio::spawn(async move {
                while deleted.strong_count() > 0 && is_waiting(&writer) {
                    sleep(LOOK).await;
                }
            });
        }
    }
}

/// Whether there is something in it, and nobody to read it.
fn is_waiting(writer: &File) -> bool {
    // A writer is told of an error where there is no reader: pipe(7).
    let mut seen = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let looked = poll(&mut seen, PollTimeout::ZERO);
    let nobody = seen[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
    looked.is_ok() && nobody && sys::unread_bytes(writer).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        fs::OpenOptions,
        io::{Read as _, Write as _},
        os::unix::fs::OpenOptionsExt as _,
        path::{Path, PathBuf},
        sync::Arc,
    };

    fn fifo(dir: &Path) -> (PathBuf, Output) {
        let path = dir.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = open_reader(&path);
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        (path, Output { reader: Some(reader.into()), writer })
    }

    fn open_reader(path: &Path) -> File {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
    }

    #[tokio::test]
    async fn reader_that_is_there_sees_the_output_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut output) = fifo(dir.path());
        let mut reader = open_reader(&path);
        output.writer.write_all(b"text").unwrap();
        output.let_go(&Arc::downgrade(&Arc::new(())));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[tokio::test]
    async fn output_waits_for_a_reader_that_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut output) = fifo(dir.path());
        output.writer.write_all(b"text").unwrap();
        let deleted = Arc::new(());
        output.let_go(&Arc::downgrade(&deleted));
        sleep(LOOK * 3).await;
        let reader = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(reader.await.unwrap(), "text");
    }

    #[tokio::test]
    async fn output_that_nobody_reads_goes_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut output) = fifo(dir.path());
        output.writer.write_all(b"text").unwrap();
        let deleted = Arc::new(());
        output.let_go(&Arc::downgrade(&deleted));
        drop(deleted);
        sleep(LOOK * 3).await;
        assert_eq!(open_reader(&path).read(&mut [0; 8]).unwrap(), 0);
    }
}
