//! Ranges of ids that pods have: which are taken, on the whole node.
//!
//! ```text
//! /run/bulkhead/ids/lock            held by whoever looks or changes
//!                  /28672/ns:id     a directory for each range that is taken, a file for each container that has it
//! ```
//! Invariant: a range is taken from before its user namespace is made until the last container that has it is deleted,
//! whoever deletes it: the server, or `delete` after a server that died. Where processes of it may be left, it stays taken.
//! Nobody waits for the lock for ever: it is the whole node's.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use bulkhead_model::{ContainerId, Layout, NODE_RANGES, Namespace};
use bulkhead_plan::RangesNeeded;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// How long the lock is waited for. Whoever has it makes or removes a few files.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 3000 });

/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a range was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RangeError {
    /// All of the node's have a pod.
    #[error("all {} ranges of ids that Bulkhead gives to pods are taken: delete containers that are not needed", NODE_RANGES.len())]
    AllTaken,
    /// The request names one that another pod has.
    #[error(
        "the ids from {first} on belong to another pod, {holder}: two pods never share ids; have the kubelet give this \
         pod others"
    )]
    OfAnother {
        /// The first id.
        first: u32,
        /// One of its containers.
        holder: String,
    },
    /// Another process does not let go of the lock.
    #[error(
        "{path} is locked by another process for more than {} s: the shim that has it hangs, or is stopped; fix: find it \
         by lslocks(8), and create the container again",
        LOCK_WAIT_MAX.as_secs()
    )]
    Locked {
        /// The lock.
        path: String,
    },
    /// The machine broke.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call.
        call: &'static str,
        /// Its subject.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Ranges that one container has. Dropped, or released, it has them no more.
#[derive(Debug)]
pub(crate) struct Claim {
    dir: PathBuf,
    holder: String,
    ranges: Vec<u16>,
    released: AtomicBool,
}

impl Claim {
    /// Takes ranges that nobody has.
    pub(crate) async fn take(
        layout: &Layout,
        (namespace, id): (&Namespace, &ContainerId),
        needed: &RangesNeeded,
    ) -> Result<Option<Self>, RangeError> {
        let dir = layout.id_ranges_dir();
        if *needed == RangesNeeded::None {
            return Ok(None);
        }
        let _lock = lock_later(&dir).await?;
        let taken = |range: u16| is_taken(&dir.join(range.to_string()));
        let ranges = match needed {
            RangesNeeded::None => Vec::new(),
            RangesNeeded::OneOfTheNodes => {
                vec![NODE_RANGES.into_iter().find(|range| !taken(*range)).ok_or(RangeError::AllTaken)?]
            }
            RangesNeeded::These(ranges) => {
                if let Some(range) = ranges.iter().find(|range| taken(**range)) {
                    let first = u32::from(*range) * bulkhead_model::RANGE_IDS;
                    return Err(RangeError::OfAnother {
                        first,
                        holder: holder(&dir.join(range.to_string())),
                    });
                }
                ranges.clone()
            }
        };
        Self::enter(dir, name(namespace, id), ranges).map(Some)
    }

    /// Takes ranges that other containers of its pod have.
    pub(crate) async fn join(
        layout: &Layout,
        (namespace, id): (&Namespace, &ContainerId),
        ranges: Vec<u16>,
    ) -> Result<Option<Self>, RangeError> {
        if ranges.is_empty() {
            return Ok(None);
        }
        let dir = layout.id_ranges_dir();
        let _lock = lock_later(&dir).await?;
        Self::enter(dir, name(namespace, id), ranges).map(Some)
    }

    /// With the lock held: what fails is undone here, by no `Claim` that would wait for the lock when it is dropped.
    fn enter(dir: PathBuf, holder: String, ranges: Vec<u16>) -> Result<Self, RangeError> {
        let entered = ranges.iter().try_for_each(|range| enter(&dir.join(range.to_string()), &holder));
        if let Err(error) = entered {
            for range in &ranges {
                if let Err(error) = give_back(&dir.join(range.to_string()), &holder) {
                    tracing::error!(%error, range, "a range of ids is not given back");
                }
            }
            return Err(error);
        }
        Ok(Self { dir, holder, ranges, released: AtomicBool::new(false) })
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<u16> {
        self.ranges.first().copied()
    }

    /// Gives them back.
    pub(crate) fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        let given_back = lock(&self.dir).and_then(|_lock| {
            self.ranges
                .iter()
                .try_for_each(|range| give_back(&self.dir.join(range.to_string()), &self.holder))
        });
        if let Err(error) = given_back {
            tracing::error!(%error, "a range of ids is not given back");
        }
    }

