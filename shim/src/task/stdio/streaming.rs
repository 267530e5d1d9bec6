//! containerd 2's streaming I/O: its client opens a stream by name at this server's socket, and a process is joined to
//! it by naming it as one of its streams.
//!
//! ```text
//! client ─ StreamInit{id} ─► slot ◄─ join ─ process      in either order; the newest client takes over
//! stdout: pipe or master ─► Data ─► client               as much as the client's WindowUpdates allow
//! stdin:  client ─ Data ─► pipe or master                a WindowUpdate for what was written
//! ```
//! A client that goes away leaves its slot behind: what it was not sent is sent to the next one (containerd that was
//! restarted), and a process whose output nobody takes waits, as with a FIFO that nobody reads.
//!
//! Invariant: at most one window of bytes is held for a slot. A slot is gone when its process is deleted.
//! Source: containerd core/streaming, core/transfer/streaming and internal/cri/io/streaming.go.

mod messages;
mod service;
mod slot;

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::io::unix::AsyncFd;

use self::slot::{End, Slot};
pub(crate) use service::services;

use super::super::TaskError;

/// Most streams at once: three for each of some eighty processes.
const SLOTS_MAX: usize = 256;

/// All streams of this server.
pub(crate) struct Hub {
    socket: PathBuf,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// A process's part in a stream. Dropped, the stream is over.
pub(crate) struct Joined {
    hub: Arc<Hub>,
    id: String,
    slot: Arc<Slot>,
}

impl Hub {
    /// No stream yet.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, slots: Mutex::default() }
    }

    /// Where its streams are found.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Joins a process's input, to be written to `file`.
    pub(super) fn join_input(
        self: &Arc<Self>,
        id: &str,
        file: Arc<AsyncFd<File>>,
    ) -> Result<Joined, TaskError> {
        self.join(id, End::Input(file))
    }

    /// Joins a process's output, to be read from `file`.
    pub(super) fn join_output(
        self: &Arc<Self>,
        id: &str,
        file: Arc<AsyncFd<File>>,
    ) -> Result<Joined, TaskError> {
        self.join(id, End::Output(file))
    }

    fn join(self: &Arc<Self>, id: &str, end: End) -> Result<Joined, TaskError> {
        let slot = self.slot(id)?;
        if !slot.join(end) {
            return Err(TaskError::AlreadyExists(format!("a process with the stream {id}")));
        }
        Ok(Joined { hub: Arc::clone(self), id: id.to_owned(), slot })
    }

    /// The slot of that name, made where it is not there.
    fn slot(&self, id: &str) -> Result<Arc<Slot>, TaskError> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(id) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= SLOTS_MAX {
            return Err(TaskError::Unavailable(format!("{SLOTS_MAX} streams are open already")));
        }
        let slot = Arc::new(Slot::default());
        slots.insert(id.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Forgets this slot, not another one of its name.
    fn forget(&self, id: &str, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        if slots.get(id).is_some_and(|found| Arc::ptr_eq(found, slot)) {
            slots.remove(id);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// CloseIO: the input ends with its client, or now where there is none.
    pub(super) fn close_io(&self) {
        self.slot.close_io();
    }

    /// The input has no reader any more; the output goes on to its end.
    pub(super) fn process_ended(&self) {
        self.slot.process_ended();
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.slot.over();
        self.hub.forget(&self.id, &self.slot);
    }
}
