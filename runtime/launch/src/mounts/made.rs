//! What the kernel says was mounted, read from outside of the container, against what was planned: each mount in its
//! place, once, with the attributes that the confinement relies on, and nothing else in the kernel's places.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{Expected, Level, is_kernels, options::RELIED_ON};
use crate::{
    LaunchError,
    rootfs::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY},
};

/// Most bytes of a mount table that are read; a container has some forty mounts.
const TABLE_BYTES_MAX: usize = 4 << 20;

/// Where one of the planned mounts has landed, and what it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) at: PathBuf,
    /// Of its topmost mount.
    pub(super) top: u64,
    /// Of those below it; none where nothing of the node's came along.
    pub(super) below: Option<u64>,
}

/// The mount table of a process of this worker's.
pub(super) fn table_of(pid: i32) -> Result<String, LaunchError> {
    let path = format!("/proc/{pid}/mountinfo");
    let table = fs::read_to_string(&path).map_err(LaunchError::io("read(2)", path))?;
    if table.len() > TABLE_BYTES_MAX {
        return Err(LaunchError::Plan("the mount table is too long"));
    }
    Ok(table)
}

/// Demands of a mount table (/proc/PID/mountinfo) what was planned.
pub(super) fn check(table: &str, expected: &Expected, landed: &[Landed]) -> Result<(), LaunchError> {
    if expected.hooks {
        // They run as root, and may mount what they like.
        return Ok(());
    }
    let mut found: BTreeMap<PathBuf, Vec<u64>> = BTreeMap::new();
    for line in table.lines() {
        let (at, attributes) = read(line)?;
        let count = found.get(&at).map_or(0, Vec::len);
        let above = landed.iter().filter(|above| at.starts_with(&above.at) && at != above.at);
        let came_along =
            above.max_by_key(|above| above.at.components().count()).and_then(|above| above.below);
        let planned = at == Path::new("/") || landed.iter().any(|mount| mount.at == at);
        let covered = expected.covered.iter().any(|path| at.starts_with(path));
        // A link of the image may lead two of them to one place; not to the kernel's.
        let kernels = at == Path::new("/") || is_kernels(&at);
        let most = if kernels { 1 } else { landed.iter().filter(|mount| mount.at == at).count() };
        let again = planned && count >= most && !expected.covered.contains(&at) && came_along.is_none();
        if again && (expected.level == Level::Hardened || kernels) {
            return Err(strange("a second mount", &at));
        }
        if !planned && !covered {
            match came_along {
                Some(demanded) => demand(&at, &[attributes], demanded)?,
                None if is_kernels(&at) => return Err(strange("a mount that was not planned", &at)),
                None => {}
            }
        }
        found.entry(at).or_default().push(attributes);
    }
    let none = Vec::new();
    let of = |at: &Path| found.get(at).unwrap_or(&none);
    demand(Path::new("/"), of(Path::new("/")), expected.root)?;
    landed.iter().try_for_each(|mount| demand(&mount.at, of(&mount.at), mount.top))
}

/// One of the mounts at a place must show all of these: one more may mask it.
fn demand(at: &Path, found: &[u64], demanded: u64) -> Result<(), LaunchError> {
    if found.is_empty() {
        return Err(LaunchError::Failed(format!(
            "no mount is at {}: what it was to be mounted in was changed meanwhile",
            at.display()
        )));
    }
    if found.iter().any(|attributes| attributes & demanded == demanded) {
        return Ok(());
    }
    let missing = NAMES.iter().filter(|(bit, _)| demanded & bit != 0 && found.iter().all(|a| a & bit == 0));
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    Err(LaunchError::Failed(format!(
        "the mount at {} is not {} as planned",
        at.display(),
        missing.join(", ")
    )))
}

fn strange(what: &str, at: &Path) -> LaunchError {
    LaunchError::Failed(format!("{what} at {}: a link of the image or of a volume led there", at.display()))
}

const NAMES: [(u64, &str); 4] = [
    (MOUNT_ATTR_RDONLY, "ro"),
    (MOUNT_ATTR_NOSUID, "nosuid"),
    (MOUNT_ATTR_NODEV, "nodev"),
    (MOUNT_ATTR_NOEXEC, "noexec"),
];

