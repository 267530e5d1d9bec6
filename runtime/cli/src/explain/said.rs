//! Where a program stumbled, as it says itself: an error of the kernel's in a line of its output, and the path in it.
//!
//! Nothing here is certain: a program may say nothing, leave out the path, or say it in another language.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

/// Most stumbles that are told.
const STUMBLES_MAX: usize = 16;

/// Longest line that is shown, in bytes.
const LINE_BYTES_MAX: usize = 300;

/// How far behind the error a path may begin that is its own: `EROFS: read-only file system, open '/a'`.
const BEHIND_MAX: usize = 24;

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errno {
    ReadOnly,
    Access,
    Permitted,
    NoSpace,
    /// EPERM of mmap(2), as the dynamic loader says it.
    NotMapped,
}

/// How C libraries, Go, Java, Node and Python say it. Source: strerror(3); libuv's and Python's names.
const SAYINGS: [(&str, Errno); 13] = [
    ("failed to map segment from shared object", Errno::NotMapped),
    ("read-only file system", Errno::ReadOnly),
    ("read-only filesystem", Errno::ReadOnly),
    ("erofs", Errno::ReadOnly),
    ("[errno 30]", Errno::ReadOnly),
    ("permission denied", Errno::Access),
    ("eacces", Errno::Access),
    ("[errno 13]", Errno::Access),
    ("accessdeniedexception", Errno::Access),
    ("operation not permitted", Errno::Permitted),
    ("[errno 1]", Errno::Permitted),
    ("no space left on device", Errno::NoSpace),
    ("enospc", Errno::NoSpace),
];

impl Errno {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "EROFS",
            Self::Access => "EACCES",
            Self::Permitted | Self::NotMapped => "EPERM",
            Self::NoSpace => "ENOSPC",
        }
    }
}

/// A line about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stumble {
    pub(super) errno: Errno,
    /// What the line names; absolute where the working directory is known.
    pub(super) path: Option<PathBuf>,
    pub(super) line: String,
}

/// Those of an output, each path and error once, the last that it says.
pub(super) fn stumbles(output: &str, cwd: Option<&Path>) -> Vec<Stumble> {
    let mut seen = BTreeSet::new();
    let mut found: Vec<Stumble> = output
        .lines()
        .rev()
        .filter_map(|line| stumble(line, cwd))
        .filter(|stumble| seen.insert((stumble.errno, stumble.path.clone())))
        .take(STUMBLES_MAX)
        .collect();
    found.reverse();
    found
}

fn stumble(line: &str, cwd: Option<&Path>) -> Option<Stumble> {
    let shown: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    // Of ASCII alone the case is changed: the places stay the same.
    let lower = shown.to_ascii_lowercase();
    let (at, saying, errno) =
        SAYINGS.iter().find_map(|(saying, errno)| lower.find(saying).map(|at| (at, *saying, *errno)))?;
    let end = (0..=LINE_BYTES_MAX.min(shown.len())).rev().find(|end| shown.is_char_boundary(*end));
    Some(Stumble {
        errno,
        path: path(&shown, at, at + saying.len(), cwd),
        line: shown.get(..end.unwrap_or(0)).unwrap_or_default().to_owned(),
    })
}

/// The path of an error that stands at `at..end`: right behind it, else the last before it, else any after it.
fn path(line: &str, at: usize, end: usize, cwd: Option<&Path>) -> Option<PathBuf> {
    let paths = absolute(line);
    let behind = paths.iter().find(|(start, _)| *start >= end);
    let near = behind.filter(|(start, _)| start - end <= BEHIND_MAX);
    // A program that is named first, as a shell names its script, is not what it stumbled over, if there is more.
    let before = paths.iter().rfind(|(start, _)| *start < at);
    let found = near.or(before).or(behind).map(|(_, path)| PathBuf::from(path));
    found.or_else(|| Some(cwd?.join(quoted(line)?))).map(|path| normal(&path))
}

