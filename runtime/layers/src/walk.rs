//! The walk: every name below a layer, parents first, siblings in the order of their bytes.

use std::{
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, openat2, readlinkat, statx},
    io::Errno,
};

use crate::LayerError;

/// Most names that a layer may have.
///
/// The largest images that people run have some 300,000 in a layer (machine learning, node_modules).
pub const LAYER_ENTRIES_MAX: usize = 500_000;

/// What one look gets of a directory, in bytes.
const DIRENTS_BYTES: usize = 32 * 1024;

/// What stat(2) says of one name, as far as it shows an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Number of the device, major and minor.
    pub device: (u32, u32),
    /// Number of the inode.
    pub inode: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Of a device: its own number, major and minor.
    pub special: (u32, u32),
    /// When its bytes changed last: seconds, nanoseconds. Can be set back.
    pub modified: (i64, u32),
    /// When anything of it changed last: seconds, nanoseconds. Set by the kernel alone.
    pub changed: (i64, u32),
}

/// stat(2) of what is open.
///
/// # Errors
/// The call's.
pub fn stat_of(fd: impl AsFd) -> Result<Stat, Errno> {
    look(fd.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
}

/// Opens a directory or a file below a layer for reading; never through a symbolic link, out of the layer or into a
/// mount, and never anything else: the open of a device is heard by its driver (a watchdog starts, a tape winds).
///
/// # Errors
/// The call's; `EOPNOTSUPP` of what is no file.
pub fn open_below(layer: impl AsFd, path: &Path, directory: bool) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let kind = if directory { OFlags::DIRECTORY } else { OFlags::empty() };
    // Without O_NONBLOCK the open of a FIFO that took a file's place would wait for a writer.
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | kind;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if directory {
        return openat2(layer, path, flags, Mode::empty(), resolve);
    }
    // O_PATH asks no driver.
    let place = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let named = stat_of(openat2(&layer, path, place, Mode::empty(), resolve)?)?;
    if named.mode & MODE_TYPE != MODE_FILE {
        return Err(Errno::OPNOTSUPP);
    }
    openat2(layer, path, flags, Mode::empty(), resolve)
}

/// Finds a name as whoever has the layer for a root would, symbolic links followed within it. For stat(2) alone.
///
/// # Errors
/// The call's.
pub fn open_in_root(layer: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(layer, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// What a symbolic link in an open directory points to.
///
/// # Errors
/// The call's.
pub fn read_link(dir: BorrowedFd<'_>, name: &Path) -> Result<Vec<u8>, LayerError> {
    match readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        Err(errno) => Err(LayerError::Call { call: "readlinkat(2)", path: name.to_owned(), errno }),
    }
}

/// Calls `visit` for the layer itself (an empty path) and for every name below it: the directory that has the name,
/// the path from the layer on, and what stat(2) says.
///
/// # Errors
/// What failed, or what `visit` gave.
pub fn walk<E: From<LayerError>>(
    layer: BorrowedFd<'_>,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &Path, &Stat) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |call, path: &Path| {
        let path = path.to_owned();
        move |errno| LayerError::Call { call, path, errno }
    };
    let top = stat_of(layer).map_err(failed("statx(2)", Path::new("")))?;
    visit(layer, Path::new(""), &top)?;
    let mut open: Vec<PathBuf> = vec![PathBuf::new()];
    let mut buffer = vec![MaybeUninit::uninit(); DIRENTS_BYTES];
    let mut count = 0;
    while let Some(dir) = open.pop() {
        let fd = open_below(layer, &dir, true).map_err(failed("openat2(2)", &dir))?;
        let mut names = names(&fd, &dir, &mut buffer, LAYER_ENTRIES_MAX - count)?;
        count += names.len();
        names.sort_unstable();
        let below = open.len();
        for name in names {
            let name = Path::new(std::ffi::OsStr::from_bytes(&name)).to_owned();
            let path = dir.join(&name);
            let stat =
                look(fd.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("statx(2)", &path))?;
            if stat.device != top.device {
                return Err(LayerError::Foreign { path, why: "something is mounted below the layer" }.into());
            }
            visit(fd.as_fd(), &path, &stat)?;
            if stat.mode & MODE_TYPE == MODE_DIRECTORY {
                open.push(path);
            }
        }
        open[below..].reverse();
    }
    Ok(())
}

/// Source: stat(2), `S_IFMT`, `S_IFREG` and `S_IFDIR`.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_DIRECTORY: u32 = 0o040_000;

fn names(
    fd: &OwnedFd,
    dir: &Path,
    buffer: &mut [MaybeUninit<u8>],
    at_most: usize,
) -> Result<Vec<Vec<u8>>, LayerError> {
    let mut names = Vec::new();
    let mut entries = RawDir::new(fd, buffer);
    while let Some(entry) = entries.next() {
        let entry =
            entry.map_err(|errno| LayerError::Call { call: "getdents64(2)", path: dir.to_owned(), errno })?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            _ if names.len() == at_most => return Err(LayerError::Entries),
            name => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

fn look(dir: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<Stat, Errno> {
    let found = statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Stat {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        mode: found.stx_mode.into(),
        links: found.stx_nlink,
        uid: found.stx_uid,
        gid: found.stx_gid,
        size: found.stx_size,
        special: (found.stx_rdev_major, found.stx_rdev_minor),
        modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use rustix::fs::{CWD, FileType, inotify, mknodat};

    use super::*;

    #[test]
    fn names_come_parents_first_and_in_one_order() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/d", "a", "b/c/x"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("b/file"), "").unwrap();
        fs::write(dir.path().join("ab"), "").unwrap();
        let layer = fs::File::open(dir.path()).unwrap();
        let mut seen = Vec::new();
        walk::<LayerError>(layer.as_fd(), &mut |_, path, _| {
            seen.push(path.display().to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["", "a", "ab", "b", "b/c", "b/d", "b/file", "b/c/x"]);
    }

    #[test]
    fn what_is_no_file_is_refused_before_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let layer = fs::File::open(dir.path()).unwrap();
        let spy = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&spy, dir.path(), inotify::WatchFlags::OPEN).unwrap();
        let heard = || {
            let mut buffer = [MaybeUninit::uninit(); 512];
            inotify::Reader::new(&spy, &mut buffer).next().map(drop)
        };
        assert_eq!(open_below(&layer, Path::new("fifo"), false).unwrap_err(), Errno::OPNOTSUPP);
        assert_eq!(heard().unwrap_err(), Errno::AGAIN, "the FIFO was opened");
        open_below(&layer, Path::new("file"), false).unwrap();
        heard().unwrap();
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_out_of_the_layer() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let layer = fs::File::open(dir.path()).unwrap();
        assert!(open_below(&layer, Path::new("real/file"), false).is_ok());
        for path in ["link/file", "link", "../x", "/etc/passwd"] {
            assert!(open_below(&layer, Path::new(path), false).is_err(), "{path}");
        }
    }
}
