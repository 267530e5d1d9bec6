//! The server's side of a launch: wait for readability, take one step, never block.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use bulkhead_model::ConfineSpec;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    Kept, LaunchError, StartError,
    message::{self, Arrival, GO, Message},
    start, sys,
};

/// A container that is being created. Wait until it is readable, then [`CreateTicket::try_created`].
#[derive(Debug)]
pub struct CreateTicket {
    reply: Option<OwnedFd>,
    confine: Option<ConfineSpec>,
    notify_dir: PathBuf,
    prepared: Option<(u32, OwnedFd, Vec<OwnedFd>)>,
}

/// A container whose first process waits for Start.
#[derive(Debug)]
pub struct Created {
    /// Its first process.
    pub pid: u32,
    /// The same, immune to pid reuse.
    pub pidfd: OwnedFd,
    /// What the server keeps of its streams.
    pub kept: Kept,
    /// Files of the image that must stay open while it lives: Landlock rules are for them.
    pub pins: Vec<OwnedFd>,
    /// What holds it back. Dropping it does not end the process: kill it.
    pub gate: Gate,
}

/// A control group that is being changed. Wait until it is readable, then [`GroupTicket::try_done`].
#[derive(Debug)]
pub struct GroupTicket {
    reply: OwnedFd,
}

/// What holds back the first process of a container until Start.
#[derive(Debug)]
pub struct Gate {
    pid: u32,
    reply: OwnedFd,
    confine: Box<ConfineSpec>,
    notify_dir: PathBuf,
}

/// A process on its way to execve(2). Wait until it is readable, then [`PendingStart::try_running`].
///
/// Dropped early, the process ends by itself, before execve(2).
#[derive(Debug)]
pub struct PendingStart {
    reply: OwnedFd,
    confine: ConfineSpec,
    kind: Kind,
    process: Option<(u32, Option<OwnedFd>)>,
    kept: Kept,
    pins: Vec<OwnedFd>,
    listener: Option<OwnedFd>,
    phase: Phase,
}

/// A process that has passed execve(2), confined as planned.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub pid: u32,
    /// The same, immune to pid reuse; of an exec only: a container's came with [`Created`].
    pub pidfd: Option<OwnedFd>,
    /// What the server keeps of its streams; of an exec only.
    pub kept: Kept,
    /// Files of the image that must stay open while it lives; of an exec only.
    pub pins: Vec<OwnedFd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Init,
    Exec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The process has not yet confined itself.
    Confining,
    /// It was told to go.
    Gone,
}

impl AsFd for CreateTicket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reply.as_ref().expect("asked again after the answer was taken").as_fd()
    }
}

impl AsFd for PendingStart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reply.as_fd()
    }
}

impl AsFd for GroupTicket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reply.as_fd()
    }
}

impl GroupTicket {
    pub(crate) fn new(reply: OwnedFd) -> Self {
        Self { reply }
    }

    /// Whether it is done. To be asked no more after a yes or an error.
    pub fn try_done(&mut self) -> Result<bool, LaunchError> {
        match message::receive(self.reply.as_fd())? {
            Arrival::Nothing => Ok(false),
            Arrival::End => Err(LaunchError::WorkerGone),
            Arrival::Message(received) => match received.message {
                Message::Created { pid: 0, .. } => Ok(true),
                Message::Failed { message, .. } => Err(LaunchError::Failed(message)),
                Message::Created { .. }
                | Message::Prepared(..)
                | Message::Listener(_)
                | Message::Confined => Err(LaunchError::Protocol("a process where none was asked for")),
            },
        }
    }
}

impl CreateTicket {
    pub(crate) fn new(reply: OwnedFd, confine: ConfineSpec, notify_dir: PathBuf) -> Self {
        Self { reply: Some(reply), confine: Some(confine), notify_dir, prepared: None }
    }

