//! Tells when the kernel has killed something in a container for want of memory.
//!
//! ```text
//! v1   eventfd ◄─ memory.oom_control    ┐
//! v2   inotify ◄─ memory.events         ├─► count of kills grew? ─► TaskOOM
//! exit of a process by SIGKILL          ┘
//! ```
//! The last line is for order: a death is told after its cause, whichever was noticed first.
//!
//! systemd removes a scope that has become empty, with the count in it, and may do so before this process has looked. On v2
//! the group above has counted the kill too: where memory.events of the container has changed since its count was last
//! read, and that of the group above has grown meanwhile, the kill was the container's. (A lone scope whose slice goes
//! with it leaves no witness; a pod's slice stays.)
//!
//! Invariant: one event for each time the count is seen to have grown; none without a kill.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bulkhead_cgroup::{Cgroup, CgroupError, Version};
use containerd_shim_protos::events::task::TaskOOM;
use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
    time::sleep,
};

use super::error::chain;
use crate::{server::Publisher, sys};

/// Longest batch of events read at once, in bytes: what they say does not matter.
const EVENT_BYTES: usize = 1024;

/// Waits between looks at the count: cgroup v1 says that memory ran out before it chooses whom to kill.
///
/// Source: `mem_cgroup_oom`, mm/memcontrol-v1.c: `mem_cgroup_oom_notify` comes before `out_of_memory`.
const LOOK_AGAIN_MS: [u64; 4] = [2, 10, 50, 200];

/// What has been told of one container.
#[derive(Default)]
pub(crate) struct OomCount {
    told: AtomicU64,
    /// Kills in the group above, when the container's own were last read.
    above: AtomicU64,
    /// Whether memory.events has changed since.
    stirred: AtomicBool,
}

/// Watches until it is dropped.
pub(crate) struct OomWatch {
    events: Arc<AsyncFd<File>>,
    task: JoinHandle<()>,
}

impl OomWatch {
    /// Whether something has changed that the task below has not heard of yet.
    fn has_news(&self) -> bool {
        let mut buffer = [0; EVENT_BYTES];
        self.events.get_ref().read(&mut buffer).is_ok_and(|count| is_change(&buffer[..count]))
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OomCount {
    /// Tells if the count has grown, and says whether it has.
    pub(crate) fn check(&self, cgroup: &Cgroup, id: &str, publisher: &Publisher) -> bool {
        let grown = self.grown(cgroup).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), id, "kills for want of memory cannot be counted");
            false
        });
        if grown {
            let mut event = TaskOOM::new();
            event.container_id = id.to_owned();
            publisher.publish(event);
        }
        grown
    }

    /// The same for a process that has ended, whose scope may be gone.
    pub(crate) fn check_after_end(
        &self,
        cgroup: &Cgroup,
        id: &str,
        publisher: &Publisher,
        watch: Option<&OomWatch>,
    ) {
        if is_scope_of_v2(cgroup) && watch.is_some_and(OomWatch::has_news) {
            self.stirred.store(true, Ordering::Relaxed);
        }
        self.check(cgroup, id, publisher);
    }

    fn grown(&self, cgroup: &Cgroup) -> Result<bool, CgroupError> {
        if let Some(kills) = cgroup.oom_kills()? {
            self.note_above(cgroup)?;
            self.stirred.store(false, Ordering::Relaxed);
            return Ok(kills > self.told.fetch_max(kills, Ordering::Relaxed));
        }
        // It is gone: at Delete, or by systemd.
        Ok(is_scope_of_v2(cgroup)
            && self.stirred.swap(false, Ordering::Relaxed)
            && self.note_above(cgroup)?)
    }

    /// Whether the group above has counted more since it was last asked.
    fn note_above(&self, cgroup: &Cgroup) -> Result<bool, CgroupError> {
        if !is_scope_of_v2(cgroup) {
            return Ok(false);
        }
        let above = cgroup.oom_kills_above()?.unwrap_or(0);
        Ok(above > self.above.fetch_max(above, Ordering::Relaxed))
    }
}

fn is_scope_of_v2(cgroup: &Cgroup) -> bool {
    cgroup.is_systemds() && cgroup.version() == Version::V2
}

/// Starts to watch. A host without a memory controller has nothing to watch.
pub(crate) fn watch(
    cgroup: &Cgroup,
    id: &str,
    count: &Arc<OomCount>,
    publisher: &Publisher,
) -> io::Result<Option<OomWatch>> {
    let v2 = cgroup.version() == Version::V2;
    let dir = cgroup.dirs().find(|(names, _)| v2 || names.split(',').any(|name| name == "memory"));
    let Some((_, dir)) = dir else { return Ok(None) };
    let (events, keep) = if v2 { (inotify(dir)?, None) } else { eventfd(dir)? };
    let events = Arc::new(sys::watch(File::from(events), Interest::READABLE)?);
    count.note_above(cgroup).map_err(io::Error::other)?;
    let (cgroup, id, count, publisher) =
        (cgroup.clone(), id.to_owned(), Arc::clone(count), publisher.clone());
    let watched = Arc::clone(&events);
    let task = tokio::spawn(async move {
        let _keep = keep;
        let mut buffer = [0; EVENT_BYTES];
        while let Ok(length) = watched.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await {
            if v2 && is_change(&buffer[..length]) {
                count.stirred.store(true, Ordering::Relaxed);
            }
            for wait_ms in LOOK_AGAIN_MS {
                if count.check(&cgroup, &id, &publisher) {
                    break;
                }
                sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    });
    Ok(Some(OomWatch { events, task }))
}

/// Whether one of these events of inotify is more than the end of the watch.
///
/// Source: `struct inotify_event`, include/uapi/linux/inotify.h: of a file that is watched itself no name follows.
fn is_change(events: &[u8]) -> bool {
    const EVENT: usize = 16;
    events.chunks_exact(EVENT).any(|event| {
        let mask = [event[4], event[5], event[6], event[7]];
        u32::from_ne_bytes(mask) & AddWatchFlags::IN_MODIFY.bits() != 0
    })
}

fn inotify(dir: &Path) -> io::Result<OwnedFd> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(&dir.join("memory.events"), AddWatchFlags::IN_MODIFY)?;
    Ok(inotify.into())
}

/// The event, and the file that must stay open with it.
///
/// Source: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
fn eventfd(dir: &Path) -> io::Result<(OwnedFd, Option<File>)> {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    OpenOptions::new().write(true).open(dir.join("cgroup.event_control"))?.write_all(line.as_bytes())?;
    Ok((event.into(), Some(control)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn change_of_a_file_is_told_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.events"), "oom_kill 0\n").unwrap();
        let events = File::from(inotify(dir.path()).unwrap());
        let read = || {
            let mut buffer = [0; EVENT_BYTES];
            (&events).read(&mut buffer).map(|length| is_change(&buffer[..length]))
        };
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::write(dir.path().join("memory.events"), "oom_kill 1\n").unwrap();
        assert!(read().unwrap());
        std::fs::remove_file(dir.path().join("memory.events")).unwrap();
        assert!(!read().unwrap());
    }
}
