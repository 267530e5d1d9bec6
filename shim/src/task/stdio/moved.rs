//! Output of an exec, moved from its pipe into the client's FIFO.
//!
//! ```text
//! exec ═ pipe ═ splice(2) ═ FIFO ═ client     ends when nobody has the pipe open any more, or at Delete
//! ```
//! What an exec leaves behind keeps its streams: of the FIFO itself the client would then never see the end.
//!
//! Invariant: nothing is held here. What is under way is in the pipe or in the FIFO, a full FIFO stops the exec, and one
//! without a reader (containerd restarts) waits for the next.

use std::{fs::File, io, os::fd::OwnedFd, sync::Weak};

use nix::{
    errno::Errno,
    fcntl::{SpliceFFlags, splice},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::{
    copying::Copying,
    fifo::{LOOK, Output},
};
use crate::sys;

/// Most bytes moved at once: what a pipe holds.
///
/// Source: pipe(7).
const AT_ONCE_BYTES: usize = 64 << 10;

/// Moves what is written to a pipe into a FIFO, until the pipe's end.
pub(super) fn start(pipe: OwnedFd, fifo: OwnedFd, deleted: Weak<()>) -> io::Result<Copying> {
    let (pipe, writer) = (sys::watch(File::from(pipe), Interest::READABLE)?, File::from(fifo));
    Ok(Copying::start(async move {
        if let Err(error) = all(&pipe, &writer).await {
            tracing::warn!(%error, "output of an exec is moved no more");
        }
        drop(pipe);
        Output { reader: None, writer }.let_go(&deleted);
    }))
}

async fn all(pipe: &AsyncFd<File>, fifo: &File) -> io::Result<()> {
    loop {
        let mut readable = pipe.readable().await?;
        match splice(pipe.get_ref(), None, fifo, None, AT_ONCE_BYTES, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            // Of which of the two it does not say.
            Err(Errno::EAGAIN) if sys::unread_bytes(pipe.get_ref())? == 0 => readable.clear_ready(),
            Err(Errno::EAGAIN) => drop(writable(fifo).await?),
            Err(Errno::EPIPE) => sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until there is room. Watched from now on only: an exec whose output is read as it comes never gets here.
async fn writable(fifo: &File) -> io::Result<()> {
    let watched = sys::watch(fifo.try_clone()?, Interest::WRITABLE)?;
    watched.writable().await?.retain_ready();
    Ok(())
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
        thread,
        time::Duration,
    };

    struct World {
        dir: tempfile::TempDir,
        deleted: Arc<()>,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            Self { dir, deleted: Arc::new(()) }
        }

        fn fifo(&self) -> PathBuf {
            self.dir.path().join("fifo")
        }

        /// The process's end, and the copy.
        fn start(&self) -> (File, Copying) {
            let (reader, writer) = io::pipe().unwrap();
            let both = OpenOptions::new().read(true).write(true).open(self.fifo()).unwrap();
            let fifo = OpenOptions::new().write(true).open(self.fifo()).unwrap();
            drop(both);
            let copy = start(reader.into(), fifo.into(), Arc::downgrade(&self.deleted)).unwrap();
            (OwnedFd::from(writer).into(), copy)
        }
    }

    fn reader(path: &Path) -> File {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
    }

    /// In a thread of its own: all that there is until the end.
    async fn read_all(mut reader: File) -> Vec<u8> {
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty());
        nix::fcntl::fcntl(&reader, flags).unwrap();
        let read = move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    fn numbers() -> Vec<u8> {
        (0..400_000_u32).flat_map(u32::to_ne_bytes).collect()
    }

    #[tokio::test]
    async fn every_byte_arrives_in_its_order_however_slow_the_reader() {
        let world = World::new();
        let reader = reader(&world.fifo());
        let (mut process, mut copy) = world.start();
        let writer = thread::spawn(move || process.write_all(&numbers()).unwrap());
        // Both are full by now, and the writer waits.
        sleep(Duration::from_millis(50)).await;
        assert!(!writer.is_finished());
        assert!(read_all(reader).await == numbers());
        copy.take_done().unwrap().await.unwrap();
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn reader_that_vanishes_loses_nothing_that_the_next_one_does_not_get() {
        let world = World::new();
        let mut first = reader(&world.fifo());
        let (mut process, _copy) = world.start();
        process.write_all(b"one ").unwrap();
        let mut bytes = [0; 4];
        while first.read(&mut bytes).is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(&bytes, b"one ");
        drop(first);
        process.write_all(b"two ").unwrap();
        sleep(LOOK * 2).await;
        process.write_all(b"three").unwrap();
        drop(process);
        assert_eq!(read_all(reader(&world.fifo())).await, b"two three");
    }

    #[tokio::test]
    async fn reader_sees_the_end_when_the_copy_is_given_up_though_an_orphan_has_the_pipe() {
        let world = World::new();
        let reader = reader(&world.fifo());
        let (mut orphan, copy) = world.start();
        orphan.write_all(b"text").unwrap();
        while sys::unread_bytes(&reader).unwrap() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        drop(copy);
        assert_eq!(read_all(reader).await, b"text");
        let error = orphan.write_all(b"more").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
