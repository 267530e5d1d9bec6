//! The store of receipts: one file of root's alone for each chain ID and directory, written whole or not at all.
//!
//! A file that is missing, cut short, of another version or about something else is no receipt: the layer is compared
//! anew. A file that others could have written is a failure that names it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bulkhead_model::{CONTENTS_VERSION, Digest, Layout};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{Failure, store};

/// Most bytes of a receipt's file: two digests, a path, and air.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Most directories whose receipts are kept for one chain ID: one for each snapshotter and each time that the image
/// was removed and pulled again.
const KEPT_MAX: usize = 16;

/// That a layer was compared, and what it looked like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipt {
    version: u32,
    chain: Digest,
    directory: PathBuf,
    /// What stat(2) said of all its names.
    pub(super) receipt: Digest,
    /// When the comparison began, in nanoseconds since 1970.
    pub(super) compared_from_ns: u64,
}

impl Receipt {
    pub(super) fn new(chain: &Digest, directory: &Path, receipt: &Digest, compared_from_ns: u64) -> Self {
        Self {
            version: CONTENTS_VERSION,
            chain: *chain,
            directory: directory.to_owned(),
            receipt: *receipt,
            compared_from_ns,
        }
    }
}

/// The stored receipt, if there is one to be believed.
pub(super) fn load(layout: &Layout, chain: &Digest, directory: &Path) -> Result<Option<Receipt>, Failure> {
    let path = layout.receipt_file(chain, directory);
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(nofollow).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::File { call: "open(2)", path, error }),
    };
    let failed = |call, error| Failure::File { call, path: path.clone(), error };
    store::check(&path, &file.metadata().map_err(|error| failed("fstat(2)", error))?)?;
    for dir in path.ancestors().skip(1).take(2) {
        let metadata = fs::symlink_metadata(dir);
        store::check(dir, &metadata.map_err(|error| failed("lstat(2) of the directory of", error))?)?;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| failed("read(2)", error))?;
    let stored: Option<Receipt> = serde_json::from_slice(&text).ok();
    Ok(stored.filter(|stored| {
        let Receipt { version, chain: about, directory: place, receipt: _, compared_from_ns: _ } = stored;
        *version == CONTENTS_VERSION && about == chain && place == directory
    }))
}

/// Stores a receipt. Another image's comparison may store one of the same layer at the same moment.
pub(super) fn save(
    layout: &Layout,
    chain: &Digest,
    directory: &Path,
    receipt: &Receipt,
) -> Result<(), Failure> {
    let path = layout.receipt_file(chain, directory);
    let failed = |error| Failure::File { call: "encode", path: path.clone(), error };
    let text = serde_json::to_vec(receipt).map_err(|error| failed(error.into()))?;
    store::make_parent(&path)?;
    forget_oldest(&path)?;
    store::write_whole_among_others(&path, &text)
}

fn forget_oldest(path: &Path) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let failed = |call, error| Failure::File { call, path: dir.to_owned(), error };
    let mut kept = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed("getdents64(2)", error))? {
        let entry = entry.map_err(|error| failed("getdents64(2)", error))?;
        match entry.metadata().and_then(|metadata| metadata.modified()) {
            Ok(changed) => kept.push((changed, entry.path())),
            // Another comparison has given it its name, or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("lstat(2) in", error)),
        }
    }
    kept.sort();
    let too_many = (kept.len() + 1).saturating_sub(KEPT_MAX);
    for (_, old) in kept.into_iter().filter(|(_, old)| old != path).take(too_many) {
        match fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::File { call: "unlink(2)", path: old, error });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn receipt_counts_for_its_chain_and_directory_and_for_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let (chain, other) = (Digest::of(b"chain"), Digest::of(b"other"));
        let receipt = Receipt::new(&chain, Path::new("/s/1/fs"), &Digest::of(b"receipt"), 7);
        save(&layout, &chain, Path::new("/s/1/fs"), &receipt).unwrap();
        assert_eq!(load(&layout, &chain, Path::new("/s/1/fs")).unwrap(), Some(receipt));
        assert_eq!(load(&layout, &chain, Path::new("/s/2/fs")).unwrap(), None);
        assert_eq!(load(&layout, &other, Path::new("/s/1/fs")).unwrap(), None);

        let file = layout.receipt_file(&chain, Path::new("/s/1/fs"));
        let moved = layout.receipt_file(&other, Path::new("/s/1/fs"));
        fs::create_dir(moved.parent().unwrap()).unwrap();
        fs::copy(&file, &moved).unwrap();
        assert_eq!(load(&layout, &other, Path::new("/s/1/fs")).unwrap(), None, "moved");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&format!("\"version\":{CONTENTS_VERSION}"), "\"version\":1")).unwrap();
        assert_eq!(load(&layout, &chain, Path::new("/s/1/fs")).unwrap(), None, "of another version");
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert_eq!(load(&layout, &chain, Path::new("/s/1/fs")).unwrap(), None, "cut short");
    }

    #[test]
    fn receipt_that_others_may_write_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let (chain, place) = (Digest::of(b"chain"), Path::new("/s/1/fs"));
        let receipt = Receipt::new(&chain, place, &Digest::of(b"receipt"), 7);
        save(&layout, &chain, place, &receipt).unwrap();
        let file = layout.receipt_file(&chain, place);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(load(&layout, &chain, place), Err(Failure::Untrusted { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(load(&layout, &chain, place), Err(Failure::Untrusted { .. })));
    }

    #[test]
    fn receipts_that_are_stored_at_once_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let (chain, place) = (Digest::of(b"chain"), Path::new("/s/1/fs"));
        let receipt = Receipt::new(&chain, place, &Digest::of(b"receipt"), 7);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        save(&layout, &chain, place, &receipt).unwrap();
                    }
                });
            }
        });
        assert_eq!(load(&layout, &chain, place).unwrap(), Some(receipt));
    }

    #[test]
    fn directories_that_are_gone_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let chain = Digest::of(b"chain");
        for number in 0..3 * KEPT_MAX {
            let place = PathBuf::from(format!("/s/{number}/fs"));
            let receipt = Receipt::new(&chain, &place, &Digest::of(b"receipt"), 7);
            save(&layout, &chain, &place, &receipt).unwrap();
            assert!(load(&layout, &chain, &place).unwrap().is_some());
        }
        let place = layout.receipt_file(&chain, Path::new("/"));
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), KEPT_MAX);
    }
}
