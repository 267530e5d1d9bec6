//! Reads files that root alone can have written.
//!
//! ```text
//! /  ─►  tmp  ─►  ROOT  ─►  etc  ─►  bulkhead  ─►  policy.toml
//! └─ above the root: owner root, and      └─ from the root on: owner root, no write bit for group or others
//!    no such bit, or sticky (/tmp)
//! ```
//! Each step is opened from the one before it, without following symlinks, and judged by fstat(2) of what was opened:
//! what is swapped between check and use is not read. A sticky directory lets no one but the owner rename or remove
//! what is in it, so a directory of root below one stays; the contents of the layout are too many names to rely on
//! that, so from the root on no directory may be one. The path of the root itself may have symlinks: it is resolved
//! first, and its result is walked like any other. An ACL that lets others write shows in the group's bits.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::Layout;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat},
};

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file that root alone can have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Why a file was not read, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Not below the layout's root, or not in its shortest spelling.
    #[error("{} is not a plain path below {}", .path.display(), .root.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The layout's root.
        root: PathBuf,
    },
    /// Someone else owns it.
    #[error("{} is owned by uid {uid} (mode {mode:04o}), not by root", .path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Others than root can write it.
    #[error("{} can be written by others than root: owner uid 0, mode {mode:04o}", .path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A symlink, a device, a directory in place of a file, …
    #[error("{} is not {wanted}", .path.display())]
    Kind {
        /// The file or directory.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", .0.display())]
    Size(PathBuf),
    /// Not UTF-8.
    #[error("{} is not UTF-8 text", .0.display())]
    Text(PathBuf),
    /// A system call failed.
    #[error("{call} on {}", .path.display())]
    Call {
        /// Name of the call.
        call: &'static str,
        /// Its subject.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl NodeError {
    /// What root can do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            NodeError::Missing(path) => format!("write {}", path.display()),
            NodeError::Outside { root, .. } => {
                format!("name a file below {} without `.`, `..` and symlinks", root.display())
            }
            NodeError::Owner { path, .. } => format!("chown root: {0} && chmod go-w {0}", path.display()),
            NodeError::Writable { path, .. } => format!("chmod go-w {}", path.display()),
            NodeError::Kind { path, wanted } => format!("put {wanted} in place of {}", path.display()),
            NodeError::Size(path) => format!("make {} smaller", path.display()),
            NodeError::Text(path) => format!("write {} in UTF-8", path.display()),
            NodeError::Call { .. } => "run as root, and look whether the file system answers".to_owned(),
        }
    }
}

/// Where a directory stands, which decides what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AboveRoot,
    FromRoot,
}

/// Reads the file at `path`, which begins with the layout's root.
///
/// # Errors
/// [`NodeError`], when root is not the only one who can have written it, or it cannot be read.
pub fn read_trusted(layout: &Layout, path: &Path) -> Result<TrustedFile, NodeError> {
    read_trusted_with_time(layout, path).map(|(file, _)| file)
}

/// As [`read_trusted`], with the time when the file was written.
pub(crate) fn read_trusted_with_time(
    layout: &Layout,
    path: &Path,
) -> Result<(TrustedFile, SystemTime), NodeError> {
    let outside = || NodeError::Outside { path: path.to_owned(), root: layout.root().to_owned() };
    let below = path.strip_prefix(layout.root()).map_err(|_| outside())?;
    let names: Vec<_> = below.components().collect();
    let plain = names.iter().all(|name| matches!(name, Component::Normal(_)));
    let Some((file_name, dir_names)) = names.split_last().filter(|_| plain) else {
        return Err(outside());
    };
    let (mut dir, mut here) = open_root(layout.root())?;
    for name in dir_names {
        here.push(name);
        dir = open_dir(&dir, name.as_ref(), &here, Place::FromRoot)?;
    }
    here.push(file_name);
    let (text, written) = read_file(&dir, file_name.as_ref(), &here)?;
    Ok((TrustedFile { path: path.to_owned(), text }, written))
}

fn open_root(root: &Path) -> Result<(OwnedFd, PathBuf), NodeError> {
    let resolved = match root.canonicalize() {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(NodeError::Missing(root.to_owned()));
        }
        Err(source) => return Err(NodeError::Call { call: "realpath(3)", path: root.to_owned(), source }),
    };
    let names: Vec<_> = resolved.components().filter(|name| matches!(name, Component::Normal(_))).collect();
    let place = |index: usize| if index == names.len() { Place::FromRoot } else { Place::AboveRoot };
    let mut here = PathBuf::from("/");
    let mut dir = open_dir(AT_FDCWD, Path::new("/"), &here, place(0))?;
    for (index, name) in names.iter().enumerate() {
        here.push(name);
        dir = open_dir(&dir, name.as_ref(), &here, place(index + 1))?;
    }
    Ok((dir, here))
}

fn open_dir(at: impl AsFd, name: &Path, here: &Path, place: Place) -> Result<OwnedFd, NodeError> {
    const WANTED: &str = "a directory (no symlink)";
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(at, name, flags, Mode::empty()).map_err(|errno| open_error(errno, here, WANTED))?;
    let stat = stat(&dir, here)?;
    let sticky = stat.st_mode & libc::S_ISVTX != 0;
    let ours = match place {
        Place::AboveRoot => sticky,
        Place::FromRoot => false,
    };
    check_owner(&stat, here)?;
    if !ours {
        check_mode(&stat, here)?;
    }
    Ok(dir)
}

fn read_file(dir: &OwnedFd, name: &Path, here: &Path) -> Result<(String, SystemTime), NodeError> {
    const WANTED: &str = "a regular file (no symlink)";
    // O_NONBLOCK: a FIFO in its place must not hold us up.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty()).map_err(|errno| open_error(errno, here, WANTED))?;
    let stat = stat(&file, here)?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(NodeError::Kind { path: here.to_owned(), wanted: WANTED });
    }
    check_owner(&stat, here)?;
    check_mode(&stat, here)?;
    let mut bytes = Vec::new();
    File::from(file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| NodeError::Call {
        call: "read(2)",
        path: here.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(NodeError::Size(here.to_owned()));
    }
    // A time before 1970 is no time: the file counts as as old as can be.
    let written = u64::try_from(stat.st_mtime)
        .map_or(SystemTime::UNIX_EPOCH, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let text = String::from_utf8(bytes).map_err(|_| NodeError::Text(here.to_owned()))?;
    Ok((text, written))
}

fn open_error(errno: Errno, here: &Path, wanted: &'static str) -> NodeError {
    let path = here.to_owned();
    match errno {
        Errno::ENOENT => NodeError::Missing(path),
        Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO => NodeError::Kind { path, wanted },
        _ => NodeError::Call { call: "openat(2)", path, source: errno.into() },
    }
}

fn stat(fd: impl AsFd, here: &Path) -> Result<FileStat, NodeError> {
    fstat(fd).map_err(|errno| NodeError::Call {
        call: "fstat(2)",
        path: here.to_owned(),
        source: errno.into(),
    })
}

fn check_owner(stat: &FileStat, here: &Path) -> Result<(), NodeError> {
    match stat.st_uid {
        0 => Ok(()),
        uid => Err(NodeError::Owner { path: here.to_owned(), uid, mode: stat.st_mode & 0o7777 }),
    }
}

fn check_mode(stat: &FileStat, here: &Path) -> Result<(), NodeError> {
    match stat.st_mode & 0o022 {
        0 => Ok(()),
        _ => Err(NodeError::Writable { path: here.to_owned(), mode: stat.st_mode & 0o7777 }),
    }
}

#[cfg(test)]
mod tests;
