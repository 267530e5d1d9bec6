//! Layers as one tree.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use super::{FilesError, Kind, Layer, layer::Entry};
use crate::Limits;

/// Links followed on the way to one file. Source: `MAXSYMLINKS`, include/linux/namei.h.
const LINKS_MAX: u32 = 40;

/// A file of the image, without links on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it really is.
    pub path: PathBuf,
    /// What it is: never [`Kind::Link`].
    pub kind: Kind,
}

/// An image's root file system.
#[derive(Debug)]
pub struct Root {
    /// The top one first.
    layers: Vec<Layer>,
    limits: Limits,
    lookups: Cell<u64>,
    names: Cell<u64>,
    bytes: Cell<u64>,
    seen: RefCell<HashMap<PathBuf, Option<(usize, Kind)>>>,
    contents: RefCell<HashMap<PathBuf, Rc<Vec<u8>>>>,
}

impl Root {
    /// One directory that is the whole file system.
    #[must_use]
    pub fn of(layer: Layer, limits: &Limits) -> Self {
        Self::overlay(vec![layer], limits)
    }

    /// Overlay layers, the top one first.
    #[must_use]
    pub fn overlay(layers: Vec<Layer>, limits: &Limits) -> Self {
        Self {
            layers,
            limits: limits.clone(),
            lookups: Cell::new(0),
            names: Cell::new(0),
            bytes: Cell::new(0),
            seen: RefCell::default(),
            contents: RefCell::default(),
        }
    }

