//! The working directory: made where the image has none, as runc does; named where it cannot be entered.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
};
use oci_spec::runtime::Spec;

use crate::{LaunchError, wire::WorkingDir};

/// Where the process starts, and who makes it.
pub(crate) fn of(spec: &Spec) -> Option<WorkingDir> {
    let cwd = spec.process().as_ref()?.cwd();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let below = |at: &Path| at != Path::new("/") && cwd.starts_with(at);
    Some(match mounts.iter().any(|mount| below(mount.destination())) {
        true => WorkingDir::InMount(cwd.clone()),
        false => WorkingDir::InRoot(cwd.clone()),
    })
}

/// Makes `cwd` and what is above it inside `root`, root's own and 0755, where it is not there.
///
/// Source: `prepareRootfs`, runc libcontainer/rootfs_linux.go. A link of the image leads nowhere outside of `root`.
pub(crate) fn make(root: &Path, cwd: &Path) -> Result<(), LaunchError> {
    let failed = |call| LaunchError::io::<Errno>(call, format!("working directory {}", cwd.display()));
    let root = directory(root).map_err(LaunchError::io("open(2)", root.display().to_string()))?;
    match open_inside(root.as_fd(), cwd) {
        Err(Errno::ENOENT) => {}
        Err(Errno::ENOTDIR) => return Err(failed("openat2(2)")(Errno::ENOTDIR)),
        // What else may be wrong is for chdir(2) to say.
        Ok(_) | Err(_) => return Ok(()),
    }
    let mut path = PathBuf::from(".");
    let mut parent = open_inside(root.as_fd(), &path).map_err(failed("openat2(2)"))?;
    for part in cwd.components() {
        let Component::Normal(name) = part else { continue };
        path.push(name);
        parent = match open_inside(root.as_fd(), &path) {
            Err(Errno::ENOENT) => {
                mkdirat(&parent, name, Mode::from_bits_truncate(0o755)).map_err(failed("mkdir(2)"))?;
                open_inside(root.as_fd(), &path).map_err(failed("openat2(2)"))?
            }
            opened => opened.map_err(failed("openat2(2)"))?,
        };
    }
    Ok(())
}

/// Why a process could not enter `cwd` in the container of `init`, if that is so; libcontainer does not say.
///
/// The words are runc's, which clients of containerd know.
pub(crate) fn why_not(init: u32, cwd: &Path) -> Option<String> {
    let root = directory(&PathBuf::from(format!("/proc/{init}/root"))).ok()?;
    let error = open_inside(root.as_fd(), cwd).err()?;
    let why = match error {
        Errno::ENOENT => "no such file or directory",
        Errno::ENOTDIR => "not a directory",
        other => other.desc(),
    };
    Some(format!("chdir to cwd ({:?}) set in config.json failed: {why}", cwd.display().to_string()))
}

fn directory(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

fn open_inside(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_that_is_missing_is_made_with_those_above_it_and_one_that_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), Path::new("/srv/app")).unwrap();
        assert!(root.path().join("srv/app").is_dir());
        make(root.path(), Path::new("/srv/app")).unwrap();
        make(root.path(), Path::new("/srv/other")).unwrap();
        assert!(root.path().join("srv/other").is_dir());
    }

    #[test]
    fn link_of_the_image_leads_nowhere_outside_of_it() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join("out")).unwrap();
        assert!(make(root.path(), Path::new("/out/evil")).is_err());
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
        // The same link is fine where the image has what it leads to.
        std::fs::create_dir_all(root.path().join(outside.path().strip_prefix("/").unwrap())).unwrap();
        make(root.path(), Path::new("/out/app")).unwrap();
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn directory_that_cannot_be_entered_is_named_and_one_that_can_is_not() {
        let text = why_not(std::process::id(), Path::new("/no/such")).unwrap();
        assert_eq!(text, "chdir to cwd (\"/no/such\") set in config.json failed: no such file or directory");
        assert_eq!(why_not(std::process::id(), Path::new("/")), None);
    }

    #[test]
    fn working_directory_below_a_mount_is_left_to_the_mount() {
        let mut spec = Spec::default();
        spec.process_mut().as_mut().unwrap().set_cwd("/data/a".into());
        assert_eq!(of(&spec), Some(WorkingDir::InRoot("/data/a".into())));
        spec.mounts_mut().as_mut().unwrap()[0].set_destination("/data".into());
        assert_eq!(of(&spec), Some(WorkingDir::InMount("/data/a".into())));
    }
}
