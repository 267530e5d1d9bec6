//! The zygote and its spare: a server that has confined itself can make neither again.
//!
//! ```text
//! working ◄─ jobs ─ server          killed: the spare works, and is asked for a new spare
//! spare   ◄─ nothing until then     killed: the working one is asked for a new spare
//! ```
//! A spare costs what it has written since it was forked: a few pages.
//!
//! Invariant: a job that a dead zygote cannot have read is sent once more, and no other.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::{LaunchError, message, ticket::wait_readable, wire};

/// How long a new zygote may take to say that it is there.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// One zygote, as the server sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) socket: OwnedFd,
    pub(crate) pid: u32,
}

#[derive(Debug)]
struct Members {
    working: Option<Member>,
    spare: Option<Member>,
}

/// Those that are there.
#[derive(Debug)]
pub(crate) struct Line(Mutex<Members>);

impl Line {
    pub(crate) fn new(working: Member, spare: Member) -> Self {
        Self(Mutex::new(Members { working: Some(working), spare: Some(spare) }))
    }

    /// Pid of the one that works; 0 when none does.
    pub(crate) fn pid(&self) -> u32 {
        self.members().working.as_ref().map_or(0, |member| member.pid)
    }

    /// Sends a job to whoever works.
    pub(crate) fn send(&self, fds: &[BorrowedFd<'_>]) -> Result<(), LaunchError> {
        let mut members = self.members();
        loop {
            let working = members.working.as_ref().ok_or(LaunchError::ZygoteGone)?;
            match wire::send(working.socket.as_fd(), wire::JOB, fds) {
                // Nobody has read it.
                Err(LaunchError::ZygoteGone) => members.replace(),
                sent => return sent,
            }
        }
    }

    /// A child has ended: whether it was one of these. If so, another takes its place.
    pub(crate) fn ended(&self, pid: u32) -> bool {
        let mut members = self.members();
        if members.working.as_ref().is_some_and(|member| member.pid == pid) {
            members.replace();
            return true;
        }
        if members.spare.as_ref().is_some_and(|member| member.pid == pid) {
            members.spare = None;
            members.need_spare();
            return true;
        }
        false
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn replace(&mut self) {
        self.working = self.spare.take();
        self.need_spare();
    }

    /// Without a spare all goes on as before, until the next death.
    fn need_spare(&mut self) {
        let Some(working) = &self.working else {
            tracing::error!("the zygote and its spare are gone: nothing can be started any more");
            return;
        };
        match ask_for_spare(working) {
            Ok(spare) => self.spare = Some(spare),
            Err(error) => tracing::error!(%error, "the zygote has no spare"),
        }
    }
}

fn ask_for_spare(working: &Member) -> Result<Member, LaunchError> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(LaunchError::io("socketpair(2)", "zygote"))?;
    message::ask_for_credentials(&ours)?;
    wire::send(working.socket.as_fd(), wire::SPARE, &[theirs.as_fd()])?;
    drop(theirs);
    let deadline = Instant::now() + HELLO_MAX;
    loop {
        wait_readable(ours.as_fd(), deadline)?;
        match message::receive(ours.as_fd())? {
            message::Arrival::Nothing => {}
            message::Arrival::End => return Err(LaunchError::ZygoteGone),
            // Who sent it is all that counts, and the kernel says that.
            message::Arrival::Message(hello) => return Ok(Member { socket: ours, pid: hello.sender }),
        }
    }
}