    /// Whether the container's first process is there, and its worker has yet to say that all is done.
    #[must_use]
    pub fn waits_for_worker(&self) -> bool {
        self.prepared.is_some()
    }

    /// Takes what has arrived. `None`: not yet. To be asked no more after an answer or an error.
    pub fn try_created(&mut self) -> Result<Option<Created>, LaunchError> {
        loop {
            let reply = self.reply.as_ref().ok_or(LaunchError::Protocol("answer was taken already"))?;
            let received = match message::receive(reply.as_fd())? {
                Arrival::Nothing => return Ok(None),
                Arrival::End => return Err(LaunchError::WorkerGone),
                Arrival::Message(received) => received,
            };
            match received.message {
                Message::Prepared(pidfd, pins) => self.prepared = Some((received.sender, pidfd, pins)),
                Message::Created { pid, kept } => {
                    let (prepared, pidfd, pins) =
                        self.prepared.take().ok_or(LaunchError::Protocol("created before prepared"))?;
                    if prepared != pid {
                        return Err(LaunchError::Protocol("another process was prepared"));
                    }
                    let (Some(reply), Some(confine)) = (self.reply.take(), self.confine.take()) else {
                        return Err(LaunchError::Protocol("answer was taken already"));
                    };
                    let notify_dir = std::mem::take(&mut self.notify_dir);
                    return Ok(Some(Created {
                        pid,
                        pidfd,
                        kept,
                        pins,
                        gate: Gate { pid, reply, confine: Box::new(confine), notify_dir },
                    }));
                }
                Message::Failed { message, .. } => return Err(LaunchError::Failed(message)),
                Message::Confined | Message::Listener(_) => {
                    return Err(LaunchError::Protocol("confined before start"));
                }
            }
        }
    }

    /// The same for callers without an event loop.
    pub fn wait(mut self, at_most: Duration) -> Result<Created, LaunchError> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(created) = self.try_created()? {
                return Ok(created);
            }
            wait_readable(self.as_fd(), deadline)?;
        }
    }
}

/// A create that failed half way may have left the process at the gate.
impl Drop for CreateTicket {
    fn drop(&mut self) {
        if let Some((_, pidfd, _)) = &self.prepared {
            kill(pidfd.as_fd());
        }
    }
}

impl Gate {
    /// Start: lets the process go on to confine itself.
    pub fn release(self) -> Result<PendingStart, LaunchError> {
        start::release(&self.notify_dir)?;
        Ok(PendingStart {
            reply: self.reply,
            confine: *self.confine,
            kind: Kind::Init,
            process: Some((self.pid, None)),
            kept: Kept::default(),
            pins: Vec::new(),
            listener: None,
            phase: Phase::Confining,
        })
    }
}

impl PendingStart {
    pub(crate) fn of_exec(reply: OwnedFd, confine: ConfineSpec) -> Self {
        Self {
            reply,
            confine,
            kind: Kind::Exec,
            process: None,
            kept: Kept::default(),
            pins: Vec::new(),
            listener: None,
            phase: Phase::Confining,
        }
    }

    /// Whether the process of an exec is there, and its worker has yet to let it go on.
    #[must_use]
    pub fn waits_for_worker(&self) -> bool {
        self.kind == Kind::Exec && self.phase == Phase::Confining && self.process.is_some()
    }

