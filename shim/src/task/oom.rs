//! Tells when the kernel has killed something in a container for want of memory.
//!
//! ```text
//! v1   eventfd ◄─ memory.oom_control    ┐
//! v2   inotify ◄─ memory.events         ├─► count of kills grew? ─► TaskOOM
//! exit of a process by SIGKILL          ┘
//! ```
//! The last line is for order: a death is told after its cause, whichever was noticed first.
//!
//! Invariant: one event for each time the count is seen to have grown; none without a kill.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bulkhead_cgroup::{Cgroup, Version};
use containerd_shim_protos::events::task::TaskOOM;
use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::{io::Interest, task::JoinHandle, time::sleep};

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
pub(crate) struct OomCount(AtomicU64);

/// Watches until it is dropped.
pub(crate) struct OomWatch(JoinHandle<()>);

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OomCount {
    /// Tells if the count has grown, and says whether it has.
    pub(crate) fn check(&self, cgroup: &Cgroup, id: &str, publisher: &Publisher) -> bool {
        let kills = match cgroup.oom_kills() {
            Ok(kills) => kills,
            // The group is removed at Delete, which this may meet half way.
            Err(error) if error.is_not_found() => return false,
            Err(error) => {
                tracing::warn!(error = chain(&error), id, "kills for want of memory cannot be counted");
                return false;
            }
        };
        let grown = kills > self.0.fetch_max(kills, Ordering::Relaxed);
        if grown {
            let mut event = TaskOOM::new();
            event.container_id = id.to_owned();
            publisher.publish(event);
        }
        grown
    }
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
    let events = sys::watch(File::from(events), Interest::READABLE)?;
    let (cgroup, id, count, publisher) =
        (cgroup.clone(), id.to_owned(), Arc::clone(count), publisher.clone());
    let task = tokio::spawn(async move {
        let _keep = keep;
        let mut buffer = [0; EVENT_BYTES];
        while events.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await.is_ok() {
            for wait_ms in LOOK_AGAIN_MS {
                if count.check(&cgroup, &id, &publisher) {
                    break;
                }
                sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    });
    Ok(Some(OomWatch(task)))
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
