//! The one reaper: every child of the server ends here.
//!
//! ```text
//! waitpid(-1) ─► known pid ─► its container
//!             └► unknown   ─► a launch is under way: parked until it ends ─► claimed, or forgotten
//!                          └► none is: an orphan, a worker, the judge: forgotten
//! ```
//! A process may end before the reply that names it was read: its exit waits here until then.
//!
//! Invariant: nothing else in this process waits for a child of the zygote.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{signal::unix::Signal, sync::watch, time::sleep};

use crate::{
    sys,
    task::{Container, Process, Tasks},
};

/// How often a launch is looked at once it is in doubt.
const LOOK_AGAIN_MS: u64 = 100;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code, or 128 and the signal that killed it.
    pub(crate) status: u32,
    /// When it was reaped.
    pub(crate) at: SystemTime,
}

/// Whose process a pid is.
#[derive(Clone)]
pub(crate) struct Owner {
    /// The container.
    pub(crate) container: Arc<Container>,
    /// Its init or one of its execs.
    pub(crate) process: Arc<Process>,
}

/// Which pids are whose.
pub(crate) struct Reaper {
    pids: Mutex<Pids>,
    /// How many ended otherwise than by exit 0 that were none of a container's.
    broken: watch::Sender<u64>,
}

#[derive(Default)]
struct Pids {
    known: HashMap<u32, Owner>,
    parked: HashMap<u32, Exit>,
    launches: usize,
}

/// While it lives, exits of unknown pids are kept.
pub(crate) struct Launching<'a> {
    reaper: &'a Reaper,
    broken: watch::Receiver<u64>,
    /// How many had ended when it began.
    seen: u64,
}

impl Reaper {
    /// No child yet.
    pub(crate) fn new() -> Self {
        Self { pids: Mutex::default(), broken: watch::Sender::new(0) }
    }

    /// To be called before a launch is asked for.
    pub(crate) fn launching(&self) -> Launching<'_> {
        self.pids().launches += 1;
        let broken = self.broken.subscribe();
        let seen = *broken.borrow();
        Launching { reaper: self, broken, seen }
    }

    /// A process that has ended: its owner, if it is known.
    fn ended(&self, pid: u32, exit: Exit) -> Option<Owner> {
        let mut pids = self.pids();
        let owner = pids.known.remove(&pid);
        if owner.is_none() {
            if pids.launches > 0 {
                pids.parked.insert(pid, exit);
            }
            if exit.status != 0 {
                self.broken.send_modify(|broken| *broken += 1);
            }
        }
        owner
    }

    fn pids(&self) -> MutexGuard<'_, Pids> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launching<'_> {
    /// Returns when a child has ended that may have been the worker of this launch: once for each, and from then on
    /// again and again. What it was can only be told by looking.
    pub(crate) async fn doubts(&mut self) {
        if *self.broken.borrow() == self.seen && self.broken.changed().await.is_ok() {
            self.seen = u64::MAX;
            return;
        }
        sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }

    /// Says whose `pid` is. It may have ended already: then its exit is returned, and nothing else will come.
    #[must_use]
    pub(crate) fn claim(&self, pid: u32, owner: Owner) -> Option<Exit> {
        let mut pids = self.reaper.pids();
        let exit = pids.parked.remove(&pid);
        if exit.is_none() {
            pids.known.insert(pid, owner);
        }
        exit
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        let mut pids = self.reaper.pids();
        pids.launches -= 1;
        if pids.launches == 0 {
            pids.parked.clear();
        }
    }
}

/// Reaps until the server ends.
pub(crate) async fn run(mut children: Signal, tasks: Arc<Tasks>) {
    while children.recv().await.is_some() {
        while let Some((pid, status)) = sys::reap() {
            let exit = Exit { status, at: SystemTime::now() };
            if let Some(owner) = tasks.reaper().ended(pid, exit) {
                tasks.exited(&owner, exit);
            } else if tasks.stages().zygote().ended(pid) {
                tracing::warn!(status, "a zygote has ended");
            }
        }
    }
}
