//! A container's own layer before its first process: what a runtime leaves there, and nothing else.

use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::{fs::lgetxattr, io::Errno};

use crate::{LayerError, open_in_root, walk};

/// Hides what the layers below have in a directory. overlayfs itself gives it to every directory that it makes where
/// there was none.
///
/// Source: Documentation/filesystems/overlayfs.rst; `ovl_create_upper`, fs/overlayfs/dir.c.
const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// Show files of another path.
const TELLING: [&CStr; 2] = [c"trusted.overlay.redirect", c"trusted.overlay.metacopy"];

/// The first name in a container's own layer that is neither a directory nor a place for a mount: an empty file where
/// the image has none. Whoever put one there would show the container other files than those of its image.
///
/// # Errors
/// What could not be looked at.
pub fn foreign_in(own: BorrowedFd<'_>, image: &[impl AsFd]) -> Result<Option<PathBuf>, LayerError> {
    let mut foreign = None;
    walk(own, &mut |dir, path, stat| {
        if foreign.is_some() {
            return Ok(());
        }
        let failed = |errno| LayerError::Call { call: "lgetxattr(2)", path: path.to_owned(), errno };
        let in_image = || image.iter().any(|layer| open_in_root(layer, path).is_ok());
        let name = path.file_name().map_or(Path::new("."), Path::new);
        let at = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        let has = |attribute: &CStr| match lgetxattr(&at, attribute, &mut [0; 4096]) {
            Ok(_) | Err(Errno::RANGE) => Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(failed(errno)),
        };
        let is_place = match stat.mode & 0o170_000 {
            0o040_000 => !has(OPAQUE)? || (!path.as_os_str().is_empty() && !in_image()),
            0o100_000 => stat.size == 0 && !in_image(),
            _ => false,
        };
        if !is_place || has(TELLING[0])? || has(TELLING[1])? {
            foreign = Some(path.to_owned());
        }
        Ok::<(), LayerError>(())
    })?;
    Ok(foreign)
}
