//! A name for a uid that the image does not know: a line in /etc/passwd and /etc/group, in copies that are mounted over the
//! image's own.
//!
//! Programs ask who they are (Node's `userInfo`, Java's `user.home`, ssh, git) and stop when nobody says. The line makes /tmp
//! their HOME: there they can write.
//!
//! Invariant: the image's files are read before anything is mounted, and only what is the image's: see [`Own`].
//! Never here: which uid the container has.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    place::{Own, Root},
    source::{self, Links, Tree},
};
use crate::LaunchError;

/// Most bytes of each file that are read: they are the image's, and the copies lie in the node's /run, which is memory. A
/// longer one is left as it is.
const BYTES_MAX: u64 = 64 << 10;

/// How the copies are mounted.
const OPTIONS: [&str; 6] = ["bind", "private", "nosuid", "nodev", "noexec", "ro"];

/// The container's ids, and where the copies are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The container's own directory on the node.
    pub(super) dir: PathBuf,
}

/// One of the two files.
struct Table {
    place: &'static str,
    fields: usize,
    id: u32,
    line: String,
}

impl Identity {
    /// The copies that are needed, each with its place; none where the image knows the id. `planned` says whether something
    /// else will be mounted there. To be called before anything is.
    pub(super) fn trees(
        &self,
        root: &Root,
        planned: impl Fn(&Path) -> bool,
    ) -> Result<Vec<(PathBuf, Tree)>, LaunchError> {
        let Self { uid, gid, dir } = self;
        let tables = [
            Table {
                place: "/etc/passwd",
                fields: 7,
                id: *uid,
                line: format!("user-{uid}:x:{uid}:{gid}::/tmp:/usr/sbin/nologin\n"),
            },
            Table { place: "/etc/group", fields: 4, id: *gid, line: format!("group-{gid}:x:{gid}:\n") },
        ];
        let mut trees = Vec::new();
        for table in tables {
            let place = Path::new(table.place);
            if planned(place) {
                continue;
            }
            let Some(text) = table.with_line(root)? else { continue };
            let Some(landed) = root.own_place(place)? else { continue };
            let name = place.file_name().ok_or(LaunchError::Plan("a file without a name"))?;
            let copy = dir.join(name);
            let failed = || copy.display().to_string();
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&copy)
                .and_then(|mut file| file.write_all(&text))
                .map_err(LaunchError::io("write(2)", failed()))?;
            let links = Links::NodeAsFarAs(dir.clone());
            trees.push((landed, source::bind(&copy, &links, &OPTIONS.map(str::to_owned))?));
        }
        Ok(trees)
    }
}

impl Table {
    /// The image's file with one line more; none where it has the id, is none that can be added to, or is too long.
    fn with_line(&self, root: &Root) -> Result<Option<Vec<u8>>, LaunchError> {
        let mut text = match root.own(Path::new(self.place), BYTES_MAX)? {
            Own::Text(text) if !self.names(&text) => text,
            Own::Nothing => Vec::new(),
            Own::Text(_) | Own::Else => return Ok(None),
        };
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(self.line.as_bytes());
        Ok(Some(text))
    }

    /// Whether a line is about the id. Both files have it in their third field.
    fn names(&self, text: &[u8]) -> bool {
        String::from_utf8_lossy(text).lines().any(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            fields.len() == self.fields && fields[2].parse() == Ok(self.id)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(id: u32) -> Table {
        Table { place: "/etc/passwd", fields: 7, id, line: format!("user-{id}:x:{id}:{id}::/tmp:/x\n") }
    }

    fn with_line(passwd: Option<&str>, id: u32) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        if let Some(text) = passwd {
            fs::write(dir.path().join("etc/passwd"), text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        table(id).with_line(&root).unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn uid_that_the_image_does_not_know_gets_a_line_and_one_that_it_knows_does_not() {
        let image = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh";
        assert_eq!(with_line(Some(image), 1000), None);
        let line = "user-7:x:7:7::/tmp:/x\n";
        assert_eq!(with_line(Some(image), 7).unwrap(), format!("{image}\n{line}"));
        assert_eq!(with_line(None, 7).unwrap(), line);
        assert_eq!(with_line(Some("7:7:7\n"), 7).unwrap(), format!("7:7:7\n{line}"));
    }

    #[test]
    fn file_that_is_none_or_too_long_is_left_as_it_is() {
        let long = "a:x:1:1::/:/\n".repeat(5041);
        assert_eq!(long.len(), 65_533);
        assert!(with_line(Some(&long), 7).is_some());
        assert_eq!(with_line(Some(&format!("{long}b:x:\n")), 7), None);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/passwd")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(table(7).with_line(&root).unwrap(), None);
    }
}