    /// The process, once it is known. Its exit may be reaped before this launch has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    /// Takes what has arrived: reads `/proc/<pid>/status` when the process says that it is confined, and lets it
    /// go or kills it. `None`: not yet. To be asked no more after an answer or an error.
    pub fn try_running(&mut self) -> Result<Option<Running>, StartError> {
        loop {
            let received = match message::receive(self.reply.as_fd())? {
                Arrival::Nothing => return Ok(None),
                Arrival::End => return self.ended().map(Some),
                Arrival::Message(received) => received,
            };
            match received.message {
                Message::Prepared(pidfd, pins) if self.kind == Kind::Exec && self.process.is_none() => {
                    self.pins = pins;
                    self.process = Some((received.sender, Some(pidfd)));
                }
                Message::Listener(listener)
                    if self.phase == Phase::Confining && self.pid() == Some(received.sender) =>
                {
                    self.listener = Some(listener);
                }
                Message::Confined if self.phase == Phase::Confining => self.judge(received.sender)?,
                Message::Created { pid, kept } if self.kind == Kind::Exec => {
                    if self.pid() != Some(pid) {
                        return Err(LaunchError::Protocol("another process was prepared").into());
                    }
                    self.kept = kept;
                }
                Message::Failed { errno, message } => {
                    self.kill();
                    return Err(StartError::Exec { errno, message });
                }
                _ => {
                    self.kill();
                    return Err(LaunchError::Protocol("out of order").into());
                }
            }
        }
    }

    /// Where denied calls are told, once it has come: whoever takes it answers from then on, also those that the process
    /// makes on its way to execve(2).
    #[must_use]
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// The same for callers without an event loop.
    pub fn wait(mut self, at_most: Duration) -> Result<Running, StartError> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(running) = self.try_running()? {
                return Ok(running);
            }
            wait_readable(self.as_fd(), deadline)?;
        }
    }

    /// Ends the process: its worker is gone.
    #[must_use]
    pub fn give_up(&self) -> StartError {
        self.kill();
        LaunchError::WorkerGone.into()
    }

    /// Every other end is closed: by execve(2) if the process was told to go, by its death if not.
    fn ended(&mut self) -> Result<Running, StartError> {
        match (self.phase, self.process.take()) {
            (Phase::Gone, Some((pid, pidfd))) => {
                let (kept, pins) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.pins));
                Ok(Running { pid, pidfd, kept, pins })
            }
            (_, process) => {
                self.process = process;
                self.kill();
                Err(LaunchError::ProcessGone.into())
            }
        }
    }

    fn judge(&mut self, sender: u32) -> Result<(), StartError> {
        if self.pid() != Some(sender) {
            self.kill();
            return Err(LaunchError::Protocol("another process says it is confined").into());
        }
        let path = format!("/proc/{sender}/status");
        let status = std::fs::read_to_string(&path).map_err(LaunchError::io("read(2)", path))?;
        let map = |name: &str| {
            let path = format!("/proc/{sender}/{name}");
            std::fs::read_to_string(&path).map_err(LaunchError::io("read(2)", path))
        };
        let checked = crate::confinement::check_status(&status, &self.confine);
        let checked = match self.confine.user_namespace() {
            None => checked,
            Some(_) => {
                let (uids, gids) = (map("uid_map")?, map("gid_map")?);
                checked.and_then(|()| crate::confinement::check_maps(&uids, &gids, &self.confine))
            }
        };
        if let Err(why) = checked {
            self.kill();
            return Err(StartError::NotConfined { pid: sender, why });
        }
        message::send(self.reply.as_fd(), GO, &[])?;
        self.phase = Phase::Gone;
        Ok(())
    }

    /// Closing the socket makes the process end by itself; killing it makes sure.
    fn kill(&self) {
        match &self.process {
            Some((_, Some(pidfd))) => kill(pidfd.as_fd()),
            // Its parent is this process, which has not reaped it: the pid cannot be another's.
            Some((pid, None)) => {
                if let Ok(pidfd) = sys::pidfd_open(*pid) {
                    kill(pidfd.as_fd());
                }
            }
            None => {}
        }
    }
}

fn kill(pidfd: BorrowedFd<'_>) {
    match sys::pidfd_kill(pidfd, libc::SIGKILL) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
        Err(error) => tracing::error!(%error, "a process that failed to launch could not be killed"),
    }
}

pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<(), LaunchError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(LaunchError::WorkerGone),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(LaunchError::io("poll(2)", "reply socket")(error)),
        }
    }
}
