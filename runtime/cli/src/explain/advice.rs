//! Which line of policy would let a program pass where it stumbled, and what that costs. Nothing is loosened by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bulkhead_model::MountedPlace;

use super::{
    places::covering,
    said::{Errno, Stumble},
};

/// What belongs to the kernel, and is the same for every hardened container.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where a container has a tmpfs unless policy or the pod says otherwise. Source: docs/policy.md, `tmpfs`.
const TMPFS: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// Where an image's programs and libraries are: a tmpfs there would hide them.
const PROGRAMS: [&str; 8] =
    ["/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local"];

/// A larger `tmpfs_bytes_max` than the default of 67_108_864.
const MORE_BYTES: &str = "268_435_456";

/// What would allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// A path in this key of its section.
    Path(Key, PathBuf),
    /// A larger `tmpfs_bytes_max`.
    Bytes,
    /// No line of policy.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Writable,
    Executable,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Executable => "executable",
        }
    }

    fn cost(self) -> &'static str {
        match self {
            Self::Writable => {
                "costs memory: a tmpfs there, of at most tmpfs_bytes_max bytes, that counts as the container's and is gone \
                 with it; what the image has there is copied into it and belongs to the container's uid. A volume of the \
                 pod there (emptyDir) needs no line"
            }
            Self::Executable => {
                "costs protection: whoever can write there can run what they wrote, a program that an attacker dropped too"
            }
        }
    }
}

/// Why it stumbled, as far as the container's mounts tell, and what would allow it.
pub(super) fn advise(stumble: &Stumble, places: Option<&[MountedPlace]>) -> (String, Cure) {
    let Some(path) = &stumble.path else {
        return ("it names no path".to_owned(), Cure::None);
    };
    let place = places.and_then(|places| covering(places, path)).cloned().unwrap_or_else(|| guessed(path));
    let shared_memory = path.starts_with("/dev/shm") || path.starts_with("/dev/mqueue");
    if KERNELS.iter().any(|dir| path.starts_with(dir)) && !shared_memory {
        return ("the kernel's files and devices are as they are in every container".to_owned(), Cure::None);
    }
    let of_image = place.path == Path::new("/");
    let shown = place.path.display();
    match stumble.errno {
        Errno::ReadOnly if of_image => {
            ("the image's files cannot be changed".to_owned(), Cure::Path(Key::Writable, directory(path)))
        }
        Errno::ReadOnly if !place.writable => (
            format!("{shown} is mounted read-only, by the pod (readOnly, a configMap, a secret) or by host_paths"),
            Cure::None,
        ),
        Errno::ReadOnly => (format!("{shown} can be written to, as it is mounted now"), Cure::None),
        Errno::Access if of_image && PROGRAMS.iter().any(|dir| path.starts_with(dir)) => (
            "the image's file is another user's; or, with landlock.files, a program or library that its commands are not \
             known to need: `bulkhead profile why` says so of a path, and an entry of exec lets a program in"
                .to_owned(),
            Cure::None,
        ),
        Errno::Access if of_image => (
            "the image's file or directory is another user's; or the container has a generated profile, and it is none of \
             the files that its commands need"
                .to_owned(),
            Cure::Path(Key::Writable, directory(path)),
        ),
        Errno::Access | Errno::NotMapped if place.writable && !place.executable => (
            format!(
                "{shown} is noexec: nothing is executed from what can be written to (to read or write it, its owner counts: \
                 fsGroup)"
            ),
            Cure::Path(Key::Executable, place.path.clone()),
        ),
        Errno::Access | Errno::NotMapped => (
            format!("the file's mode and owner, on {shown}: fsGroup, runAsUser or defaultMode of the pod decide"),
            Cure::None,
        ),
        Errno::Permitted => (
            "chown(2), setuid(2) and mounts take capabilities, which no container has: fsGroup gives a volume its group, \
             runAsUser the uid"
                .to_owned(),
            Cure::None,
        ),
        Errno::NoSpace if place.tmpfs => (format!("the tmpfs on {shown} is full"), Cure::Bytes),
        Errno::NoSpace => (format!("what is mounted on {shown} is full"), Cure::None),
    }
}

