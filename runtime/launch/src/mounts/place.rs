//! Where a mount lands: its destination, opened in the container's root, and made where it is not there.
//!
//! ```text
//! /var/run/secrets/token     var/run → /run: a link of the image, followed inside of the root
//!          └── below here a volume is mounted: whoever writes to it could change a link, so none is followed
//! ```
//! A mount is attached to the open destination, whatever has become of its name since.
//!
//! Invariant: nothing outside of the root is ever opened. A link counts only in the root's own mount, which nobody
//! else can write to while a container is created.

mod own;

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{Mode, mkdirat},
};

use super::{
    KERNELS, is_kernels,
    source::{Kind, Tree},
};
use crate::{LaunchError, sys::trees};

pub(super) use own::Own;

/// Most links on one way, as the kernel has it.
///
/// Source: `MAXSYMLINKS`, include/linux/namei.h.
const LINKS_MAX: usize = 40;

/// The root that destinations are looked up in.
pub(super) struct Root {
    dir: OwnedFd,
    /// The mount whose links are the image's.
    mount: u64,
}

/// One step of a way: a name, and what it opened.
type Step = (OsString, OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, LaunchError> {
        let shown = || path.display().to_string();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat2(AT_FDCWD, path, OpenHow::new().flags(flags))
            .map_err(LaunchError::io("openat2(2)", shown()))?;
        let what = trees::identity(dir.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
        Ok(Self { dir, mount: what.mount })
    }

    /// Refuses an image with a link or a file where the runtime puts what is the kernel's.
    /// Where a mount is planned there, finding its place says the same.
    pub(super) fn check_kernels(&self, planned: impl Fn(&Path) -> bool) -> Result<(), LaunchError> {
        for place in KERNELS.map(Path::new) {
            if planned(place) {
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let what = match openat2(&self.dir, place, OpenHow::new().flags(flags).resolve(plain())) {
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(Errno::ELOOP) => "a symbolic link",
                Err(Errno::ENOTDIR) => "a file",
                Err(errno) => return Err(LaunchError::io("openat2(2)", place.display().to_string())(errno)),
            };
            return Err(in_the_way(what, place));
        }
        Ok(())
    }

    /// Attaches a mount, and says where it has landed. `first` is done with what it will hide.
    pub(super) fn attach(
        &self,
        tree: &Tree,
        at: &Path,
        first: impl FnOnce(BorrowedFd<'_>) -> Result<(), LaunchError>,
    ) -> Result<PathBuf, LaunchError> {
        let (found, landed) = self.find(at, tree.kind)?;
        first(found.as_fd())?;
        if let Err(error) = trees::attach(tree.fd.as_fd(), found.as_fd()) {
            let what = trees::identity(found.as_fd());
            let other = what.is_ok_and(|what| what.is_directory() != (tree.kind == Kind::Directory));
            return Err(match other {
                true if is_kernels(at) => in_the_way("a file", at),
                true => LaunchError::Failed(format!(
                    "a directory cannot be mounted over a file, nor a file over a directory: the mount on {}",
                    at.display()
                )),
                false => LaunchError::io("move_mount(2)", format!("mount on {}", at.display()))(error),
            });
        }
        Ok(landed)
    }

    /// What is mounted at a destination, cloned.
    pub(super) fn clone_of(&self, at: &Path) -> Result<Tree, LaunchError> {
        let shown = || at.display().to_string();
        let found = open(self.dir.as_fd(), at).map_err(LaunchError::io("openat2(2)", shown()))?;
        let what = trees::identity(found.as_fd()).map_err(LaunchError::io("statx(2)", shown()))?;
        let fd = crate::sys::open_tree_of(found.as_fd(), true)
            .map_err(LaunchError::io("open_tree(2)", shown()))?;
        let kind = if what.is_directory() { Kind::Directory } else { Kind::File };
        Ok(Tree { kind, fd })
    }

    fn find(&self, at: &Path, kind: Kind) -> Result<(OwnedFd, PathBuf), LaunchError> {
        let left = names(at)?;
        if left.is_empty() || left.iter().any(|name| name == "..") {
            return Err(LaunchError::Plan("a mount is at the root, or has \"..\" in its destination"));
        }
        match open(self.dir.as_fd(), at) {
            Ok(found) => return Ok((found, at.to_owned())),
            Err(Errno::ENOENT | Errno::ELOOP) => {}
            Err(Errno::ENOTDIR) if is_kernels(at) => return Err(in_the_way("a file", at)),
            Err(errno) => return Err(on_the_way(at, errno)),
        }
        let way = Way { root: self, at, steps: Vec::new(), left, links: 0 };
        let (found, landed) = way.walk(kind)?;
        if landed == Path::new("/") {
            return Err(led_astray(at, &landed));
        }
        Ok((found, landed))
    }
}

/// A destination that is looked up name by name.
struct Way<'a> {
    root: &'a Root,
    at: &'a Path,
    /// Below the root, as far as it is known.
    steps: Vec<Step>,
    left: VecDeque<OsString>,
    links: usize,
}

impl Way<'_> {
    fn walk(mut self, kind: Kind) -> Result<(OwnedFd, PathBuf), LaunchError> {
        while let Some(name) = self.left.pop_front() {
            if name == ".." {
                self.steps.pop();
                continue;
            }
            let next = self.path().join(&name);
            if is_kernels(&next) && !is_kernels(self.at) {
                return Err(led_astray(self.at, &next));
            }
            let found = match open_name(self.here(), &name) {
                Err(Errno::ENOENT) => {
                    self.make(&name, if self.left.is_empty() { kind } else { Kind::Directory })?;
                    open_name(self.here(), &name)
                }
                found => found,
            };
            let found = found.map_err(|errno| on_the_way(self.at, errno))?;
            let what = trees::identity(found.as_fd()).map_err(self.failed("statx(2)"))?;
            if what.is_link() {
                self.follow(&found, what.mount)?;
            } else {
                self.steps.push((name, found));
            }
        }
        let landed = self.path();
        let found = match self.steps.pop() {
            Some((_, found)) => found,
            None => self.root.dir.try_clone().map_err(self.failed("dup(2)"))?,
        };
        Ok((found, landed))
    }

    /// Where it has come to.
    fn path(&self) -> PathBuf {
        std::iter::once(OsStr::new("/")).chain(self.steps.iter().map(|step| &*step.0)).collect()
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.steps.last().map_or(self.root.dir.as_fd(), |step| step.1.as_fd())
    }

    /// Goes on where a link leads.
    fn follow(&mut self, link: &OwnedFd, mount: u64) -> Result<(), LaunchError> {
        if mount != self.root.mount {
            return Err(LaunchError::Failed(format!(
                "a volume has a symbolic link on the way to the mount on {}: whoever can write there would choose \
                 what it hides; remove the link, or mount elsewhere",
                self.at.display()
            )));
        }
        if is_kernels(self.at) {
            return Err(in_the_way("a symbolic link", self.at));
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(on_the_way(self.at, Errno::ELOOP));
        }
        let target = PathBuf::from(readlinkat(link, "").map_err(self.failed("readlinkat(2)"))?);
        if target.is_absolute() {
            self.steps.clear();
        }
        for name in names(&target)?.into_iter().rev() {
            self.left.push_front(name);
        }
        Ok(())
    }

    /// Root's own, 0755 or 0644, as runc does.
    fn make(&self, name: &OsStr, kind: Kind) -> Result<(), LaunchError> {
        let made = match kind {
            Kind::Directory => mkdirat(self.here(), name, Mode::from_bits_truncate(0o755)),
            Kind::File => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mode = Mode::from_bits_truncate(0o644);
                openat2(self.here(), name, OpenHow::new().flags(flags).mode(mode).resolve(below())).map(drop)
            }
        };
        match made {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(self.failed("mkdir(2)")(errno)),
        }
    }

    fn failed<E: Into<std::io::Error>>(&self, call: &'static str) -> impl FnOnce(E) -> LaunchError + use<E> {
        LaunchError::io(call, format!("place of the mount on {}", self.at.display()))
    }
}

