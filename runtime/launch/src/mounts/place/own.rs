//! A regular file of the root's own mount: read before anything else is mounted, and covered only where nothing else is.
//!
//! Node's root reads it and what it says becomes readable to everybody in the container, so a link of the image must not
//! lead anywhere but to the image: neither into a volume, whose files may be others' secrets, nor to what the kernel shows.
//!
//! Invariant: whatever the image has there, it makes no launch fail; what cannot be used is left as it is.

use std::{
    fs::File,
    io::Read as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::{Kind, Root, Tree, open, trees};
use crate::LaunchError;

/// How often a lookup is tried that the kernel could not finish, because something was renamed or mounted meanwhile,
/// anywhere on the node.
const TRIES: usize = 64;

/// What the root's own mount has.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Own {
    /// A regular file, not longer than was asked for.
    Text(Vec<u8>),
    /// Nothing, and no link.
    Nothing,
    /// Something else.
    Else,
}

impl Root {
    /// What is at `path`. To be called before anything is attached.
    pub(in super::super) fn own(&self, path: &Path, bytes_max: u64) -> Result<Own, LaunchError> {
        let shown = || path.display().to_string();
        // Only looked at: a device that is opened may do something.
        let looked = match self.openat(path, OFlag::O_PATH, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
            Err(Errno::ENOENT) => {
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
                return match self.openat(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
                    Err(Errno::ENOENT) => Ok(Own::Nothing),
                    // A link that leads nowhere, now.
                    _ => Ok(Own::Else),
                };
            }
            Err(errno) if is_the_images(errno) => return Ok(Own::Else),
            found => found.map_err(LaunchError::io("openat2(2)", shown()))?,
        };
        let what = trees::identity(looked.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
        if !what.is_file() || what.mount != self.mount {
            return Ok(Own::Else);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match self.openat(path, flags, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
            Err(errno) if is_the_images(errno) => return Ok(Own::Else),
            found => File::from(found.map_err(LaunchError::io("openat2(2)", shown()))?),
        };
        if !file.metadata().map_err(LaunchError::io("fstat(2)", shown()))?.is_file() {
            return Ok(Own::Else);
        }
        let mut text = Vec::new();
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut text)
            .map_err(LaunchError::io("read(2)", format!("the image's {}", path.display())))?;
        Ok(if text.len() as u64 > bytes_max { Own::Else } else { Own::Text(text) })
    }

    /// Where [`Root::own`] found a text, or nothing; then an empty file is made there. None where the way leads into the
    /// kernel's places, or to none that a file can have; nor for a file right below the root: Landlock's rules are for the
    /// image's files there, one by one, so a copy could not be read. To be called before anything is attached.
    pub(in super::super) fn own_place(&self, path: &Path) -> Result<Option<PathBuf>, LaunchError> {
        match self.find(path, Kind::File) {
            Ok((_, landed)) => Ok(Some(landed).filter(|at| at.parent() != Some(Path::new("/")))),
            Err(LaunchError::Failed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Attaches a file where [`Root::own_place`] said, unless another mount is there, or above it, by now. Says whether.
    pub(in super::super) fn attach_own(&self, tree: &Tree, at: &Path) -> Result<bool, LaunchError> {
        let found = match open(self.dir.as_fd(), at) {
            // In what was mounted above it.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => return Ok(false),
            found => found.map_err(LaunchError::io("openat2(2)", at.display().to_string()))?,
        };
        let what =
            trees::identity(found.as_fd()).map_err(LaunchError::io("statx(2)", at.display().to_string()))?;
        if what.mount != self.mount || !what.is_file() {
            return Ok(false);
        }
        trees::attach(tree.fd.as_fd(), found.as_fd())
            .map_err(LaunchError::io("move_mount(2)", format!("mount on {}", at.display())))?;
        Ok(true)
    }

    fn openat(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<std::os::fd::OwnedFd> {
        let resolve = resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let mut found = openat2(&self.dir, path, how);
        for _ in 1..TRIES {
            if !matches!(found, Err(Errno::EAGAIN)) {
                break;
            }
            found = openat2(&self.dir, path, how);
        }
        found
    }
}

/// Whether an error says something of what the image has there, rather than of the node.
fn is_the_images(errno: Errno) -> bool {
    use Errno::{EACCES, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO, EPERM, EXDEV};
    [EACCES, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO, EPERM, EXDEV].contains(&errno)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    const AT: &str = "/etc/passwd";

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        dir
    }

    fn own(dir: &Path) -> Own {
        Root::open(dir).unwrap().own(Path::new(AT), 8).unwrap()
    }

    #[test]
    fn regular_file_of_the_image_is_read_by_its_links_as_well_and_one_too_long_is_not() {
        let dir = root();
        let at = dir.path().join("etc/passwd");
        assert_eq!(own(dir.path()), Own::Nothing);
        fs::write(&at, "12345678").unwrap();
        assert_eq!(own(dir.path()), Own::Text(b"12345678".to_vec()));
        fs::write(&at, "123456789").unwrap();
        assert_eq!(own(dir.path()), Own::Else);
        fs::remove_file(&at).unwrap();
        fs::create_dir(dir.path().join("usr")).unwrap();
        fs::write(dir.path().join("usr/users"), "x").unwrap();
        for to in ["/usr/users", "../usr/users", "../../../usr/users"] {
            symlink(to, &at).unwrap();
            assert_eq!(own(dir.path()), Own::Text(b"x".to_vec()), "{to}");
            let place = Root::open(dir.path()).unwrap().own_place(Path::new(AT)).unwrap();
            assert_eq!(place.unwrap(), Path::new("/usr/users"));
            fs::remove_file(&at).unwrap();
        }
    }

    #[test]
    fn directory_pipe_loop_and_link_to_nothing_are_left_as_they_are() {
        let dir = root();
        let at = dir.path().join("etc/passwd");
        fs::create_dir(&at).unwrap();
        assert_eq!(own(dir.path()), Own::Else);
        fs::remove_dir(&at).unwrap();
        mkfifo(&at, Mode::S_IRUSR).unwrap();
        assert_eq!(own(dir.path()), Own::Else);
        for to in ["passwd", "/log/secure", "/proc/kmsg"] {
            fs::remove_file(&at).unwrap();
            symlink(to, &at).unwrap();
            assert_eq!(own(dir.path()), Own::Else, "{to}");
        }
        fs::remove_file(&at).unwrap();
        fs::remove_dir(dir.path().join("etc")).unwrap();
        assert_eq!(own(dir.path()), Own::Nothing);
        symlink("/volume", dir.path().join("etc")).unwrap();
        assert_eq!(own(dir.path()), Own::Else);
        fs::remove_file(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc"), "").unwrap();
        assert_eq!(own(dir.path()), Own::Else);
    }

    #[test]
    fn link_into_another_mount_is_left_as_it_is_and_nothing_is_made_or_covered_there() {
        // The node's own root: /proc is another mount of it.
        let node = Root::open(Path::new("/")).unwrap();
        assert_eq!(node.own(Path::new("/proc/self/environ"), 8).unwrap(), Own::Else);
        assert_eq!(node.own(Path::new("/proc/version"), 1 << 20).unwrap(), Own::Else);
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("file")).unwrap();
        let tree = Tree { kind: Kind::File, fd: file.into() };
        assert!(!node.attach_own(&tree, Path::new("/proc/version")).unwrap());
        assert!(!node.attach_own(&tree, Path::new("/proc/no-such-file")).unwrap());
    }

    #[test]
    fn link_into_the_kernels_places_or_right_below_the_root_has_no_place() {
        let dir = root();
        fs::write(dir.path().join("users"), "x").unwrap();
        for place in ["/proc/kmsg", "/dev/null", "/sys/x", "/", "/users"] {
            let at = dir.path().join("etc/passwd");
            symlink(place, &at).unwrap();
            assert_eq!(Root::open(dir.path()).unwrap().own_place(Path::new(AT)).unwrap(), None, "{place}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
            fs::remove_file(&at).unwrap();
        }
    }
}
