//! The image's files as a tree, and the fewest rules that reach what is wanted and nothing that is kept out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    Access, PathRule,
    kind::{FileKind, kind},
    program_directories,
};
use crate::{
    FilesError, Root,
    closure::Closure,
    files::{Found, Kind},
};

/// Deepest directory that is looked at. A path is at most 4096 bytes long; an image with deeper ones is no program's.
const DEPTH_MAX: usize = 128;
/// Directories that are mounts in every container, whatever the image has there.
const MOUNTS: &[&str] = &["/proc", "/sys", "/dev"];

/// A directory.
#[derive(Debug, Default)]
struct Directory {
    path: PathBuf,
    below: Vec<Directory>,
    /// Files in it that may be read: data, and libraries of the closure.
    readable: Vec<PathBuf>,
    /// Programs and scripts in it that may be executed.
    executable: Vec<PathBuf>,
    /// Of it and all below.
    count: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    readable: u64,
    executable: u64,
    programs_out: u64,
    libraries_out: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        let Self { readable, executable, programs_out, libraries_out } = other;
        self.readable += readable;
        self.executable += executable;
        self.programs_out += programs_out;
        self.libraries_out += libraries_out;
    }
}

/// Rules, and what they let through beside the closure.
#[derive(Debug, Default)]
pub(super) struct Cover {
    pub(super) rules: Vec<PathRule>,
    pub(super) libraries_readable: u64,
}

pub(super) struct Tree {
    root: Directory,
}

/// What decides on a file.
struct Wanted<'c> {
    members: &'c BTreeMap<PathBuf, crate::Member>,
    /// Those of the members that the kernel runs: programs, their ELF interpreters, and scripts.
    run: BTreeSet<PathBuf>,
    program_directories: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn of(root: &Root, closure: &Closure<'_>) -> Result<Self, FilesError> {
        let mut run: BTreeSet<PathBuf> = BTreeSet::new();
        for program in &closure.programs {
            let entries = program.scope.entries.iter();
            run.extend(entries.filter_map(|entry| program.scope.files.get(*entry)).cloned());
        }
        let program_directories = program_directories(root, closure)?;
        let wanted = Wanted { members: &closure.members, run, program_directories };
        Ok(Self { root: directory(root, &wanted, Path::new("/"), 0)? })
    }

    pub(super) fn programs_out(&self) -> u64 {
        self.root.count.programs_out
    }

    pub(super) fn libraries_out(&self) -> u64 {
        self.root.count.libraries_out
    }

    /// Rules for all that is wanted. A directory whose own rules are more than `whole_above`, and below which no program
    /// is kept out, is read as a whole.
    pub(super) fn cover(&self, whole_above: usize) -> Cover {
        let mut cover = Cover::default();
        reading(&self.root, whole_above, &mut cover);
        executing(&self.root, &mut cover.rules);
        // Execute has read in it.
        cover.rules.sort_unstable_by(|a, b| (&a.path, b.access).cmp(&(&b.path, a.access)));
        cover.rules.dedup_by(|next, kept| next.path == kept.path);
        cover
    }
}

fn directory(root: &Root, wanted: &Wanted<'_>, path: &Path, depth: usize) -> Result<Directory, FilesError> {
    let mut this = Directory { path: path.to_owned(), ..Directory::default() };
    if depth > DEPTH_MAX {
        return Err(FilesError::TooMuch { what: "directories in each other", limit: DEPTH_MAX as u64 });
    }
    let programs_here = wanted.program_directories.contains(path);
    for entry in root.list(path)? {
        match root.itself(&entry)? {
            Some(Kind::Directory) => {
                if MOUNTS.iter().any(|mount| entry == Path::new(mount)) {
                    continue;
                }
                let below = directory(root, wanted, &entry, depth + 1)?;
                this.count.add(below.count);
                this.below.push(below);
            }
            Some(Kind::Regular { bytes, executable }) => {
                let found = Found { path: entry, kind: Kind::Regular { bytes, executable } };
                let kind = kind(root, &found, executable)?;
                this.file(found.path, kind, executable, wanted, programs_here);
            }
            // A link is where it leads to; a device or a socket of an image is nothing to read.
            Some(Kind::Link(_) | Kind::Other) | None => {}
        }
    }
    Ok(this)
}

impl Directory {
    fn file(
        &mut self,
        path: PathBuf,
        kind: FileKind,
        executable: bool,
        wanted: &Wanted<'_>,
        programs_here: bool,
    ) {
        let member = wanted.members.contains_key(&path);
        let runs = wanted.run.contains(&path) || (member && executable && kind == FileKind::Script);
        match kind {
            _ if runs => {
                self.count.executable += 1;
                self.executable.push(path);
            }
            FileKind::Program if !member => self.count.programs_out += 1,
            FileKind::Script if !member && programs_here => self.count.programs_out += 1,
            FileKind::Library if !member => self.count.libraries_out += 1,
            FileKind::Program | FileKind::Library | FileKind::Script | FileKind::Data => {
                self.count.readable += 1;
                self.readable.push(path);
            }
        }
    }
}

fn rule(path: &Path, access: Access) -> PathRule {
    PathRule { path: path.to_owned(), access }
}

fn reading(directory: &Directory, whole_above: usize, cover: &mut Cover) {
    let Count { readable, executable: _, programs_out, libraries_out } = directory.count;
    if readable == 0 {
        return;
    }
    let is_root = directory.path == Path::new("/");
    if programs_out == 0 && libraries_out == 0 && !is_root {
        cover.rules.push(rule(&directory.path, Access::Read));
        return;
    }
    let before = (cover.rules.len(), cover.libraries_readable);
    for below in &directory.below {
        reading(below, whole_above, cover);
    }
    cover.rules.extend(directory.readable.iter().map(|path| rule(path, Access::Read)));
    let own = cover.rules.len() - before.0;
    if programs_out == 0 && own > whole_above && !is_root {
        cover.rules.truncate(before.0);
        cover.libraries_readable = before.1 + libraries_out;
        cover.rules.push(rule(&directory.path, Access::Read));
    }
}

fn executing(directory: &Directory, rules: &mut Vec<PathRule>) {
    let Count { readable: _, executable, programs_out, libraries_out } = directory.count;
    if executable == 0 {
        return;
    }
    let is_root = directory.path == Path::new("/");
    if programs_out == 0 && libraries_out == 0 && executable > 1 && !is_root {
        rules.push(rule(&directory.path, Access::ReadExecute));
        return;
    }
    for below in &directory.below {
        executing(below, rules);
    }
    rules.extend(directory.executable.iter().map(|path| rule(path, Access::ReadExecute)));
}