    /// Leaves them taken: processes that have these ids may be left.
    pub(crate) fn keep(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            let first = self.first();
            tracing::error!(first, dir = %self.dir.display(), "a range of ids stays taken, for its processes may be left");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

/// Gives back whatever a container has, for whoever knows nothing but its name.
pub(crate) fn release_all(
    layout: &Layout,
    namespace: &Namespace,
    id: &ContainerId,
) -> Result<(), RangeError> {
    let dir = layout.id_ranges_dir();
    if !dir.exists() {
        return Ok(());
    }
    let _lock = lock(&dir)?;
    for entry in fs::read_dir(&dir).map_err(failed("opendir(3)", &dir))? {
        let range = entry.map_err(failed("readdir(3)", &dir))?.path();
        if range.is_dir() {
            give_back(&range, &name(namespace, id))?;
        }
    }
    Ok(())
}

fn enter(range: &Path, holder: &str) -> Result<(), RangeError> {
    make(range)?;
    let holder = range.join(holder);
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&holder);
    made.map(drop).map_err(failed("open(2)", &holder))
}

/// Also where the container never had it, or half: a directory that nobody is in is nobody's.
fn give_back(range: &Path, holder: &str) -> Result<(), RangeError> {
    let file = range.join(holder);
    match fs::remove_file(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(failed("unlink(2)", &file))?,
    }
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match fs::remove_dir(range) {
        // Other containers of the pod.
        Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotFound) => Ok(()),
        removed => removed.map_err(failed("rmdir(2)", range)),
    }
}

/// With the lock held. An empty directory is what a crash left between its two steps; one that cannot be read is taken.
fn is_taken(range: &Path) -> bool {
    match fs::read_dir(range) {
        Ok(mut holders) => holders.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn holder(range: &Path) -> String {
    let first = fs::read_dir(range).ok().and_then(|mut entries| entries.next()?.ok());
    first.map_or_else(|| "which is gone".to_owned(), |entry| entry.file_name().to_string_lossy().into_owned())
}

/// Neither half has a colon.
fn name(namespace: &Namespace, id: &ContainerId) -> String {
    format!("{namespace}:{id}")
}

/// Whether the lock is this process's now; else the open file, to be tried again.
enum Try {
    Locked(Flock<File>),
    Again(File),
}

fn open_lock(dir: &Path) -> Result<File, RangeError> {
    make(dir)?;
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.map_err(failed("open(2)", &path))
}

fn try_lock(dir: &Path, file: File, began: Instant) -> Result<Try, RangeError> {
    let path = || dir.join("lock");
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Try::Locked(lock)),
        Err((_, Errno::EWOULDBLOCK)) if began.elapsed() >= LOCK_WAIT_MAX => {
            Err(RangeError::Locked { path: path().display().to_string() })
        }
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Try::Again(file)),
        Err((_, errno)) => Err(failed("flock(2)", &path())(errno.into())),
    }
}

