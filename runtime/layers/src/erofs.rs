//! Layers that containerd's EROFS snapshotter keeps as images: one file per layer, mounted by ourselves.
//!
//! ```text
//! …/snapshots/N/fs            where containerd mounts it, on the node: whatever is there is not looked at
//! …/snapshots/N/layer.erofs ─open─► descriptor ─stat(2)─► receipt
//!                                       └─mount(2) of that descriptor─► walked, compared, and mounted for the container
//! ```
//! Invariant: what is shown is what the file holds, and nothing but the file can change it: the mount is made from the
//! descriptor, is nobody else's, and is read-only. A mount of the kernel's own block devices (Linux before 6.12) would be
//! shared with whoever has mounted the same device, and is not made.

use std::{
    ffi::CString,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, open, openat2, statx},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string,
        fsmount, fsopen, move_mount,
    },
};

use crate::{LayerError, stat_of};

/// Name of a layer's image beside the directory that it is mounted on.
///
/// Source: `layerBlobPath`, containerd plugins/snapshots/erofs/erofs_linux.go.
const IMAGE: &str = "layer.erofs";

/// Source: stat(2), `S_IFMT` and `S_IFREG`.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;

/// The image of the layer that is to be seen at `…/snapshots/N/fs`; none where that is a directory of files.
///
/// # Errors
/// It cannot be opened, or is no file.
pub(crate) fn image_of(layer: &Path) -> Result<Option<OwnedFd>, LayerError> {
    let path = layer.with_file_name(IMAGE);
    let failed = |call, errno| LayerError::Call { call, path: path.clone(), errno };
    let (Some(base), Some(number)) = (path.ancestors().nth(2), path.parent().and_then(Path::file_name))
    else {
        return Ok(None);
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let base =
        open(base, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|errno| failed("open(2)", errno))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Without O_NONBLOCK the open of a FIFO would wait for a writer.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let image = match openat2(&base, Path::new(number).join(IMAGE), flags, Mode::empty(), resolve) {
        Ok(image) => image,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("openat2(2)", errno)),
    };
    let stat = stat_of(&image).map_err(|errno| failed("statx(2)", errno))?;
    if stat.mode & MODE_TYPE != MODE_FILE {
        return Err(LayerError::Foreign { path, why: "its image is no file" });
    }
    Ok(Some(image))
}

const NO_EROFS: &str = "this kernel has no EROFS";
const NO_FILES: &str = "it is an EROFS image, and this kernel mounts none from a file: that came with Linux 6.12 \
                        (CONFIG_EROFS_FS_BACKED_BY_FILE)";

/// A mount of an image, which is attached nowhere and goes with its descriptor.
///
/// # Errors
/// The kernel cannot, or the file is no image.
pub(crate) fn mounted(image: BorrowedFd<'_>, layer: &Path) -> Result<OwnedFd, LayerError> {
    let path = layer.with_file_name(IMAGE);
    let failed = |call| {
        let path = path.clone();
        move |errno| LayerError::Call { call, path, errno }
    };
    let foreign = |why| LayerError::Foreign { path: path.clone(), why };
    let context = match fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => context,
        Err(Errno::NODEV) => return Err(foreign(NO_EROFS)),
        Err(errno) => return Err(failed("fsopen(2) of erofs for")(errno)),
    };
    let source = CString::new(format!("/proc/self/fd/{}", image.as_raw_fd())).unwrap_or_default();
    fsconfig_set_string(&context, "source", source).map_err(failed("fsconfig(2) with"))?;
    match fsconfig_create(&context) {
        Ok(()) => {}
        // Source: `get_tree_bdev_flags`, fs/super.c; `erofs_fc_get_tree`, fs/erofs/super.c since Linux 6.12.
        Err(Errno::NOTBLK) => {
            return Err(foreign(NO_FILES));
        }
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::UCLEAN) => {
            return Err(foreign("this kernel does not mount it: it is damaged, or made for a newer one"));
        }
        Err(errno) => return Err(failed("mount(2) of")(errno)),
    }
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, read_only).map_err(failed("fsmount(2) of"))
}

/// Mounts the layers of an overlay that are images where containerd has mounted them, over its mounts, in the mount
/// namespace of the caller, which is nobody else's. Of directories nothing changes.
///
/// # Errors
/// One of them cannot be mounted. Where this kernel mounts no files, containerd's own mount stays: then nobody has been
/// told that the layer is proven.
pub fn mount_images(layers: &[PathBuf]) -> Result<(), LayerError> {
    for layer in layers {
        // One call for a directory of files, on the way of every launch.
        if matches!(
            statx(CWD, layer.with_file_name(IMAGE), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE),
            Err(Errno::NOENT)
        ) {
            continue;
        }
        let Some(image) = image_of(layer)? else { continue };
        let failed = |errno| LayerError::Call { call: "move_mount(2) onto", path: layer.clone(), errno };
        match mounted(std::os::fd::AsFd::as_fd(&image), layer) {
            Ok(mount) => {
                move_mount(&mount, "", CWD, layer, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .map_err(failed)?;
            }
            Err(LayerError::Foreign { why: NO_EROFS | NO_FILES, .. }) if is_mounted(layer)? => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Source: `EROFS_SUPER_MAGIC_V1`, include/uapi/linux/magic.h.
const MAGIC: u32 = 0xe0f5_e1e2;

/// Refuses a directory that is to be shown as it is, and beside which there is an image: the proof is of the image. No
/// snapshotter of containerd's gives such a bind mount.
///
/// Source: `mounts`, containerd plugins/snapshots/erofs/erofs_linux.go, which gives `erofs` or `overlay` there.
///
/// # Errors
/// There is an image, or it cannot be told.
pub fn refuse_image_beside(dir: &Path) -> Result<(), LayerError> {
    let path = dir.with_file_name(IMAGE);
    match statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Ok(_) => Err(LayerError::Foreign {
            path: dir.to_owned(),
            why: "it is a directory to be mounted as it is, and has a layer.erofs beside it",
        }),
        Err(errno) => Err(LayerError::Call { call: "statx(2)", path, errno }),
    }
}

fn is_mounted(layer: &Path) -> Result<bool, LayerError> {
    let found = rustix::fs::statfs(layer).map_err(|errno| LayerError::Call {
        call: "statfs(2)",
        path: layer.to_owned(),
        errno,
    })?;
    Ok(i64::from(MAGIC) == found.f_type)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn directory_with_an_image_beside_it_is_not_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("fs");
        fs::create_dir(&layer).unwrap();
        refuse_image_beside(&layer).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join(IMAGE)).unwrap();
        assert!(matches!(refuse_image_beside(&layer), Err(LayerError::Foreign { .. })));
    }
}
