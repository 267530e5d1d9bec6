//! Where mounts land: an image that has a link in the place of a directory must not choose it.
//!
//! ```text
//! root file system ─ [`check`]: no link at /dev, /proc, /sys; no destination that leads there ─► libcontainer
//!                  ─► [`check_made`]: the mount table of the process holds what was planned in these places
//! ```
//! libcontainer makes links and devices in `<rootfs>/dev` by its path: through a link of the image that would be
//! a directory of the host. The second look finds what the first cannot know: links inside of a volume.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use bulkhead_model::ConfineSpec;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::fstatat,
};
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::{LaunchError, sources};

/// What belongs to the kernel's file systems: no mount may get there that was not planned there.
const KERNELS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Most bytes of a mount table that are read; a container has some forty mounts.
const TABLE_BYTES_MAX: usize = 4 << 20;

/// The mounts of a plan, as far as their places go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Places {
    /// Destinations, in order.
    mounts: Vec<PathBuf>,
    /// Masked and read-only paths, and the console: mounts that libcontainer makes by itself.
    covered: BTreeSet<PathBuf>,
    /// Where all of the node's mounts below a source come along, which only a compatible container can ask for.
    with_all_below: BTreeSet<PathBuf>,
    /// Hooks that policy names run as root and may mount what they like: no second look then.
    hooks: bool,
}

impl Places {
    pub(crate) fn of(spec: &Spec, confine: &ConfineSpec) -> Self {
        let mounts = spec.mounts().iter().flatten().map(|mount| mount.destination().clone()).collect();
        let linux = spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
        let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref());
        let mut covered: BTreeSet<PathBuf> =
            masked.into_iter().chain(read_only).flatten().map(PathBuf::from).collect();
        covered.insert("/dev/console".into());
        let recursive = |mount: &&Mount| mount.options().iter().flatten().any(|option| option == "rbind");
        let with_all_below = match confine {
            ConfineSpec::Hardened(_) => BTreeSet::new(),
            ConfineSpec::Compatible(_) => {
                let mounts = spec.mounts().iter().flatten().filter(recursive);
                mounts.map(|mount| mount.destination().clone()).collect()
            }
        };
        Self { mounts, covered, with_all_below, hooks: spec.hooks().is_some() }
    }
}

/// Refuses an image in which a mount would land elsewhere than planned, before anything is mounted.
pub(crate) fn check(root: &Path, places: &Places) -> Result<(), LaunchError> {
    let dir = open_root(root)?;
    for place in KERNELS {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let what = match openat2(&dir, place, how) {
            Ok(_) | Err(Errno::ENOENT) => continue,
            Err(Errno::ELOOP) => "a symbolic link",
            Err(Errno::ENOTDIR) => "a file",
            Err(errno) => return Err(LaunchError::io("openat2(2)", place)(errno)),
        };
        return Err(LaunchError::Failed(format!(
            "the image has {what} at {place}, where the runtime mounts: build it with a directory there, or with nothing"
        )));
    }
    for at in &places.mounts {
        if is_kernels(at) {
            continue;
        }
        let led = leads_to(&dir, root, at)?;
        if led == Path::new("/") || is_kernels(&led) {
            return Err(LaunchError::Failed(format!(
                "the image has a symbolic link that would lead the mount on {} to {}: build it without that link",
                at.display(),
                led.display()
            )));
        }
    }
    Ok(())
}

