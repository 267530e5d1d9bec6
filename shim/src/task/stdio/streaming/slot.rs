//! One named stream: a process at one end, and at the other a client, then the next one.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use containerd_shim_protos::{
    protobuf::well_known_types::any::Any,
    ttrpc::r#async::{SSReceiver, SSSender},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Mutex, watch},
    time::sleep,
};

use super::messages::{self, DATA_BYTES_MAX, Message, WINDOW_BYTES};

/// How much a client may be owed before it is told, in bytes.
const GRANT_BYTES: i32 = WINDOW_BYTES / 2;

/// How long it must have been silent before.
const QUIET: Duration = Duration::from_millis(1);

/// The process's end of a stream.
#[derive(Clone)]
pub(super) enum End {
    /// Written to.
    Input(Arc<AsyncFd<File>>),
    /// Read from.
    Output(Arc<AsyncFd<File>>),
}

#[derive(Clone)]
enum Phase {
    /// No process has named it.
    Waiting,
    /// One has.
    Joined(End),
    /// The process's end is closed; nothing more will come.
    Over,
}

/// A named stream.
pub(super) struct Slot {
    phase: watch::Sender<Phase>,
    /// Counts its clients: the newest is served.
    clients: watch::Sender<u64>,
    /// Whether CloseIO was called.
    closing: watch::Sender<bool>,
    /// What was taken from one side and not yet handed to the other. Held by the client that is served.
    held: Mutex<Vec<u8>>,
}

/// The connection of a client.
pub(super) struct Client {
    pub(super) to: SSSender<Any>,
    pub(super) from: SSReceiver<Any>,
}

/// Why a client is served no more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The stream is at its end.
    End,
    /// The client has closed its side.
    Closed,
    /// The connection broke, or a newer client took over.
    Lost,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Waiting),
            clients: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            held: Mutex::default(),
        }
    }
}

impl Slot {
    /// Waiting → Joined. False where a process has it already.
    pub(super) fn join(&self, end: End) -> bool {
        self.phase.send_if_modified(|phase| {
            let free = matches!(phase, Phase::Waiting);
            if free {
                *phase = Phase::Joined(end);
            }
            free
        })
    }

    /// Any → Over: clients are told the end.
    pub(super) fn over(&self) {
        self.phase.send_replace(Phase::Over);
    }

    /// The end of its input is near: with its client's, or now where no client is served.
    pub(super) fn close_io(&self) {
        if !self.is_input() {
            return;
        }
        self.closing.send_replace(true);
        if self.held.try_lock().is_ok_and(|held| held.is_empty()) {
            self.over();
        }
    }

    /// Nobody reads its input any more.
    pub(super) fn process_ended(&self) {
        if self.is_input() {
            self.over();
        }
    }

    fn is_input(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Joined(End::Input(_)))
    }

    /// Waits for a process; false where the stream is over, or a newer client came.
    pub(super) async fn joined(&self) -> bool {
        let (mut phase, mut clients) = (self.phase.subscribe(), self.take_over());
        tokio::select! {
            phase = phase.wait_for(|phase| !matches!(phase, Phase::Waiting)) => phase.is_ok(),
            _ = clients.changed() => false,
        }
    }

    /// Serves a client until it goes, a newer one comes, or the stream ends.
    pub(super) async fn serve(&self, client: &mut Client) -> Result<(), String> {
        let mut clients = self.take_over();
        let mut held = tokio::select! {
            held = self.held.lock() => held,
            _ = clients.changed() => return Ok(()),
        };
        let mut phase = self.phase.subscribe();
        let end = match &*phase.borrow_and_update() {
            Phase::Joined(end) => end.clone(),
            Phase::Waiting | Phase::Over => return Ok(()),
        };
        let is_input = matches!(end, End::Input(_));
        let mut closing = self.closing.subscribe();
        let served = async {
            match end {
                End::Output(file) => output(&file, client, &mut held).await,
                End::Input(file) => input(&file, client, &mut held, &mut closing).await,
            }
        };
        let left = tokio::select! {
            left = served => left?,
            _ = clients.changed() => Left::Lost,
            // Over: the process was deleted, or reads no more.
            _ = phase.changed() => return Ok(()),
        };
        let closing = *self.closing.borrow();
        if left == Left::End || (is_input && closing && held.is_empty()) {
            self.over();
        }
        Ok(())
    }

    /// Ends the client that was served until now; tells when the next one comes.
    fn take_over(&self) -> watch::Receiver<u64> {
        self.clients.send_modify(|count| *count += 1);
        self.clients.subscribe()
    }
}

