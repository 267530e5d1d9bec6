//! What a container's `/dev` holds besides mounts: the devices that the runtime specification promises, those that the
//! request adds, and links.

use std::{
    ffi::OsStr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat, umask},
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat},
};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::LaunchError;

/// Devices that every container has.
///
/// Source: OCI runtime-spec, config-linux.md, "Default Devices"; `/dev/ptmx` is a link, `/dev/console` comes with a terminal.
const DEFAULT: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("urandom", 1, 9), ("random", 1, 8)];

/// Permissions where none are said.
const MODE: u32 = 0o666;

/// Source: OCI runtime-spec, runtime-linux.md, "Dev symbolic links", and "Default Devices" for `ptmx`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes them below `root`; those of `asked` before a default one of the same name.
pub(super) fn make(root: &Path, asked: &[LinuxDevice]) -> Result<(), LaunchError> {
    // Modes are meant as they are said.
    let before = umask(Mode::empty());
    let made = make_all(root, asked);
    umask(before);
    made
}

fn make_all(root: &Path, asked: &[LinuxDevice]) -> Result<(), LaunchError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat2(AT_FDCWD, root, OpenHow::new().flags(flags))
        .map_err(LaunchError::io("openat2(2)", root.display().to_string()))?;
    let dev = directory(root.as_fd(), OsStr::new("dev"))?;
    for (target, name) in LINKS {
        link(dev.as_fd(), target, name)?;
    }
    if Path::new("/proc/kcore").exists() {
        link(dev.as_fd(), "/proc/kcore", "core")?;
    }
    // The node's own, which a privileged request names with all others, would be a terminal of nobody: the link stays.
    for device in asked.iter().filter(|device| device.path() != Path::new("/dev/ptmx")) {
        make_asked(dev.as_fd(), device)?;
    }
    let is_asked = |name: &str| asked.iter().any(|device| device.path() == &Path::new("/dev").join(name));
    for (name, major, minor) in DEFAULT.into_iter().filter(|(name, ..)| !is_asked(name)) {
        node(dev.as_fd(), OsStr::new(name), SFlag::S_IFCHR, MODE, makedev(major, minor))?;
    }
    Ok(())
}

/// A terminal's file system may have brought its own `ptmx`, an image without a mount on `/dev` the same link.
fn link(dev: BorrowedFd<'_>, target: &str, name: &str) -> Result<(), LaunchError> {
    let failed = |call| LaunchError::io(call, format!("/dev/{name}"));
    match symlinkat(target, dev, name) {
        Err(Errno::EEXIST) if name == "ptmx" => {
            unlinkat(dev, name, UnlinkatFlags::NoRemoveDir).map_err(failed("unlinkat(2)"))?;
            symlinkat(target, dev, name).map_err(failed("symlinkat(2)"))
        }
        Err(Errno::EEXIST) if readlinkat(dev, name).is_ok_and(|found| found == target) => Ok(()),
        done => done.map_err(failed("symlinkat(2)")),
    }
}

fn make_asked(dev: BorrowedFd<'_>, device: &LinuxDevice) -> Result<(), LaunchError> {
    let shown = || device.path().display().to_string();
    let below =
        device.path().strip_prefix("/dev").map_err(|_| LaunchError::Plan("a device is not below /dev"))?;
    let mut names = Vec::new();
    for part in below.components() {
        match part {
            Component::Normal(name) => names.push(name),
            _ => return Err(LaunchError::Plan("the path of a device is not plain")),
        }
    }
    let (name, above) = names.split_last().ok_or(LaunchError::Plan("a device without a name"))?;
    let mut held: Option<OwnedFd> = None;
    for name in above {
        held = Some(directory(held.as_ref().map_or(dev, |held| held.as_fd()), name)?);
    }
    let dir = held.as_ref().map_or(dev, |held| held.as_fd());
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(LaunchError::Plan("a device of no kind")),
    };
    let number =
        |number: i64| u64::try_from(number).map_err(|_| LaunchError::Plan("a device number below zero"));
    let number = makedev(number(device.major())?, number(device.minor())?);
    let made = node(dir, name, kind, device.file_mode().unwrap_or(MODE), number)?;
    if made == Made::Before || device.uid().is_none() && device.gid().is_none() {
        return Ok(());
    }
    let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
    fchownat(dir, *name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(LaunchError::io("fchownat(2)", shown()))
}

/// Who made a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Now,
    /// A mount, an image or an earlier start has this very device there.
    Before,
}