    /// What is at `path`, links followed as the kernel does for a process whose root this is. Nothing for a path that
    /// leads nowhere, loops of links included.
    ///
    /// # Errors
    /// The image cannot be read, or has too much.
    pub fn find(&self, path: &Path) -> Result<Option<Found>, FilesError> {
        // A word of data that was taken for a path; no call takes it.
        if path.as_os_str().as_bytes().contains(&0) {
            return Ok(None);
        }
        let mut links = 0;
        let mut left: Vec<OsString> = Vec::new();
        push(&mut left, path);
        let mut at = PathBuf::from("/");
        while let Some(name) = left.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            match self.kind(&next)? {
                None => return Ok(None),
                Some(Kind::Link(to)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Ok(None);
                    }
                    if to.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    push(&mut left, &to);
                }
                Some(Kind::Directory) => at = next,
                Some(kind) if left.is_empty() => return Ok(Some(Found { path: next, kind })),
                Some(_) => return Ok(None),
            }
        }
        Ok(Some(Found { path: at, kind: Kind::Directory }))
    }

    /// The regular file at `path`, links followed.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn file(&self, path: &Path) -> Result<Option<Found>, FilesError> {
        Ok(self.find(path)?.filter(|found| matches!(found.kind, Kind::Regular { .. })))
    }

    /// Everything in the regular file that was found.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn read(&self, found: &Found) -> Result<Rc<Vec<u8>>, FilesError> {
        if let Some(bytes) = self.contents.borrow().get(&found.path) {
            return Ok(Rc::clone(bytes));
        }
        let bytes = self.read_fresh(found, self.limits.file_bytes_max)?;
        let bytes = Rc::new(bytes);
        self.contents.borrow_mut().insert(found.path.clone(), Rc::clone(&bytes));
        Ok(bytes)
    }

    /// The first `limit` bytes of the regular file that was found, not kept.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn head(&self, found: &Found, limit: u64) -> Result<Vec<u8>, FilesError> {
        self.read_up_to(found, limit)
    }

    fn read_fresh(&self, found: &Found, limit: u64) -> Result<Vec<u8>, FilesError> {
        if let Kind::Regular { bytes, .. } = found.kind
            && bytes > limit
        {
            return Err(FilesError::TooMuch { what: "bytes in one file", limit });
        }
        self.read_up_to(found, limit)
    }

    fn read_up_to(&self, found: &Found, limit: u64) -> Result<Vec<u8>, FilesError> {
        let layer =
            self.seen.borrow().get(&found.path).and_then(|seen| seen.as_ref().map(|(layer, _)| *layer));
        let Some(layer) = layer.and_then(|at| self.layers.get(at)) else { return Ok(Vec::new()) };
        let bytes = layer.read(&found.path, limit).map_err(io("read(2)", &found.path))?;
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
        if self.bytes.get() > self.limits.bytes_max {
            return Err(FilesError::TooMuch { what: "bytes to read", limit: self.limits.bytes_max });
        }
        Ok(bytes)
    }

    /// The names in the directory at `path`, in order; none where there is no directory.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn list(&self, path: &Path) -> Result<Vec<PathBuf>, FilesError> {
        let Some(Found { path, kind: Kind::Directory }) = self.find(path)? else { return Ok(Vec::new()) };
        let mut names = BTreeSet::new();
        for layer in &self.layers {
            let limit = usize::try_from(self.limits.files_max).unwrap_or(usize::MAX);
            names.extend(layer.list(&path, limit).map_err(io("getdents(2)", &path))?);
            if names.len() > limit {
                return Err(FilesError::TooMuch { what: "files", limit: self.limits.files_max });
            }
        }
        self.count_names(names.len() as u64)?;
        let mut there = Vec::new();
        for name in names {
            let full = path.join(name);
            if self.layers.len() == 1 || self.kind(&full)?.is_some() {
                there.push(full);
            }
        }
        Ok(there)
    }

    /// Counts names that were gone over: a directory may be listed as often as an image has words for it.
    ///
    /// # Errors
    /// They are too many.
    pub(crate) fn count_names(&self, more: u64) -> Result<(), FilesError> {
        self.names.set(self.names.get().saturating_add(more));
        if self.names.get() > self.limits.names_max {
            return Err(FilesError::TooMuch { what: "names to go over", limit: self.limits.names_max });
        }
        Ok(())
    }

    /// What is at `path` itself, a link not followed. Its parents must be directories of the tree.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn itself(&self, path: &Path) -> Result<Option<Kind>, FilesError> {
        self.kind(path)
    }

    /// What is at `path`, whose parents are directories of the tree.
    fn kind(&self, path: &Path) -> Result<Option<Kind>, FilesError> {
        if let Some(seen) = self.seen.borrow().get(path) {
            return Ok(seen.as_ref().map(|(_, kind)| kind.clone()));
        }
        self.lookups.set(self.lookups.get() + 1);
        if self.lookups.get() > self.limits.files_max {
            return Err(FilesError::TooMuch { what: "files to look at", limit: self.limits.files_max });
        }
        let mut found = None;
        for (at, layer) in self.layers.iter().enumerate() {
            match layer.entry(path).map_err(io("openat2(2)", path))? {
                Entry::Absent if self.hides(layer, path)? => break,
                Entry::Absent => {}
                Entry::Whiteout => break,
                Entry::Directory { opaque: _ } => {
                    found = Some((at, Kind::Directory));
                    break;
                }
                Entry::Present(kind) => {
                    found = Some((at, kind));
                    break;
                }
            }
        }
        self.seen.borrow_mut().insert(path.to_owned(), found.clone());
        Ok(found.map(|(_, kind)| kind))
    }

    /// Whether `layer` has something above `path` that hides what the layers below have there.
    fn hides(&self, layer: &Layer, path: &Path) -> Result<bool, FilesError> {
        if self.layers.len() == 1 {
            return Ok(true);
        }
        for above in path.ancestors().skip(1) {
            match layer.entry(above).map_err(io("openat2(2)", above))? {
                Entry::Directory { opaque: true } | Entry::Whiteout | Entry::Present(_) => return Ok(true),
                Entry::Directory { opaque: false } | Entry::Absent => {}
            }
        }
        Ok(false)
    }
}

/// The components of `path` onto a stack, the first on top.
fn push(left: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push(name.to_owned()),
            Component::ParentDir => left.push("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn io(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { call, path, source }
}