/// Refuses a mount below a volume in which a link would lead it elsewhere. What a process with the same volume
/// changes after this is found by [`check_made`].
pub(crate) fn check_nested(
    root: &Path,
    places: &Places,
    volumes: impl Iterator<Item = usize>,
    task_dir: &Path,
) -> Result<(), LaunchError> {
    let dir = open_root(root)?;
    let mut led = Vec::with_capacity(places.mounts.len());
    for at in &places.mounts {
        led.push(if is_kernels(at) { at.clone() } else { leads_to(&dir, root, at)? });
    }
    for index in volumes {
        let Some(volume) = led.get(index) else { continue };
        let below = led.iter().skip(index + 1).filter_map(|at| at.strip_prefix(volume).ok());
        for rest in below.filter(|rest| !rest.as_os_str().is_empty()) {
            let pinned = sources::pinned(task_dir, index);
            let strict = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
            let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(strict);
            let volume_dir = open_root(&pinned)?;
            match openat2(&volume_dir, rest, how) {
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(_) => {
                    return Err(LaunchError::Failed(format!(
                        "the volume on {} has a symbolic link on the way to the mount on {}: remove the link, or \
                         mount elsewhere",
                        volume.display(),
                        volume.join(rest).display()
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Demands of the mount table of a process (/proc/PID/mountinfo, read outside of the container) that every
/// mount at the root and in the kernel's places was planned there, once.
pub(crate) fn check_made(table: &str, places: &Places) -> Result<(), LaunchError> {
    if places.hooks {
        return Ok(());
    }
    let planned: BTreeSet<&Path> = places.mounts.iter().map(PathBuf::as_path).collect();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    for line in table.lines() {
        // Octal escapes stay: no planned place of the kernel's has a character that needs one.
        let at =
            PathBuf::from(line.split(' ').nth(4).ok_or(LaunchError::Plan("a line of mountinfo is short"))?);
        if at != Path::new("/") && !is_kernels(&at) {
            continue;
        }
        let below_view = at.starts_with("/sys/fs/cgroup") && planned.contains(Path::new("/sys/fs/cgroup"));
        let known = at == Path::new("/")
            || below_view
            || places.with_all_below.iter().any(|above| at.starts_with(above))
            || planned.contains(at.as_path())
            || places.covered.iter().any(|path| at.starts_with(path));
        let came_along = places.with_all_below.iter().any(|above| at.starts_with(above));
        let again = !seen.insert(at.clone()) && !places.covered.contains(&at) && !came_along;
        if !known || again {
            let what = if again { "a second mount" } else { "a mount that was not planned" };
            return Err(LaunchError::Failed(format!(
                "{what} at {}: a link of the image or of a volume led there",
                at.display()
            )));
        }
    }
    Ok(())
}

/// The mount table of a process of this worker's.
pub(crate) fn table_of(pid: i32) -> Result<String, LaunchError> {
    let path = format!("/proc/{pid}/mountinfo");
    let table = fs::read_to_string(&path).map_err(LaunchError::io("read(2)", path))?;
    if table.len() > TABLE_BYTES_MAX {
        return Err(LaunchError::Plan("the mount table is too long"));
    }
    Ok(table)
}

fn is_kernels(path: &Path) -> bool {
    KERNELS.iter().any(|place| path.starts_with(place))
}

fn open_root(root: &Path) -> Result<File, LaunchError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(root)
        .map_err(LaunchError::io("open(2)", root.display().to_string()))
}

/// Where `at` is, as the container will see it: what is there is followed, what is missing is appended.
fn leads_to(dir: &File, root: &Path, at: &Path) -> Result<PathBuf, LaunchError> {
    let shown = || at.display().to_string();
    let mut missing: Vec<&std::ffi::OsStr> = Vec::new();
    let mut known = at;
    let found = loop {
        match open_inside(dir.as_fd(), known) {
            Ok(fd) => break fd,
            Err(Errno::ENOENT) => {}
            Err(errno @ (Errno::ELOOP | Errno::ENOTDIR)) => {
                let text = format!(
                    "the image has something else than a directory on the way to the mount on {}: {}",
                    shown(),
                    errno.desc()
                );
                return Err(LaunchError::Failed(text));
            }
            Err(errno) => return Err(LaunchError::io("openat2(2)", shown())(errno)),
        }
        let (Some(parent), Some(name)) = (known.parent(), known.file_name()) else {
            return Err(LaunchError::io("openat2(2)", shown())(Errno::ENOENT));
        };
        missing.push(name);
        known = parent;
    };
    // The first name that is missing must not be a link to what is missing.
    if let Some(name) = missing.last()
        && fstatat(&found, *name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    {
        return Err(LaunchError::Failed(format!(
            "the image has a symbolic link that leads nowhere on the way to the mount on {}: build it without that link",
            shown()
        )));
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let real = fs::read_link(&link).map_err(LaunchError::io("readlink(2)", link))?;
    let inside =
        real.strip_prefix(root).map_err(|_| LaunchError::Plan("a mount would leave the root file system"))?;
    let mut led = Path::new("/").join(inside);
    led.extend(missing.iter().rev());
    Ok(led)
}

fn open_inside(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn places(mounts: &[&str]) -> Places {
        let mounts = mounts.iter().map(PathBuf::from).collect();
        Places {
            mounts,
            covered: ["/proc/keys".into()].into(),
            with_all_below: BTreeSet::new(),
            hooks: false,
        }
    }

    fn image() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("run")).unwrap();
        (dir, root)
    }

    #[test]
    fn link_or_file_in_the_place_of_dev_proc_or_sys_is_refused_and_a_directory_or_nothing_is_not() {
        for place in KERNELS {
            let (_dir, root) = image();
            check(&root, &places(&["/proc", "/dev"])).unwrap();
            let at = root.join(place.trim_start_matches('/'));
            symlink("/run", &at).unwrap();
            let error = check(&root, &places(&[])).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains("symbolic link"), "{error}");
            fs::remove_file(&at).unwrap();
            fs::write(&at, "").unwrap();
            assert!(check(&root, &places(&[])).unwrap_err().to_string().contains("a file"));
            fs::remove_file(&at).unwrap();
            fs::create_dir(&at).unwrap();
            check(&root, &places(&[])).unwrap();
        }
    }

    #[test]
    fn link_that_leads_a_mount_to_the_root_or_into_the_kernels_places_is_refused_and_another_is_not() {
        for (link, to) in [
            ("tmp", "/"),
            ("tmp", "../../.."),
            ("tmp", "run/.."),
            ("tmp", "/proc"),
            ("tmp", "/dev/pts"),
            ("tmp", "/sys/fs/cgroup"),
            ("tmp", "/no/such"),
            ("tmp", "tmp"),
        ] {
            let (_dir, root) = image();
            for dir in ["proc", "dev/pts", "sys/fs/cgroup"] {
                fs::create_dir_all(root.join(dir)).unwrap();
            }
            symlink(to, root.join(link)).unwrap();
            assert!(check(&root, &places(&["/tmp"])).is_err(), "{link} -> {to}");
            assert!(check(&root, &places(&["/tmp/a/b"])).is_err() || to != "/proc", "below {link} -> {to}");
        }
        let (_dir, root) = image();
        fs::create_dir(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        check(&root, &places(&["/run", "/var/run/secrets/token", "/no/such/yet"])).unwrap();
    }

    #[test]
    fn mount_table_with_more_than_was_planned_in_the_kernels_places_is_refused() {
        let line = |at: &str| format!("36 35 0:1 / {at} rw - tmpfs tmpfs rw\n");
        let table = |ats: &[&str]| ats.iter().map(|at| line(at)).collect::<String>();
        let planned = places(&["/proc", "/dev", "/dev/shm", "/data"]);
        let usual = ["/", "/proc", "/dev", "/dev/shm", "/data", "/proc/keys", "/elsewhere"];
        check_made(&table(&usual), &planned).unwrap();
        for strange in ["/", "/proc", "/proc/self/attr", "/dev/null", "/dev", "/sys/x"] {
            let with = [&usual[..], &[strange]].concat();
            assert!(check_made(&table(&with), &planned).is_err(), "{strange}");
        }
    }
}
