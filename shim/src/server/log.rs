//! The server's log: containerd's FIFO, warnings and errors only unless it asked for more.
//!
//! Invariant: never waits. A FIFO that is full, or that nobody reads, loses the line.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

/// Takes the log's end into use; without one, lines go nowhere.
pub(crate) fn init(log: Option<&File>, debug: bool) {
    let Some(log) = log.and_then(|log| log.try_clone().ok()) else { return };
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(Lossy(Arc::new(log)))
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        // Only a second call of this function can be the cause; the first log stays.
    }
}

#[derive(Clone)]
struct Lossy(Arc<File>);

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The file is not blocking, and a line below PIPE_BUF is written whole or not at all.
        match self.0.as_ref().write(line) {
            Ok(_) | Err(_) => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lossy {
    type Writer = Lossy;

    fn make_writer(&'a self) -> Lossy {
        self.clone()
    }
}