/// Copies output to a client, as far as its window allows.
async fn output(file: &AsyncFd<File>, client: &mut Client, held: &mut Vec<u8>) -> Result<Left, String> {
    let mut window: i32 = 0;
    let mut at_end = false;
    loop {
        if !held.is_empty() && window > 0 {
            let count = held.len().min(usize::try_from(window).unwrap_or(0)).min(DATA_BYTES_MAX);
            if client.to.send(&messages::data(&held[..count])?).await.is_err() {
                return Ok(Left::Lost);
            }
            held.drain(..count);
            window -= i32::try_from(count).unwrap_or(window);
            continue;
        }
        if at_end && held.is_empty() {
            return Ok(Left::End);
        }
        tokio::select! {
            message = client.from.recv() => match message {
                Ok(Some(any)) => match messages::read(&any)? {
                    Message::WindowUpdate(more) => window = window.saturating_add(more.max(0)),
                    other => return Err(format!("{other:?} is not for an output")),
                },
                Ok(None) => return Ok(Left::Closed),
                Err(_) => return Ok(Left::Lost),
            },
            read = file.async_io(Interest::READABLE, |mut file| {
                let mut buffer = [0; 4096];
                let count = file.read(&mut buffer)?;
                held.extend(&buffer[..count]);
                Ok(count)
            }), if held.is_empty() && window > 0 && !at_end => match read {
                Ok(count) => at_end = count == 0,
                // A master says EIO when nobody has the terminal open any more.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => at_end = true,
                Err(error) => return Err(format!("read(2): {error}")),
            },
        }
    }
}

/// Copies a client's data to a process, and lets it send as much again.
///
/// Invariant: the client's last words are heard before it is answered. It may close its connection right behind them,
/// and an answer that fails would take along what was not read yet: so it is listened to first, and answered seldom.
async fn input(
    file: &AsyncFd<File>,
    client: &mut Client,
    held: &mut Vec<u8>,
    closing: &mut watch::Receiver<bool>,
) -> Result<Left, String> {
    let mut owed = WINDOW_BYTES - i32::try_from(held.len()).unwrap_or(WINDOW_BYTES);
    let (mut closed, mut lost) = (false, false);
    loop {
        if closed && held.is_empty() {
            return Ok(Left::Closed);
        }
        tokio::select! {
            biased;
            message = client.from.recv(), if !closed => match message {
                Ok(Some(any)) => match messages::read(&any)? {
                    Message::Data(data) if held.len() + data.len() <= WINDOW_BYTES as usize => held.extend(data),
                    Message::Data(_) => return Err("more data than the window allows".to_owned()),
                    other => return Err(format!("{other:?} is not for an input")),
                },
                Ok(None) => closed = true,
                Err(_) => lost = true,
            },
            // Quiet: it waits for more room.
            () = sleep(QUIET), if owed >= GRANT_BYTES && !closed && !lost => {
                lost = client.to.send(&messages::window_update(owed)?).await.is_err();
                owed = 0;
            }
            // What has come is in the channel by the time that a connection is known to be gone.
            () = std::future::ready(()), if lost && held.is_empty() => return Ok(Left::Lost),
            // A client that has gone without a word is found out by being written to.
            _ = closing.changed() => {
                if !closed && !lost {
                    lost = client.to.send(&messages::window_update(0)?).await.is_err();
                }
            }
            written = file.async_io(Interest::WRITABLE, |mut file| file.write(held)), if !held.is_empty() => {
                match written {
                    Ok(count) => {
                        held.drain(..count);
                        owed += i32::try_from(count).unwrap_or(WINDOW_BYTES);
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Left::End),
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(Left::End),
                    Err(error) => return Err(format!("write(2): {error}")),
                }
            }
        }
    }
}
