//! Files of the image that are held open, and nothing else: Landlock rules of the container's processes are for them, and
//! hold no longer than the kernel knows them (`Prepared::take_pins` of bulkhead-confine).
//!
//! Invariant: one descriptor for each name of a file, however many processes have a rule for it: what is open here stays what
//! the name leads to, for every exec. Not one for each inode: of a file with two names overlay has an inode for each, and both say
//! the same numbers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Most that are held for a container: its first process's and those of an exec that asked for other files. Where its root is
/// writable, it is the container that says which files have several names; what is beyond is closed, and the rule for it holds as long as
/// the kernel knows the file.
const HELD_MAX: usize = 4 * bulkhead_confine::PINS_MAX;

/// A file by its name, st_dev and st_ino.
type Name = (PathBuf, u64, u64);

/// What is held open for a container, until it is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<Name, File>>);

impl Pins {
    /// Keeps what is not kept yet, and closes the rest.
    pub(crate) fn keep(&self, pins: Vec<OwnedFd>) {
        if pins.is_empty() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, pin) in pins.into_iter().enumerate() {
            let pin = File::from(pin);
            // One that cannot be told from the others is kept beside them.
            let name = name(&pin).unwrap_or_else(|error| {
                tracing::warn!(%error, "a file of the image is held open once more");
                (PathBuf::new(), kept.len() as u64, number as u64)
            });
            if kept.len() < HELD_MAX {
                kept.entry(name).or_insert(pin);
            } else if !kept.contains_key(&name) {
                tracing::warn!(most = HELD_MAX, "files of the image are not held open any more");
                return;
            }
        }
    }
}

/// Its path is that of the container's mount, as the kernel says it to whoever is outside.
fn name(pin: &File) -> io::Result<Name> {
    let metadata = pin.metadata()?;
    let path = fs::read_link(format!("/proc/self/fd/{}", pin.as_raw_fd()))?;
    Ok((path, metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_is_held_once_under_each_of_its_names_and_another_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("own"), "").unwrap();
        fs::write(path("other"), "").unwrap();
        fs::hard_link(path("own"), path("own2")).unwrap();
        let pins = Pins::default();
        let count = || pins.0.lock().unwrap().len();
        let open = |name: &str| OwnedFd::from(File::open(path(name)).unwrap());
        for _ in 0..3 {
            pins.keep(vec![open("own"), open("own2")]);
            assert_eq!(count(), 2);
        }
        pins.keep(vec![open("own"), open("other")]);
        assert_eq!(count(), 3);
    }

    #[test]
    fn what_a_container_has_held_open_for_it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::default();
        for number in 0..HELD_MAX + 5 {
            let path = dir.path().join(number.to_string());
            pins.keep(vec![File::create(path).unwrap().into()]);
        }
        assert_eq!(pins.0.lock().unwrap().len(), HELD_MAX);
    }
}