/// The lines of a section that allow all of it, each with what it costs.
pub(super) fn lines<'a>(cures: impl Iterator<Item = &'a Cure>) -> Vec<(String, &'static str)> {
    let mut paths: BTreeMap<Key, BTreeSet<&Path>> = BTreeMap::new();
    let mut bytes = false;
    for cure in cures {
        match cure {
            Cure::Path(key, path) => {
                paths.entry(*key).or_default().insert(path);
            }
            Cure::Bytes => bytes = true,
            Cure::None => {}
        }
    }
    let mut lines: Vec<(String, &'static str)> = Vec::new();
    for (key, paths) in paths {
        // What is below another of them comes with it.
        let outer = paths.iter().filter(|path| !path.ancestors().skip(1).any(|above| paths.contains(above)));
        let shown: Vec<String> = outer.map(|path| format!("{:?}", path.display().to_string())).collect();
        lines.push((format!("{} = [{}]", key.name(), shown.join(", ")), key.cost()));
    }
    if bytes {
        lines.push((
            format!("tmpfs_bytes_max = {MORE_BYTES}"),
            "costs memory: up to that much of the container's for each of its tmpfs",
        ));
    }
    lines
}

/// Where a file lies; the path itself if that is the root.
fn directory(path: &Path) -> PathBuf {
    path.parent().filter(|parent| parent.parent().is_some()).unwrap_or(path).to_owned()
}

/// The mounts that every container has, where nobody knows this one's.
fn guessed(path: &Path) -> MountedPlace {
    let tmpfs = TMPFS.iter().chain(&["/dev/shm"]).find(|dir| path.starts_with(dir));
    match tmpfs {
        Some(dir) => MountedPlace { path: dir.into(), writable: true, executable: false, tmpfs: true },
        None => MountedPlace { path: "/".into(), writable: false, executable: true, tmpfs: false },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place(path: &str, writable: bool, executable: bool) -> MountedPlace {
        MountedPlace { path: path.into(), writable, executable, tmpfs: path == "/tmp" }
    }

    fn cure(errno: Errno, path: &str) -> Cure {
        let places = [
            place("/", false, true),
            place("/tmp", true, false),
            place("/data", true, false),
            place("/config", false, true),
        ];
        let stumble = Stumble { errno, path: Some(path.into()), line: String::new() };
        advise(&stumble, Some(&places)).1
    }

    #[test]
    fn file_of_the_image_wants_its_directory_writable_and_a_read_only_volume_wants_no_line() {
        let writable = |path: &str| Cure::Path(Key::Writable, path.into());
        assert_eq!(cure(Errno::ReadOnly, "/var/cache/nginx/client_temp"), writable("/var/cache/nginx"));
        assert_eq!(cure(Errno::ReadOnly, "/state"), writable("/state"));
        assert_eq!(cure(Errno::Access, "/app/log/a"), writable("/app/log"));
        assert_eq!(cure(Errno::Access, "/usr/bin/curl"), Cure::None, "it would hide all programs");
        assert_eq!(cure(Errno::ReadOnly, "/config/x"), Cure::None);
        assert_eq!(cure(Errno::ReadOnly, "/proc/sys/kernel/x"), Cure::None);
    }

    #[test]
    fn what_cannot_be_executed_wants_its_mount_executable_and_not_the_file() {
        let executable = |path: &str| Cure::Path(Key::Executable, path.into());
        assert_eq!(cure(Errno::Access, "/tmp/a/tool"), executable("/tmp"));
        assert_eq!(cure(Errno::NotMapped, "/data/lib.so"), executable("/data"));
        assert_eq!(cure(Errno::Access, "/config/x"), Cure::None);
        assert_eq!(cure(Errno::Permitted, "/data"), Cure::None);
    }

    #[test]
    fn full_tmpfs_wants_more_bytes_and_a_full_volume_no_line() {
        assert_eq!(cure(Errno::NoSpace, "/tmp/x"), Cure::Bytes);
        assert_eq!(cure(Errno::NoSpace, "/data/x"), Cure::None);
    }

    #[test]
    fn lines_name_each_place_once_and_none_below_another() {
        let path = |key, path: &str| Cure::Path(key, path.into());
        let cures = [
            path(Key::Writable, "/a/b"),
            path(Key::Writable, "/a"),
            path(Key::Executable, "/tmp"),
            path(Key::Writable, "/a"),
            Cure::None,
        ];
        let lines: Vec<String> = lines(cures.iter()).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, ["writable = [\"/a\"]", "executable = [\"/tmp\"]"]);
    }

    #[test]
    fn mounts_that_nobody_knows_are_those_that_every_container_has() {
        let stumble =
            |path: &str| Stumble { errno: Errno::Access, path: Some(path.into()), line: String::new() };
        assert_eq!(advise(&stumble("/tmp/x"), None).1, Cure::Path(Key::Executable, "/tmp".into()));
        assert_eq!(advise(&stumble("/opt/x/y"), None).1, Cure::Path(Key::Writable, "/opt/x".into()));
    }
}
