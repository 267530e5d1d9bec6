//! What a container may do where: its mounts, as the kernel shows them of one that lives, or as the server wrote them down
//! of one that has ended.

use std::path::{Path, PathBuf};

use bulkhead_model::MountedPlace;

/// Most bytes of a mount table.
pub(super) const TABLE_BYTES_MAX: u64 = 1 << 20;

/// The mounts of `/proc/PID/mountinfo`; lines that are none are left out.
///
/// Source: proc_pid_mountinfo(5): field 5 is the mount point, field 6 its options, the file system follows ` - `.
pub(super) fn of_mountinfo(table: &str) -> Vec<MountedPlace> {
    let place = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let (path, options) = (fields.get(4)?, fields.get(5)?);
        let has = |option| options.split(',').any(|found| found == option);
        let (kind, rest) = system.split_once(' ')?;
        // The file system as a whole may be read-only too.
        let whole = rest.rsplit(' ').next().unwrap_or_default();
        let writable = !has("ro") && !whole.split(',').any(|option| option == "ro");
        Some(MountedPlace {
            path: unescape(path),
            writable,
            executable: !has("noexec"),
            tmpfs: kind == "tmpfs",
        })
    };
    table.lines().filter_map(place).collect()
}

/// Space, tab, newline and backslash are written in octal.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        match u8::from_str_radix(code, 8) {
            Ok(byte) => plain.push(char::from(byte)),
            Err(_) => plain.push_str(code),
        }
        plain.push_str(rest);
    }
    plain.into()
}

/// The mount that a path is on: the longest above it, the last of several.
pub(super) fn covering<'a>(places: &'a [MountedPlace], path: &Path) -> Option<&'a MountedPlace> {
    let above = places.iter().filter(|place| path.starts_with(&place.path));
    above.max_by_key(|place| place.path.components().count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TABLE: &str = "\
22 1 0:30 / / ro,nosuid,nodev,relatime - overlay overlay rw,lowerdir=/a
23 22 0:31 / /tmp rw,nosuid,nodev,noexec - tmpfs tmpfs rw,size=64k
24 22 0:32 / /data\\040dir rw,nosuid shared:1 - ext4 /dev/vda rw
25 22 0:33 / /config rw,nosuid - ext4 /dev/vdb ro,errors=continue
nonsense
";

    #[test]
    fn mounts_are_read_with_their_own_and_their_file_systems_flags() {
        let places = of_mountinfo(TABLE);
        let seen = |path: &str| {
            let place = covering(&places, Path::new(path)).unwrap();
            (place.path.to_str().unwrap(), place.writable, place.executable, place.tmpfs)
        };
        assert_eq!(seen("/etc/passwd"), ("/", false, true, false));
        assert_eq!(seen("/tmp/a"), ("/tmp", true, false, true));
        assert_eq!(seen("/data dir/x"), ("/data dir", true, true, false));
        assert_eq!(seen("/config/x"), ("/config", false, true, false));
        assert_eq!(seen("/tmpfile"), ("/", false, true, false));
        assert_eq!(places.len(), 4);
    }

    #[test]
    fn path_of_no_known_mount_has_no_place() {
        assert_eq!(covering(&[], Path::new("/a")), None);
    }
}
