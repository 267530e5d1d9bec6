//! One directory of the host that holds an image's files, or one layer of them.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::Kind;

/// What a layer has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing: look below.
    Absent,
    /// An overlay whiteout: nothing, and nothing from below either.
    Whiteout,
    /// A directory; an opaque one hides what the layers below have in it.
    Directory {
        opaque: bool,
    },
    Present(Kind),
}

/// A directory of the host, held open.
#[derive(Debug)]
pub struct Layer {
    fd: OwnedFd,
}

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Layer {
    /// Opens `dir`. The links in this path are the host's and are followed.
    ///
    /// # Errors
    /// open(2).
    pub fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(dir, flags, Mode::empty())? })
    }

    /// Looks at `path` (absolute, in the image). Its parents must be directories of the tree.
    pub(super) fn entry(&self, path: &Path) -> io::Result<Entry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A parent that is a link or a file in this layer is not the directory of the tree.
        let fd = match rustix::fs::openat2(&self.fd, below(path), flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(Entry::Absent),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&fd)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Entry::Directory { opaque: self.is_opaque(path) },
            FileType::RegularFile => Entry::Present(Kind::Regular {
                bytes: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
                executable: stat.st_mode & 0o111 != 0,
            }),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
                Entry::Present(Kind::Link(PathBuf::from(os(to.into_bytes()))))
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => Entry::Whiteout,
            _ => Entry::Present(Kind::Other),
        })
    }

    /// Overlay's mark on a directory that was removed and made again.
    fn is_opaque(&self, path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::openat2(&self.fd, below(path), flags, Mode::empty(), RESOLVE) else {
            return false;
        };
        ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
            let mut value = [0u8; 1];
            matches!(rustix::fs::fgetxattr(&dir, *name, &mut value), Ok(1)) && value[0] == b'y'
        })
    }

    /// At most `limit` bytes of the regular file at `path`.
    pub(super) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        // Not to hang on a FIFO that took the file's place.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.fd, below(path), flags, Mode::empty(), RESOLVE)?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let expected = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        std::fs::File::from(fd).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The names in the directory at `path`; none where this layer has no such directory.
    pub(super) fn list(&self, path: &Path, limit: usize) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat2(&self.fd, below(path), flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(os(name));
            }
            if names.len() > limit {
                break;
            }
        }
        Ok(names)
    }
}

fn os(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// `path` without its leading slash; "." for the root.
fn below(path: &Path) -> &Path {
    let below = path.strip_prefix("/").unwrap_or(path);
    if below.as_os_str().is_empty() { Path::new(".") } else { below }
}
