//! What ld.so loads into a program: in the order of its scope.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::{
    Closure,
    linkage::{Linkage, Text},
    search::DEFAULT,
};
use crate::{elf::Elf, files::FilesError};

/// Files loaded into one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The program first, then its libraries, then what it loads while it runs.
    pub(crate) files: Vec<PathBuf>,
    /// Those whose entry point runs: the program and its interpreter.
    pub(crate) entries: Vec<usize>,
    /// Those that something else than DT_NEEDED asks for: what they export is looked up by name.
    pub(crate) loaded: BTreeSet<PathBuf>,
    /// How many there are before the program runs.
    started: usize,
}

impl Closure<'_> {
    /// Everything that a program is loaded with.
    pub(super) fn load(&mut self, program: &Path, elf: &Elf<'_>) -> Result<Scope, FilesError> {
        let mut scope = Scope { files: vec![program.to_owned()], entries: vec![0], ..Scope::default() };
        let mut inherited: Vec<PathBuf> = Vec::new();
        let own = self.linkage(program)?.unwrap_or_default();
        if let Some(interpreter) = &elf.interpreter {
            let name = String::from_utf8_lossy(interpreter).into_owned();
            match self.root.file(&Path::new("/").join(&name))? {
                Some(found) => {
                    self.member(&found.path, Some(program), "PT_INTERP")?;
                    scope.entries.push(1);
                    scope.files.push(found.path);
                }
                None => {
                    self.notes.insert(format!(
                        "{} cannot run: its interpreter {name} is not in the image",
                        program.display()
                    ));
                    return Ok(scope);
                }
            }
            if own.runpath.is_none() {
                let origin = program.parent().unwrap_or(Path::new("/"));
                inherited = self.loader.inherited(&own, origin);
            }
            for name in self.loader.preloads.clone() {
                self.opened(&mut scope, &name, &own, program, "LD_PRELOAD or /etc/ld.so.preload")?;
            }
        }
        let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut queue: VecDeque<PathBuf> = scope.files.clone().into();
        let mut done: BTreeSet<PathBuf> = BTreeSet::new();
        let mut loads = false;
        // First what is needed, as ld.so does; then what is loaded later.
        for later in [false, true] {
            if later {
                scope.started = scope.files.len();
                queue = scope.files.clone().into();
                done.clear();
            }
            while let Some(path) = queue.pop_front() {
                if !done.insert(path.clone()) {
                    continue;
                }
                let Some(linkage) = self.linkage(&path)? else { continue };
                loads |= linkage.loads;
                let before = scope.files.len();
                for name in &linkage.needed {
                    if names.contains_key(name) {
                        continue;
                    }
                    let because = format!("DT_NEEDED {name}");
                    if let Some(found) =
                        self.library(&mut scope, name, &linkage, &path, &inherited, &because)?
                    {
                        names.insert(name.clone(), found);
                    }
                }
                // A C library loads services of its own accord.
                if later && (loads || linkage.is_c_library()) {
                    self.loaded_later(&mut scope, &linkage, &path, loads)?;
                }
                queue.extend(scope.files[before..].iter().cloned());
            }
        }
        Ok(scope)
    }

    /// What a file may load while it runs: the libraries that its data names.
    fn loaded_later(
        &mut self,
        scope: &mut Scope,
        linkage: &Linkage,
        path: &Path,
        plugins: bool,
    ) -> Result<(), FilesError> {
        let is_libc = linkage.is_c_library();
        if is_libc {
            for service in self.loader.name_services.clone() {
                let name = format!("libnss_{service}.so.2");
                self.opened(scope, &name, linkage, path, "a service of /etc/nsswitch.conf")?;
            }
        }
        if linkage.interpreter && plugins {
            for name in self.loader.configured_libraries.clone() {
                self.opened(scope, &name, linkage, path, "named in a file below /etc")?;
            }
        }
        for Text { text, library, of_the_loader_alone } in linkage.texts().iter() {
            if *library {
                if is_libc && text.starts_with("libnss_") {
                    continue;
                }
                let because = format!("its name is in the data of {}", path.display());
                if *of_the_loader_alone {
                    self.library(scope, text, linkage, path, &[], &because)?;
                } else {
                    self.opened(scope, text, linkage, path, &because)?;
                }
            } else if plugins && text.starts_with('/') && is_plugins(text) && self.wants_plugins(text)? {
                for file in self.root.list(Path::new(text))? {
                    if file.extension().is_some_and(|extension| extension == "so") {
                        let because = format!("in a directory that the data of {} names", path.display());
                        let name = file.to_string_lossy().into_owned();
                        self.opened(scope, &name, linkage, path, &because)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds what is loaded by its name. What was there at the start stays what it was.
    fn opened(
        &mut self,
        scope: &mut Scope,
        name: &str,
        linkage: &Linkage,
        by: &Path,
        because: &str,
    ) -> Result<(), FilesError> {
        if let Some(path) = self.library(scope, name, linkage, by, &[], because)?
            && !scope.files[..scope.started].contains(&path)
        {
            scope.loaded.insert(path);
        }
        Ok(())
    }

    /// OpenSSL loads engines that its configuration names, and no others by itself.
    fn wants_plugins(&self, directory: &str) -> Result<bool, FilesError> {
        if !directory.contains("/engines-") {
            return Ok(true);
        }
        for path in ["/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf"] {
            if let Some(text) = self.bytes_of(Path::new(path))? {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Ok(text.lines().any(|line| {
                    let line = line.trim_start();
                    !line.starts_with('#') && line.contains("engine")
                }));
            }
        }
        Ok(false)
    }

    /// Adds a library to a scope; where it is, if it is in the image.
    fn library(
        &mut self,
        scope: &mut Scope,
        name: &str,
        linkage: &Linkage,
        by: &Path,
        inherited: &[PathBuf],
        because: &str,
    ) -> Result<Option<PathBuf>, FilesError> {
        let mut candidates = Vec::new();
        if name.contains('/') {
            candidates.push(Path::new(&self.command.cwd).join(name));
        } else {
            let origin = by.parent().unwrap_or(Path::new("/"));
            let mut directories = self.loader.directories(linkage, origin);
            directories.extend(inherited.iter().cloned());
            candidates
                .extend(directories.into_iter().map(|dir| Path::new(&self.command.cwd).join(dir).join(name)));
        }
        for candidate in candidates {
            let Some(found) = self.root.file(&candidate)? else { continue };
            if !self.root.head(&found, 4)?.starts_with(b"\x7fELF") {
                continue;
            }
            if !scope.files.contains(&found.path) {
                self.member(&found.path, Some(by), because)?;
                scope.files.push(found.path.clone());
            }
            return Ok(Some(found.path));
        }
        Ok(None)
    }

    /// Adds files to the scope of a program that is there already, with what they need.
    pub(super) fn add_libraries(
        &mut self,
        program: &Path,
        files: &[PathBuf],
        because: &str,
    ) -> Result<(), FilesError> {
        let Some(at) = self.programs.iter().position(|other| other.path == program) else { return Ok(()) };
        let mut scope = std::mem::take(&mut self.programs[at].scope);
        let mut queue: VecDeque<(PathBuf, String, Option<PathBuf>)> =
            files.iter().map(|file| (file.clone(), because.to_owned(), None)).collect();
        while let Some((file, because, by)) = queue.pop_front() {
            let before = scope.files.len();
            let opened = by.is_none();
            let by = by.unwrap_or_else(|| program.to_owned());
            let name = file.to_string_lossy().into_owned();
            let linkage = self.linkage(&by)?.unwrap_or_default();
            if opened {
                self.opened(&mut scope, &name, &linkage, &by, &because)?;
            } else {
                self.library(&mut scope, &name, &linkage, &by, &[], &because)?;
            }
            for added in &scope.files[before..] {
                let Some(linkage) = self.linkage(added)? else { continue };
                for name in &linkage.needed {
                    queue.push_back((PathBuf::from(name), format!("DT_NEEDED {name}"), Some(added.clone())));
                }
            }
        }
        self.programs[at].scope = scope;
        Ok(())
    }
}

/// Directories of plugins, and not those where all libraries are.
fn is_plugins(directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    !DEFAULT.contains(&directory)
        && directory.matches('/').count() >= 3
        && !directory.starts_with("/usr/local/lib")
}