/// The names of a path, in order; "." is left out.
fn names(path: &Path) -> Result<VecDeque<OsString>, LaunchError> {
    path.components()
        .filter_map(|part| match part {
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir => Some(Ok(OsString::from(".."))),
            Component::Normal(name) => Some(Ok(name.to_owned())),
            Component::Prefix(_) => Some(Err(LaunchError::Plan("a path has a prefix"))),
        })
        .collect()
}

/// Inside of the root and without a link.
fn plain() -> ResolveFlag {
    ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS
}

/// One name.
fn below() -> ResolveFlag {
    ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS
}

/// A path without a link in it, its last name included.
fn open(dir: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    openat2(dir, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(plain()))
}

/// What has this name, be it a link.
fn open_name(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(dir, name, OpenHow::new().flags(flags).resolve(below()))
}

fn in_the_way(what: &str, place: &Path) -> LaunchError {
    LaunchError::Failed(format!(
        "the image has {what} at {}, where the runtime mounts: build it with a directory there, or with nothing",
        place.display()
    ))
}

fn led_astray(at: &Path, to: &Path) -> LaunchError {
    LaunchError::Failed(format!(
        "the image has a symbolic link that would lead the mount on {} to {}: build it without that link",
        at.display(),
        to.display()
    ))
}

fn on_the_way(at: &Path, errno: Errno) -> LaunchError {
    match errno {
        Errno::ENOTDIR | Errno::ELOOP => LaunchError::Failed(format!(
            "something else than a directory is on the way to the mount on {}: {}",
            at.display(),
            errno.desc()
        )),
        errno => LaunchError::io("openat2(2)", format!("place of the mount on {}", at.display()))(errno),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn image() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for made in ["run", "proc", "dev/pts", "sys/fs/cgroup", "etc"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "").unwrap();
        (dir, root)
    }

    fn find(root: &Path, at: &str, kind: Kind) -> Result<PathBuf, String> {
        let found = Root::open(root).unwrap().find(Path::new(at), kind);
        found.map(|(_, landed)| landed).map_err(|error| error.to_string())
    }

    #[test]
    fn place_is_found_where_it_is_and_made_where_it_is_not() {
        let (_dir, root) = image();
        for (at, kind) in
            [("/run", Kind::Directory), ("/etc/passwd", Kind::File), ("/dev/pts", Kind::Directory)]
        {
            assert_eq!(find(&root, at, kind).unwrap(), Path::new(at));
        }
        assert_eq!(find(&root, "/srv/a/b", Kind::Directory).unwrap(), Path::new("/srv/a/b"));
        assert!(root.join("srv/a/b").is_dir());
        assert_eq!(find(&root, "/srv/c/file", Kind::File).unwrap(), Path::new("/srv/c/file"));
        assert!(root.join("srv/c/file").is_file());
        let error = find(&root, "/etc/passwd/x", Kind::Directory).unwrap_err();
        assert!(error.contains("something else than a directory"), "{error}");
    }

    #[test]
    fn link_of_the_image_is_followed_inside_of_the_root_alone() {
        let (_dir, root) = image();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../../run", root.join("var/up")).unwrap();
        symlink(outside.path(), root.join("var/out")).unwrap();
        for (at, landed) in [("/var/run/a/b", "/run/a/b"), ("/var/up/c", "/run/c"), ("/var/run", "/run")] {
            assert_eq!(find(&root, at, Kind::Directory).unwrap(), Path::new(landed));
            assert!(root.join(landed.trim_start_matches('/')).is_dir());
        }
        let landed = find(&root, "/var/out/x", Kind::Directory).unwrap();
        assert_eq!(landed, outside.path().join("x"));
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
        symlink("round", root.join("round")).unwrap();
        assert!(find(&root, "/round/a", Kind::Directory).is_err());
    }

    #[test]
    fn link_that_leads_to_the_root_or_into_the_kernels_places_is_refused() {
        for to in ["/", "../../..", "run/..", "/proc", "/dev/pts", "/sys/fs/cgroup", "tmp"] {
            let (_dir, root) = image();
            symlink(to, root.join("tmp")).unwrap();
            assert!(find(&root, "/tmp", Kind::Directory).is_err(), "{to}");
        }
        let (_dir, root) = image();
        symlink("/", root.join("tmp")).unwrap();
        assert!(find(&root, "/tmp/proc/self", Kind::Directory).is_err());
        assert!(!root.join("proc/self").exists());
        assert_eq!(find(&root, "/tmp/run", Kind::Directory).unwrap(), Path::new("/run"));
    }

    #[test]
    fn link_or_file_in_the_place_of_dev_proc_or_sys_is_refused_and_a_directory_or_nothing_is_not() {
        for place in KERNELS {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            fs::create_dir(root.join("run")).unwrap();
            let at = root.join(place.trim_start_matches('/'));
            let check =
                || Root::open(root).unwrap().check_kernels(|_| false).map_err(|error| error.to_string());
            check().unwrap();
            symlink("/run", &at).unwrap();
            for error in [check(), find(root, place, Kind::Directory).map(drop)] {
                let error = error.unwrap_err();
                assert!(error.contains(place) && error.contains("symbolic link"), "{error}");
            }
            assert!(find(root, &format!("{place}/x"), Kind::Directory).is_err());
            fs::remove_file(&at).unwrap();
            fs::write(&at, "").unwrap();
            assert!(check().unwrap_err().contains("a file"));
            assert!(find(root, &format!("{place}/x"), Kind::Directory).unwrap_err().contains("a file"));
            fs::remove_file(&at).unwrap();
            fs::create_dir(&at).unwrap();
            check().unwrap();
            find(root, place, Kind::Directory).unwrap();
        }
    }

    #[test]
    fn destination_that_climbs_or_is_the_root_is_refused() {
        let (_dir, root) = image();
        for at in ["/", "/run/../etc", "/..", "/run/.."] {
            assert!(find(&root, at, Kind::Directory).is_err(), "{at}");
        }
    }
}
