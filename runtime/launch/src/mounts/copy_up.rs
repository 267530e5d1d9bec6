//! What the image has at a place, copied into the tmpfs that is about to hide it: a program finds the directories that its
//! image made for it.
//!
//! ```text
//! image   /run/postgresql  drwxrwsr-x postgres     tmpfs   /run/postgresql  drwxrwsr-x the container's uid
//! ```
//! Modes are kept, without set-uid and, of files, set-gid bits; everything belongs to the container's user, for nobody else
//! is there to write. Directories, files and links are copied, nothing else. The tmpfs' own limits bound the copy, and it is
//! charged to the container's control group.
//!
//! Invariant: nothing is followed out of the place, and no mount below it is entered.

use std::{
    ffi::CStr,
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, fstatat, mkdirat},
    unistd::{Gid, Uid, fchownat, symlinkat},
};

use serde::{Deserialize, Serialize};

use crate::LaunchError;

/// Deepest directory that is copied: each level holds two descriptors.
const DEPTH_MAX: usize = 64;

/// Permission bits that a copied directory keeps: its sticky and set-gid bits say who may remove, and whose group it is.
const DIRECTORY_MODE: u32 = 0o3777;

/// Those that a file keeps.
const FILE_MODE: u32 = 0o777;

/// Those that everything keeps which stays its owner's.
const ALL_BITS: u32 = 0o7777;

/// Whom the copy belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What of the tmpfs' own root is the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Top {
    /// Its mode.
    Mode,
    /// Nothing: it is everybody's, as /tmp is.
    Nothing,
}

/// Copies what is in `image`, a directory, to the root of `tmpfs`; with the owners and set-id bits that it has, if no owner is
/// given. `place` is for messages.
pub(super) fn copy_up(
    image: BorrowedFd<'_>,
    tmpfs: BorrowedFd<'_>,
    top: Top,
    owner: Option<Owner>,
    place: &str,
) -> Result<(), LaunchError> {
    let failed = |error: Failure| error.told(place);
    let from =
        open(image, c".", OFlag::O_DIRECTORY).map_err(|errno| failed(Failure::of("openat2(2)", errno)))?;
    let what = fstat(&from).map_err(|errno| failed(Failure::of("fstat(2)", errno)))?;
    let to =
        open(tmpfs, c".", OFlag::O_DIRECTORY).map_err(|errno| failed(Failure::of("openat2(2)", errno)))?;
    if top == Top::Mode {
        let mode = Permissions::from_mode(what.st_mode & DIRECTORY_MODE);
        File::from(to.try_clone().map_err(|error| failed(error.into()))?)
            .set_permissions(mode)
            .map_err(|error| failed(error.into()))?;
    }
    Copy { owner }.directory(from, to.as_fd(), DEPTH_MAX).map_err(failed)
}

struct Copy {
    owner: Option<Owner>,
}

impl Copy {
    fn directory(&self, from: OwnedFd, to: BorrowedFd<'_>, depth: usize) -> Result<(), Failure> {
        let mut dir = Dir::from_fd(from).map_err(|errno| Failure::of("getdents64(2)", errno))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|errno| Failure::of("getdents64(2)", errno))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        for (name, kind) in names {
            match kind {
                Some(Type::Directory) => {
                    let Some(depth) = depth.checked_sub(1) else { return Err(Failure::TooDeep) };
                    self.one_directory(dir.as_fd(), to, &name, depth)?;
                }
                Some(Type::File) => self.file(dir.as_fd(), to, &name)?,
                Some(Type::Symlink) => self.link(dir.as_fd(), to, &name)?,
                // A device would mean nothing there, and a socket or FIFO has no other end.
                Some(Type::BlockDevice | Type::CharacterDevice | Type::Fifo | Type::Socket) | None => {}
            }
        }
        Ok(())
    }

    fn one_directory(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> Result<(), Failure> {
        let Some((inner, what)) = image(from, name, OFlag::O_DIRECTORY)? else { return Ok(()) };
        mkdirat(to, name, Mode::S_IRWXU).map_err(|errno| Failure::of("mkdirat(2)", errno))?;
        let made = open(to, name, OFlag::O_DIRECTORY).map_err(|errno| Failure::of("openat2(2)", errno))?;
        self.directory(inner, made.as_fd(), depth)?;
        self.own(to, name, &what)?;
        // Last: chown(2) clears bits.
        let mode = Mode::from_bits_truncate(what.st_mode & self.kept(DIRECTORY_MODE));
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| Failure::of("fchmodat(2)", errno))
    }

    fn file(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Failure> {
        let Some((inner, what)) = image(from, name, OFlag::O_NONBLOCK)? else { return Ok(()) };
        let how = OpenHow::new()
            .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(what.st_mode & FILE_MODE))
            .resolve(ResolveFlag::RESOLVE_BENEATH);
        let made = openat2(to, name, how).map_err(|errno| Failure::of("openat2(2)", errno))?;
        let mut made = File::from(made);
        io::copy(&mut File::from(inner), &mut made)?;
        self.own(to, name, &what)?;
        made.set_permissions(Permissions::from_mode(what.st_mode & self.kept(FILE_MODE)))?;
        Ok(())
    }

    fn link(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Failure> {
        let target = readlinkat(from, name).map_err(|errno| Failure::of("readlinkat(2)", errno))?;
        symlinkat(target.as_bytes(), to, name).map_err(|errno| Failure::of("symlinkat(2)", errno))?;
        let what = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        self.own(to, name, &what.map_err(|errno| Failure::of("newfstatat(2)", errno))?)
    }

    /// Permission bits of these that are kept.
    fn kept(&self, bits: u32) -> u32 {
        if self.owner.is_some() { bits } else { ALL_BITS }
    }

    fn own(&self, dir: BorrowedFd<'_>, name: &CStr, what: &FileStat) -> Result<(), Failure> {
        let Owner { uid, gid } = self.owner.unwrap_or(Owner { uid: what.st_uid, gid: what.st_gid });
        let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(dir, name, ids.0, ids.1, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| Failure::of("fchownat(2)", errno))
    }
}

