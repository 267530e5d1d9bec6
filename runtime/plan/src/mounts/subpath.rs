//! What a `volume-subpaths` mount of the kubelet shows.
//!
//! For a subPath the kubelet binds the file or directory to a place below the pod's own directory and hands that
//! place over, for volumes of the pod and for directories of the host alike. The mount table tells them apart.

use std::path::{Path, PathBuf};

/// Longest mount table that is read, in bytes; a node with 250 pods has about 1 MiB.
const TABLE_BYTES_MAX: usize = 16 << 20;

/// One line of mountinfo.
struct Entry {
    device: String,
    /// What of the file system is shown.
    root: PathBuf,
    /// Where.
    at: PathBuf,
}

/// The paths by which the host itself reaches what is mounted at `place`; none if nothing is, or if no path
/// leads to it. There are several where a volume is itself a bind mount.
pub(super) fn origins(table: &str, place: &Path) -> Vec<PathBuf> {
    if table.len() > TABLE_BYTES_MAX {
        return Vec::new();
    }
    let entries: Vec<Entry> = table.lines().filter_map(parse).collect();
    let Some(shown) = entries.iter().rfind(|entry| entry.at == place) else { return Vec::new() };
    entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.device == shown.device && entry.at != place)
        .filter_map(|(index, entry)| {
            let below = shown.root.strip_prefix(&entry.root).ok()?;
            let path: PathBuf = entry.at.join(below).components().collect();
            (covering(&entries, &path)? == index).then_some(path)
        })
        .collect()
}

/// Index of the mount that `path` is on.
fn covering(entries: &[Entry], path: &Path) -> Option<usize> {
    let on_path = entries.iter().enumerate().filter(|(_, entry)| path.starts_with(&entry.at));
    on_path.max_by_key(|(index, entry)| (entry.at.components().count(), *index)).map(|(index, _)| index)
}

/// Source: proc_pid_mountinfo(5): `36 35 98:0 /root /at options…`.
fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    let root = PathBuf::from(unescape(fields.next()?)?);
    let at = PathBuf::from(unescape(fields.next()?)?);
    Some(Entry { device, root, at })
}

/// `\040` and its like. Source: `mangle`, fs/proc_namespace.c.
fn unescape(text: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let mut code = 0u32;
        for _ in 0..3 {
            let digit = bytes.next().filter(|digit| (b'0'..=b'7').contains(digit))?;
            code = code * 8 + u32::from(digit - b'0');
        }
        plain.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /var/lib/kubelet/pods/u1/volumes/kubernetes.io~secret/s rw shared:2 - tmpfs tmpfs rw
40 22 8:1 /var/lib/kubelet/pods/u1/volumes/kubernetes.io~empty-dir/e/sub /var/lib/kubelet/pods/u1/volume-subpaths/e/c/0 rw - ext4 /dev/sda1 rw
41 22 0:50 /..data/key /var/lib/kubelet/pods/u1/volume-subpaths/s/c/1 rw - tmpfs tmpfs rw
42 22 8:1 /etc /var/lib/kubelet/pods/u1/volume-subpaths/h/c/2 rw - ext4 /dev/sda1 rw
43 22 0:99 /x /var/lib/kubelet/pods/u1/volume-subpaths/n/c/3 rw - tmpfs tmpfs rw
44 22 8:1 /with\\040space /var/lib/kubelet/pods/u1/volume-subpaths/h/c/4 rw - ext4 /dev/sda1 rw
";

    fn of(place: &str) -> Vec<String> {
        let place = Path::new("/var/lib/kubelet/pods/u1/volume-subpaths").join(place);
        origins(TABLE, &place).iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn subpath_of_a_volume_leads_back_to_it() {
        let volumes = "/var/lib/kubelet/pods/u1/volumes";
        assert_eq!(of("e/c/0"), [format!("{volumes}/kubernetes.io~empty-dir/e/sub")]);
        assert_eq!(of("s/c/1"), [format!("{volumes}/kubernetes.io~secret/s/..data/key")]);
    }

    #[test]
    fn subpath_of_a_host_directory_leads_there() {
        assert_eq!(of("h/c/2"), ["/etc"]);
        assert_eq!(of("h/c/4"), ["/with space"]);
    }

    #[test]
    fn place_without_mount_and_file_system_without_path_lead_nowhere() {
        assert!(of("x/c/0").is_empty());
        assert!(of("n/c/3").is_empty());
    }

    #[test]
    fn volume_hidden_by_another_mount_is_no_origin() {
        let hidden = format!("{TABLE}50 22 0:77 / /etc rw - tmpfs tmpfs rw\n");
        let place = Path::new("/var/lib/kubelet/pods/u1/volume-subpaths/h/c/2");
        assert!(origins(&hidden, place).is_empty());
    }
}