/// Words that begin with a slash, and where.
fn absolute(line: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut before = ' ';
    let mut next = 0;
    for (start, c) in line.char_indices() {
        if c == '/' && start >= next && !before.is_alphanumeric() && !"/.-_~".contains(before) {
            let rest = &line[start..];
            let length = rest.find(|c: char| c.is_whitespace() || "\"'`()[]<>,;".contains(c));
            let word = &rest[..length.unwrap_or(rest.len())];
            let word = word.split(": ").next().unwrap_or(word).trim_end_matches([':', '.', '!', '?']);
            next = start + word.len();
            if word.len() > 1 {
                found.push((start, word));
            }
        }
        before = c;
    }
    found
}

/// The last word in quotes: of a relative path.
fn quoted(line: &str) -> Option<&str> {
    let is_quote = |c: char| "'\"‘’`".contains(c);
    let words = line.split(is_quote).skip(1).step_by(2);
    words.filter(|word| !word.is_empty() && !word.contains(char::is_whitespace)).last()
}

/// Without `.` and `..`: as the text says it, links are not asked.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn one(line: &str) -> (&'static str, String) {
        let found = stumbles(line, Some(Path::new("/srv")));
        let [stumble] = found.as_slice() else { panic!("{line}: {found:?}") };
        (stumble.errno.name(), stumble.path.as_ref().map_or(String::new(), |path| path.display().to_string()))
    }

    #[test]
    fn path_and_error_are_read_from_what_programs_of_every_kind_say() {
        for (line, errno, path) in [
            ("open() \"/run/nginx.pid\" failed (30: Read-only file system)", "EROFS", "/run/nginx.pid"),
            ("/entrypoint.sh: line 4: /app/spool/a: Read-only file system", "EROFS", "/app/spool/a"),
            ("sh: can't create /data/file: Read-only file system", "EROFS", "/data/file"),
            ("OSError: [Errno 30] Read-only file system: '/srv/cache'", "EROFS", "/srv/cache"),
            ("Error: EROFS: read-only file system, open '/app/.next/x'", "EROFS", "/app/.next/x"),
            ("mkdir /config/caddy: read-only file system", "EROFS", "/config/caddy"),
            (
                "java.io.FileNotFoundException: /opt/app/log.txt (Read-only file system)",
                "EROFS",
                "/opt/app/log.txt",
            ),
            (
                "(30)Read-only file system: AH00099: could not create /usr/local/apache2/logs/httpd.pid.x",
                "EROFS",
                "/usr/local/apache2/logs/httpd.pid.x",
            ),
            ("touch: cannot touch 'state/x': Read-only file system", "EROFS", "/srv/state/x"),
            ("mkdir: cannot create directory ‘../lib’: Permission denied", "EACCES", "/lib"),
            ("sh: /tmp/tool: Permission denied", "EACCES", "/tmp/tool"),
            (
                "/tmp/libjna.so: failed to map segment from shared object: Operation not permitted",
                "EPERM",
                "/tmp/libjna.so",
            ),
            ("chown: changing ownership of '/data': Operation not permitted", "EPERM", "/data"),
            ("write /tmp/a/b: no space left on device", "ENOSPC", "/tmp/a/b"),
        ] {
            assert_eq!(one(line), (errno, path.to_owned()), "{line}");
        }
    }

    #[test]
    fn line_without_a_path_is_told_without_one_and_line_without_an_error_is_not() {
        let [stumble] = stumbles("redis: Permission denied", None).try_into().unwrap();
        assert_eq!(stumble.path, None);
        assert!(stumbles("listening on /run/a.sock\nhttp://a/b", None).is_empty());
    }

    #[test]
    fn each_path_is_told_once_and_control_characters_are_not_shown() {
        let text = "a /x/y: Read-only file system\n".repeat(40);
        assert_eq!(stumbles(&text, None).len(), 1);
        let [stumble] = stumbles("\u{1b}[31m/x/y: Permission denied", None).try_into().unwrap();
        assert!(stumble.line.starts_with("?[31m/x/y"), "{}", stumble.line);
        let many: String = (0..40).map(|n| format!("/x/{n}: Permission denied\n")).collect();
        assert_eq!(stumbles(&many, None).len(), STUMBLES_MAX);
        assert!(
            stumbles(&format!("/{}: Permission denied", "é".repeat(400)), None)[0].line.len()
                <= LINE_BYTES_MAX
        );
    }
}