/// One name of the image, open, and what it is; none if something else is mounted there.
fn image(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Result<Option<(OwnedFd, FileStat)>, Failure> {
    let found = match open(dir, name, flags) {
        Err(Errno::EXDEV) => return Ok(None),
        found => found.map_err(|errno| Failure::of("openat2(2)", errno))?,
    };
    let what = fstat(&found).map_err(|errno| Failure::of("fstat(2)", errno))?;
    Ok(Some((found, what)))
}

/// One name, for reading, and no link.
fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(dir, name, how)
}

enum Failure {
    Call(&'static str, Errno),
    TooDeep,
}

impl Failure {
    fn of(call: &'static str, errno: Errno) -> Self {
        Self::Call(call, errno)
    }

    fn told(self, place: &str) -> LaunchError {
        match self {
            Self::Call(_, Errno::ENOSPC | Errno::EDQUOT) => LaunchError::Failed(format!(
                "what the image has at {place} does not fit into the tmpfs there; fix: mount a volume of the pod on {place}, \
                 or raise tmpfs_bytes_max and tmpfs_inodes_max of the image's [confine.*]"
            )),
            Self::Call(call, errno) => LaunchError::io(call, format!("copy of the image's {place}"))(errno),
            Self::TooDeep => LaunchError::Failed(format!(
                "the image has directories below {place} that are deeper than {DEPTH_MAX}; fix: mount a volume of the pod on \
                 {place}"
            )),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Call("copy", error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
        path::Path,
    };

    use super::*;

    fn copied(image: &Path, top: Top) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        let (from, made) = (File::open(image).unwrap(), File::open(to.path()).unwrap());
        let me = Owner { uid: Uid::current().as_raw(), gid: Gid::current().as_raw() };
        copy_up(from.as_fd(), made.as_fd(), top, Some(me), "/run").unwrap();
        to
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directories_files_and_links_are_copied_with_their_modes_and_nothing_else_is() {
        let image = tempfile::tempdir().unwrap();
        let at = image.path();
        fs::create_dir_all(at.join("a/b")).unwrap();
        fs::write(at.join("a/b/f"), "text").unwrap();
        symlink("/etc/shadow", at.join("a/link")).unwrap();
        nix::unistd::mkfifo(&at.join("a/fifo"), Mode::S_IRWXU).unwrap();
        for (path, mode) in [("a", 0o2775), ("a/b", 0o1777), ("a/b/f", 0o4751)] {
            fs::set_permissions(at.join(path), Permissions::from_mode(mode)).unwrap();
        }
        let to = copied(at, Top::Nothing);
        let made = |path: &str| to.path().join(path);
        assert_eq!(fs::read_to_string(made("a/b/f")).unwrap(), "text");
        assert_eq!((mode(&made("a")), mode(&made("a/b")), mode(&made("a/b/f"))), (0o2775, 0o1777, 0o751));
        assert_eq!(fs::read_link(made("a/link")).unwrap(), Path::new("/etc/shadow"));
        assert!(!made("a/fifo").exists());
    }

    #[test]
    fn mode_of_the_place_itself_is_the_images_where_it_is_wanted() {
        let image = tempfile::tempdir().unwrap();
        fs::set_permissions(image.path(), Permissions::from_mode(0o750)).unwrap();
        assert_eq!(mode(copied(image.path(), Top::Mode).path()), 0o750);
        assert_ne!(mode(copied(image.path(), Top::Nothing).path()), 0o750);
    }

    #[test]
    fn want_of_space_says_what_to_do() {
        let text = Failure::of("write(2)", Errno::ENOSPC).told("/var/lib/app").to_string();
        assert!(text.contains("/var/lib/app") && text.contains("fix: mount a volume"), "{text}");
    }
}