fn node(dir: BorrowedFd<'_>, name: &OsStr, kind: SFlag, mode: u32, number: u64) -> Result<Made, LaunchError> {
    let failed = |call| LaunchError::io(call, format!("/dev: {}", name.display()));
    match mknodat(dir, name, kind, Mode::from_bits_truncate(mode), number) {
        Ok(()) => Ok(Made::Now),
        Err(Errno::EEXIST) => {
            let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed("fstatat(2)"))?;
            let is_it = found.st_mode & libc::S_IFMT == kind.bits() && found.st_rdev == number;
            if is_it { Ok(Made::Before) } else { Err(failed("mknodat(2)")(Errno::EEXIST)) }
        }
        Err(errno) => Err(failed("mknodat(2)")(errno)),
    }
}

/// A directory of that name, made where it is not there, and no link.
fn directory(above: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, LaunchError> {
    let shown = || format!("directory {} of devices", name.display());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let open = || openat2(above, name, OpenHow::new().flags(flags).resolve(resolve));
    let opened = match open() {
        Err(Errno::ENOENT) => {
            mkdirat(above, name, Mode::from_bits_truncate(0o755))
                .map_err(LaunchError::io("mkdirat(2)", shown()))?;
            open()
        }
        opened => opened,
    };
    opened.map_err(LaunchError::io("openat2(2)", shown()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
        sync::Mutex,
    };

    use oci_spec::runtime::LinuxDeviceBuilder;

    use super::*;

    fn device(path: &str) -> LinuxDevice {
        LinuxDeviceBuilder::default()
            .path(path)
            .typ(LinuxDeviceType::P)
            .major(0)
            .minor(0)
            .file_mode(0o642_u32)
            .build()
            .unwrap()
    }

    /// It is the whole process's, and each test has a thread of it.
    static UMASK: Mutex<()> = Mutex::new(());

    fn alone(root: &Path, asked: &[LinuxDevice]) -> Result<(), LaunchError> {
        let _alone = UMASK.lock().unwrap();
        make(root, asked)
    }

    fn dev_with(asked: &[LinuxDevice]) -> (tempfile::TempDir, Result<(), LaunchError>) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/ptmx"), "").unwrap();
        let made = alone(root.path(), asked);
        (root, made)
    }

    #[test]
    fn devices_have_the_numbers_of_the_specification_and_links_their_targets() {
        let (root, made) = dev_with(&[]);
        made.unwrap();
        let dev = root.path().join("dev");
        for (name, major, minor) in DEFAULT {
            let found = fs::metadata(dev.join(name)).unwrap();
            assert!(found.file_type().is_char_device(), "{name}");
            assert_eq!((found.rdev(), found.mode() & 0o7777), (makedev(major, minor), MODE), "{name}");
        }
        for (target, name) in LINKS {
            assert_eq!(fs::read_link(dev.join(name)).unwrap(), Path::new(target));
        }
    }

    #[test]
    fn device_that_is_asked_for_takes_the_place_of_a_default_one_and_may_lie_deeper() {
        let (root, made) = dev_with(&[device("/dev/null"), device("/dev/snd/a")]);
        made.unwrap();
        for path in ["dev/null", "dev/snd/a"] {
            let found = fs::metadata(root.path().join(path)).unwrap();
            assert!(found.file_type().is_fifo(), "{path}");
            assert_eq!(found.mode() & 0o7777, 0o642);
        }
    }

    #[test]
    fn device_or_link_that_is_there_already_is_taken_and_another_one_of_its_name_is_not() {
        let (root, made) = dev_with(&[]);
        made.unwrap();
        let again = [device("/dev/snd/a")];
        alone(root.path(), &again).unwrap();
        alone(root.path(), &again).unwrap();
        let dev = root.path().join("dev");
        for (name, target) in [("null", "/dev/zero"), ("fd", "/proc")] {
            fs::remove_file(dev.join(name)).unwrap();
            symlink(target, dev.join(name)).unwrap();
            assert!(alone(root.path(), &[]).is_err(), "{name}");
            fs::remove_file(dev.join(name)).unwrap();
            alone(root.path(), &[]).unwrap();
        }
        assert!(alone(root.path(), &[device("/dev/zero")]).is_err(), "a FIFO in the place of zero");
    }

    #[test]
    fn device_outside_of_dev_or_behind_a_link_is_refused() {
        for path in ["/etc/x", "/dev", "/dev/../etc/x"] {
            assert!(dev_with(&[device(path)]).1.is_err(), "{path}");
        }
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(root.path().join("dev")).unwrap();
        symlink(outside.path(), root.path().join("dev/snd")).unwrap();
        assert!(alone(root.path(), &[device("/dev/snd/a")]).is_err());
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("dev")).unwrap();
        assert!(alone(root.path(), &[]).is_err());
    }
}
