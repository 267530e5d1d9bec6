//! A receipt: what every look at an unchanged layer comes to.

use std::{
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::Path,
};

use bulkhead_model::{Digest, DigestOf};

use crate::{LayerError, Stat, stat_of, walk};

/// How many bytes are gathered before they are hashed.
const GATHERED_BYTES: usize = 64 * 1024;

/// One digest over everything that stat(2) says of every name of a layer.
///
/// ctime is among it, which no call sets: an edit whose mtime was put back shows.
pub struct Receipt {
    hash: DigestOf,
    gathered: Vec<u8>,
    changed: (i64, u32),
}

/// What a look at a layer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Everything that stat(2) says.
    pub receipt: Digest,
    /// The latest ctime: seconds, nanoseconds.
    pub changed: (i64, u32),
}

impl Receipt {
    /// Walks the layer.
    ///
    /// # Errors
    /// What could not be looked at.
    pub fn of(layer: BorrowedFd<'_>) -> Result<Seen, LayerError> {
        let mut receipt = Self::new(Vec::with_capacity(2 * GATHERED_BYTES));
        walk(layer, &mut |_, path, stat| {
            receipt.add(path, stat);
            Ok::<(), LayerError>(())
        })?;
        Ok(receipt.finish())
    }

    /// Of the file that a layer is an image in.
    ///
    /// # Errors
    /// It could not be looked at.
    pub fn of_image(image: BorrowedFd<'_>) -> Result<Seen, LayerError> {
        let failed = |errno| LayerError::Call { call: "statx(2)", path: "layer.erofs".into(), errno };
        let mut receipt = Self::new(b"image ".to_vec());
        receipt.add(Path::new(""), &stat_of(image).map_err(failed)?);
        Ok(receipt.finish())
    }

    fn new(gathered: Vec<u8>) -> Self {
        Self { hash: DigestOf::new(), gathered, changed: (i64::MIN, 0) }
    }

    fn finish(mut self) -> Seen {
        self.hash.add(&self.gathered);
        Seen { receipt: self.hash.finish(), changed: self.changed }
    }

    fn add(&mut self, path: &Path, stat: &Stat) {
        let Stat { device, inode, mode, links, uid, gid, size, special, modified, changed } = *stat;
        self.changed = self.changed.max(changed);
        let path = path.as_os_str().as_bytes();
        let numbers = [
            path.len() as u64,
            u64::from(device.0) << 32 | u64::from(device.1),
            inode,
            u64::from(mode) << 32 | u64::from(links),
            u64::from(uid) << 32 | u64::from(gid),
            size,
            u64::from(special.0) << 32 | u64::from(special.1),
            modified.0.cast_unsigned(),
            changed.0.cast_unsigned(),
            u64::from(modified.1) << 32 | u64::from(changed.1),
        ];
        for number in numbers {
            self.gathered.extend_from_slice(&number.to_le_bytes());
        }
        self.gathered.extend_from_slice(path);
        if self.gathered.len() >= GATHERED_BYTES {
            self.hash.add(&self.gathered);
            self.gathered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs::{self, File, FileTimes},
        os::{fd::AsFd, unix::fs::PermissionsExt},
        time::{Duration, Instant},
    };

    use super::*;

    fn receipt(dir: &Path) -> Digest {
        Receipt::of(File::open(dir).unwrap().as_fd()).unwrap().receipt
    }

    #[test]
    fn receipt_stays_while_nothing_changes_and_each_edit_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "c"] {
            fs::write(path(name), "one").unwrap();
        }
        fs::create_dir(path("dir")).unwrap();
        let mut before = receipt(dir.path());
        assert_eq!(before, receipt(dir.path()));
        fs::read(path("a")).unwrap();
        assert_eq!(before, receipt(dir.path()), "a file was read");

        let edits: [(&str, &dyn Fn()); 6] = [
            ("mode", &|| fs::set_permissions(path("a"), fs::Permissions::from_mode(0o666)).unwrap()),
            ("added", &|| fs::write(path("dir/new"), "").unwrap()),
            ("removed", &|| fs::remove_file(path("b")).unwrap()),
            ("linked", &|| fs::hard_link(path("a"), path("dir/a")).unwrap()),
            ("renamed", &|| fs::rename(path("dir/a"), path("dir/b")).unwrap()),
            ("mtime put back", &|| {
                let mtime = fs::metadata(path("c")).unwrap().modified().unwrap();
                // The kernel's clock for files ticks every few milliseconds.
                let started = Instant::now();
                while started.elapsed() < Duration::from_millis(20) {
                    std::hint::spin_loop();
                }
                fs::write(path("c"), "two").unwrap();
                File::options()
                    .write(true)
                    .open(path("c"))
                    .unwrap()
                    .set_times(FileTimes::new().set_modified(mtime))
                    .unwrap();
                assert_eq!(fs::metadata(path("c")).unwrap().modified().unwrap(), mtime);
            }),
        ];
        for (name, edit) in edits {
            edit();
            let after = receipt(dir.path());
            assert_ne!(before, after, "{name}");
            before = after;
        }
    }
}