/// The place and the attributes of one line.
///
/// Source: proc_pid_mountinfo(5): the fifth and sixth field.
fn read(line: &str) -> Result<(PathBuf, u64), LaunchError> {
    let mut fields = line.split(' ').skip(4);
    let (Some(at), Some(options)) = (fields.next(), fields.next()) else {
        return Err(LaunchError::Plan("a line of mountinfo is short"));
    };
    let attributes = options.split(',').filter_map(|word| NAMES.iter().find(|(_, name)| *name == word));
    Ok((unescaped(at), attributes.fold(0, |all, (bit, _)| all | bit) & RELIED_ON))
}

/// A path as the table has it: space, tab, newline and backslash are three octal digits after a backslash.
fn unescaped(text: &str) -> PathBuf {
    let (bytes, mut plain) = (text.as_bytes(), Vec::with_capacity(text.len()));
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let digits = bytes.get(index + 1..index + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\') {
            Some(escaped) => {
                plain.push(escaped);
                index += 4;
            }
            None => {
                plain.push(*byte);
                index += 1;
            }
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn landed(at: &str, top: u64, below: Option<u64>) -> Landed {
        Landed { at: at.into(), top, below }
    }

    fn expected(level: Level) -> Expected {
        Expected { covered: ["/proc/keys".into()].into(), hooks: false, root: MOUNT_ATTR_RDONLY, level }
    }

    fn table(lines: &[(&str, &str)]) -> String {
        lines.iter().map(|(at, options)| format!("36 35 0:1 / {at} {options} - tmpfs tmpfs rw\n")).collect()
    }

    const USUAL: [(&str, &str); 7] = [
        ("/", "ro,nosuid,relatime"),
        ("/proc", "rw,nosuid,nodev,noexec"),
        ("/dev", "rw,nosuid"),
        ("/dev/shm", "rw,nosuid"),
        ("/data\\040x", "ro,nosuid"),
        ("/proc/keys", "rw"),
        ("/elsewhere", "rw"),
    ];

    fn planned() -> [Landed; 4] {
        [
            landed("/proc", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, None),
            landed("/dev", 0, None),
            landed("/dev/shm", MOUNT_ATTR_NOSUID, None),
            landed("/data x", MOUNT_ATTR_RDONLY, Some(MOUNT_ATTR_RDONLY)),
        ]
    }

    #[test]
    fn mount_table_with_more_than_was_planned_in_the_kernels_places_is_refused() {
        check(&table(&USUAL), &expected(Level::Hardened), &planned()).unwrap();
        for strange in ["/", "/proc", "/proc/self/attr", "/dev/null", "/dev", "/sys/x"] {
            let with = [&USUAL[..], &[(strange, "ro,nosuid,nodev")]].concat();
            for level in [Level::Hardened, Level::Compatible] {
                assert!(check(&table(&with), &expected(level), &planned()).is_err(), "{strange}");
            }
        }
        // What covers an earlier mount of its own request is a compatible container's business.
        let twice = [&USUAL[..], &[("/data\\040x", "rw")]].concat();
        check(&table(&twice), &expected(Level::Compatible), &planned()).unwrap();
        assert!(check(&table(&twice), &expected(Level::Hardened), &planned()).is_err());
    }

    #[test]
    fn planned_mount_that_is_not_there_or_has_lost_an_attribute_is_refused() {
        for (index, (at, _)) in USUAL[..5].iter().enumerate() {
            let mut without = USUAL.to_vec();
            without.remove(index);
            assert!(check(&table(&without), &expected(Level::Hardened), &planned()).is_err(), "{at}");
            let mut bare = USUAL.to_vec();
            bare[index].1 = "rw";
            let checked = check(&table(&bare), &expected(Level::Hardened), &planned());
            assert_eq!(checked.is_err(), *at != "/dev", "{at}");
        }
    }

    #[test]
    fn mounts_that_came_along_with_a_source_must_be_as_its_tree_is_to_be() {
        for (options, fine) in [("ro", true), ("rw", false)] {
            let with = [&USUAL[..], &[("/data\\040x/below", options)]].concat();
            assert_eq!(check(&table(&with), &expected(Level::Hardened), &planned()).is_ok(), fine);
        }
    }
}
