//! Ranges of ids that pods have: which are taken, on the whole node.
//!
//! ```text
//! /run/bulkhead/ids/lock            held by whoever looks or changes
//!                  /28672/ns:id     a directory for each range that is taken, a file for each container that has it
//! ```
//! Invariant: a range is taken from before its user namespace is made until the last container that has it is deleted,
//! whoever deletes it: the server, or `delete` after a server that died.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bulkhead_model::{ContainerId, Layout, NODE_RANGES, Namespace};
use bulkhead_plan::RangesNeeded;
use nix::fcntl::{Flock, FlockArg};

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
    pub(crate) fn take(
        layout: &Layout,
        (namespace, id): (&Namespace, &ContainerId),
        needed: &RangesNeeded,
    ) -> Result<Option<Self>, RangeError> {
        let dir = layout.id_ranges_dir();
        if *needed == RangesNeeded::None {
            return Ok(None);
        }
        let _lock = lock(&dir)?;
        let taken = |range: u16| dir.join(range.to_string()).exists();
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
        Self { dir, holder: name(namespace, id), ranges, released: AtomicBool::new(false) }.enter().map(Some)
    }

    /// Takes ranges that other containers of its pod have.
    pub(crate) fn join(
        layout: &Layout,
        (namespace, id): (&Namespace, &ContainerId),
        ranges: Vec<u16>,
    ) -> Result<Option<Self>, RangeError> {
        if ranges.is_empty() {
            return Ok(None);
        }
        let dir = layout.id_ranges_dir();
        let _lock = lock(&dir)?;
        Self { dir, holder: name(namespace, id), ranges, released: AtomicBool::new(false) }.enter().map(Some)
    }

    /// With the lock held.
    fn enter(self) -> Result<Self, RangeError> {
        for range in &self.ranges {
            let range = self.dir.join(range.to_string());
            make(&range)?;
            let holder = range.join(&self.holder);
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&holder);
            made.map_err(failed("open(2)", &holder))?;
        }
        Ok(self)
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

fn give_back(range: &Path, holder: &str) -> Result<(), RangeError> {
    let file = range.join(holder);
    match fs::remove_file(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(failed("unlink(2)", &file))?,
    }
    match fs::remove_dir(range) {
        // Other containers of the pod.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(failed("rmdir(2)", range)),
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

fn lock(dir: &Path) -> Result<Flock<File>, RangeError> {
    make(dir)?;
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed("open(2)", &path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("flock(2)", &path)(errno.into()))
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

    fn take(layout: &Layout, id: &str, needed: &RangesNeeded) -> Result<Option<Claim>, RangeError> {
        Claim::take(layout, (&"ns".parse().unwrap(), &id.parse().unwrap()), needed)
    }

    fn taken(layout: &Layout) -> usize {
        fs::read_dir(layout.id_ranges_dir())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    }

    #[test]
    fn two_containers_get_two_ranges_and_a_range_that_was_given_back_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let first = take(&layout, "a", &RangesNeeded::OneOfTheNodes).unwrap().unwrap();
        let second = take(&layout, "b", &RangesNeeded::OneOfTheNodes).unwrap().unwrap();
        assert_eq!((first.first(), second.first()), (Some(NODE_RANGES.start), Some(NODE_RANGES.start + 1)));
        first.release();
        first.release();
        let third = take(&layout, "c", &RangesNeeded::OneOfTheNodes).unwrap().unwrap();
        drop(first);
        assert_eq!((third.first(), taken(&layout)), (Some(NODE_RANGES.start), 2));
    }

    #[test]
    fn range_of_another_pod_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let theirs = take(&layout, "a", &RangesNeeded::These(vec![2, 3])).unwrap().unwrap();
        let error = take(&layout, "b", &RangesNeeded::These(vec![3])).unwrap_err().to_string();
        assert!(error.contains("196608") && error.contains("ns:a"), "{error}");
        drop(theirs);
        take(&layout, "b", &RangesNeeded::These(vec![3])).unwrap().unwrap();
    }

    #[test]
    fn range_is_a_pods_until_its_last_container_is_gone_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let namespace: Namespace = "ns".parse().unwrap();
        let (sandbox, app): (ContainerId, ContainerId) = ("sandbox".parse().unwrap(), "app".parse().unwrap());
        let claim = take(&layout, "sandbox", &RangesNeeded::OneOfTheNodes).unwrap().unwrap();
        let range = claim.first().unwrap();
        std::mem::forget(Claim::join(&layout, (&namespace, &app), vec![range]).unwrap());
        std::mem::forget(claim);
        release_all(&layout, &namespace, &sandbox).unwrap();
        assert_eq!(taken(&layout), 1);
        release_all(&layout, &namespace, &app).unwrap();
        assert_eq!(taken(&layout), 0);
    }
}