/// For the server, which has others to serve meanwhile.
async fn lock_later(dir: &Path) -> Result<Flock<File>, RangeError> {
    let (mut file, began) = (open_lock(dir)?, Instant::now());
    loop {
        match try_lock(dir, file, began)? {
            Try::Locked(lock) => return Ok(lock),
            Try::Again(again) => file = again,
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// For whoever gives back.
fn lock(dir: &Path) -> Result<Flock<File>, RangeError> {
    let (mut file, began) = (open_lock(dir)?, Instant::now());
    loop {
        match try_lock(dir, file, began)? {
            Try::Locked(lock) => return Ok(lock),
            Try::Again(again) => file = again,
        }
        thread::sleep(LOCK_PAUSE);
    }
}

fn make(dir: &Path) -> Result<(), RangeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("mkdir(2)", dir))
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RangeError {
    let path = path.display().to_string();
    move |source| RangeError::Io { call, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn take(layout: &Layout, id: &str, needed: &RangesNeeded) -> Result<Option<Claim>, RangeError> {
        Claim::take(layout, (&"ns".parse().unwrap(), &id.parse().unwrap()), needed).await
    }

    fn taken(layout: &Layout) -> usize {
        fs::read_dir(layout.id_ranges_dir())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    }

    #[tokio::test]
    async fn two_containers_get_two_ranges_and_a_range_that_was_given_back_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let first = take(&layout, "a", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        let second = take(&layout, "b", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        assert_eq!((first.first(), second.first()), (Some(NODE_RANGES.start), Some(NODE_RANGES.start + 1)));
        first.release();
        first.release();
        let third = take(&layout, "c", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        drop(first);
        assert_eq!((third.first(), taken(&layout)), (Some(NODE_RANGES.start), 2));
    }

    #[tokio::test]
    async fn range_of_another_pod_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let theirs = take(&layout, "a", &RangesNeeded::These(vec![2, 3])).await.unwrap().unwrap();
        let error = take(&layout, "b", &RangesNeeded::These(vec![3])).await.unwrap_err().to_string();
        assert!(error.contains("196608") && error.contains("ns:a"), "{error}");
        drop(theirs);
        take(&layout, "b", &RangesNeeded::These(vec![3])).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn range_is_a_pods_until_its_last_container_is_gone_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let namespace: Namespace = "ns".parse().unwrap();
        let (sandbox, app): (ContainerId, ContainerId) = ("sandbox".parse().unwrap(), "app".parse().unwrap());
        let claim = take(&layout, "sandbox", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        let range = claim.first().unwrap();
        std::mem::forget(Claim::join(&layout, (&namespace, &app), vec![range]).await.unwrap());
        std::mem::forget(claim);
        release_all(&layout, &namespace, &sandbox).unwrap();
        assert_eq!(taken(&layout), 1);
        release_all(&layout, &namespace, &app).unwrap();
        assert_eq!(taken(&layout), 0);
    }
    #[tokio::test]
    async fn claim_that_fails_half_way_is_undone_and_holds_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let who = (&"ns".parse().unwrap(), &"a".parse().unwrap());
        // Where the second range's file would be.
        let in_the_way = layout.id_ranges_dir().join("6/ns:a");
        fs::create_dir_all(&in_the_way).unwrap();
        let error = Claim::join(&layout, who, vec![5, 6]).await.unwrap_err();
        assert!(matches!(error, RangeError::Io { call: "open(2)", .. }), "{error}");
        assert!(!layout.id_ranges_dir().join("5").exists());
        fs::remove_dir(&in_the_way).unwrap();
        // Empty, as a crash leaves it: nobody's.
        let claim = take(&layout, "b", &RangesNeeded::These(vec![5, 6])).await.unwrap().unwrap();
        drop(claim);
        assert_eq!(taken(&layout), 0);
    }

    #[tokio::test]
    async fn lock_that_another_holds_is_an_error_and_not_a_wait_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let claim = take(&layout, "a", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        let held = lock(&layout.id_ranges_dir()).unwrap();
        let error = take(&layout, "b", &RangesNeeded::OneOfTheNodes).await.unwrap_err();
        assert!(matches!(error, RangeError::Locked { .. }), "{error}");
        drop(claim);
        assert_eq!(taken(&layout), 1);
        drop(held);
        // The next delete mends it.
        release_all(&layout, &"ns".parse().unwrap(), &"a".parse().unwrap()).unwrap();
        assert_eq!(taken(&layout), 0);
    }

    #[tokio::test]
    async fn range_whose_processes_may_be_left_stays_taken() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let claim = take(&layout, "a", &RangesNeeded::OneOfTheNodes).await.unwrap().unwrap();
        claim.keep();
        claim.release();
        drop(claim);
        assert_eq!(taken(&layout), 1);
    }
}
