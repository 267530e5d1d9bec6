//! The directory of one layer.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, open, openat, openat2, syncfs};

use crate::{LayerError, Receipt, Seen, erofs};

/// `f_type` of file systems that are no layer's: what they show may change from one look to the next, or is no copy of
/// a tar's files.
///
/// Source: include/uapi/linux/magic.h; EROFS: `EROFS_SUPER_MAGIC_V1`.
const FOREIGN: [(u32, &str); 3] = [
    (0x6573_5546, "it is a FUSE mount, whose files are made while they are read (stargz, nydus, soci)"),
    (0xe0f5_e1e2, "it is an EROFS image, of which the snapshotter keeps no layer.erofs"),
    (0x794c_7630, "it is an overlay itself"),
];

/// `f_type` of file systems that keep files in memory alone: they write no page back, and so never ask again when a
/// page that is mapped shared is written to. ctime does not tell of such a write.
///
/// Source: include/uapi/linux/magic.h, `TMPFS_MAGIC` and `RAMFS_MAGIC`; `shmem_mmap`, mm/shmem.c.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A layer that is open.
#[derive(Debug)]
pub struct Layer {
    root: OwnedFd,
    /// The file that `root` is a mount of.
    image: Option<OwnedFd>,
}

impl Layer {
    /// What it looks like: of a directory, all that stat(2) says of all names below it; of an image, of its file, without
    /// which nothing of it changes.
    ///
    /// # Errors
    /// What could not be looked at.
    pub fn receipt(&self) -> Result<Seen, LayerError> {
        match &self.image {
            None => Receipt::of(self.root.as_fd()),
            Some(image) => Receipt::of_image(image.as_fd()),
        }
    }

    /// What a receipt of it is of.
    pub(crate) fn seen(&self) -> BorrowedFd<'_> {
        self.image.as_ref().map_or(self.root.as_fd(), AsFd::as_fd)
    }

    /// Whether every write to it changes a ctime.
    pub(crate) fn tells_of_writes(&self) -> Result<bool, LayerError> {
        let kind = fstatfs(self.seen()).map_err(layer_failed("fstatfs(2)"))?.f_type;
        Ok(!IN_MEMORY.iter().any(|magic| i64::from(*magic) == kind))
    }

    /// Writes back what is mapped and dirty: the next write through an older mapping is a fault again, and changes a
    /// ctime.
    pub(crate) fn write_back(&self) -> Result<(), LayerError> {
        syncfs(self.seen()).map_err(layer_failed("syncfs(2)"))
    }

    /// Its root directory.
    #[must_use]
    pub fn into_root(self) -> OwnedFd {
        self.root
    }
}

impl AsFd for Layer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Opens `…/snapshots/N/fs`, or what `…/snapshots/N/layer.erofs` holds where there is one. The two last parts are no symbolic links and no mounts; what is above them is
/// containerd's root, wherever that was put.
///
/// # Errors
/// It cannot be opened, or it is no directory that a layer was unpacked into.
pub fn open_layer(path: &Path) -> Result<Layer, LayerError> {
    let failed = |call| move |errno| LayerError::Call { call, path: path.to_owned(), errno };
    let foreign = |why| LayerError::Foreign { path: path.to_owned(), why };
    let (Some(base), Some(rest)) = (path.ancestors().nth(2), last_two(path)) else {
        return Err(foreign("its path is too short"));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Some(image) = erofs::image_of(path)? {
        let mount = erofs::mounted(image.as_fd(), path)?;
        let root = openat(&mount, ".", flags, Mode::empty()).map_err(failed("openat(2)"))?;
        return Ok(Layer { root, image: Some(image) });
    }
    let base = open(base, flags, Mode::empty()).map_err(failed("open(2)"))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let layer = openat2(&base, rest, flags | OFlags::NOFOLLOW, Mode::empty(), resolve)
        .map_err(failed("openat2(2)"))?;
    let kind = fstatfs(&layer).map_err(failed("fstatfs(2)"))?.f_type;
    if let Some((_, why)) = FOREIGN.iter().find(|(magic, _)| i64::from(*magic) == kind) {
        return Err(foreign(why));
    }
    Ok(Layer { root: layer, image: None })
}

fn layer_failed(call: &'static str) -> impl Fn(rustix::io::Errno) -> LayerError {
    move |errno| LayerError::Call { call, path: ".".into(), errno }
}

fn last_two(path: &Path) -> Option<PathBuf> {
    let (last, above) = (path.file_name()?, path.parent()?.file_name()?);
    Some(Path::new(above).join(last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn layer_opens_below_a_linked_root_and_not_through_a_link_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/snapshots/1/fs")).unwrap();
        symlink("data", dir.path().join("root")).unwrap();
        assert!(open_layer(&dir.path().join("root/snapshots/1/fs")).is_ok());
        symlink("1", dir.path().join("data/snapshots/2")).unwrap();
        assert!(open_layer(&dir.path().join("root/snapshots/2/fs")).is_err());
        fs::create_dir(dir.path().join("data/snapshots/3")).unwrap();
        symlink("../1/fs", dir.path().join("data/snapshots/3/fs")).unwrap();
        assert!(open_layer(&dir.path().join("root/snapshots/3/fs")).is_err());
    }
}
