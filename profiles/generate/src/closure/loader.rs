//! What ld.so loads into a program: in the order of its scope.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::{Closure, Command, texts};
use crate::{
    elf::{Elf, dynamic::Dynamic},
    files::{FilesError, Root},
};

/// Where glibc looks last, multiarch directories of Debian included; then musl's own.
///
/// Source: ld.so(8), "default path"; Debian's /etc/ld.so.conf.d; musl ldso/dynlink.c, `sys_path`.
const DEFAULT: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];
/// Deepest `include` in ld.so.conf.
const INCLUDES_MAX: usize = 4;

/// Files loaded into one process.
#[derive(Clone, Debug, Default)]
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

#[derive(Clone, Debug)]
pub(super) struct Loader {
    configured: Vec<PathBuf>,
    preloads: Vec<String>,
    library_path: Vec<PathBuf>,
    name_services: Vec<String>,
    /// Libraries that files below /etc name.
    configured_libraries: BTreeSet<String>,
}

impl Loader {
    pub(super) fn new(root: &Root, command: &Command) -> Result<Self, FilesError> {
        let mut configured = Vec::new();
        configuration(root, Path::new("/etc/ld.so.conf"), 0, &mut configured)?;
        for arch in ["/etc/ld-musl-x86_64.path"] {
            if let Some(found) = root.file(Path::new(arch))? {
                let text = String::from_utf8_lossy(&root.read(&found)?).into_owned();
                configured
                    .extend(text.split([':', '\n']).filter(|dir| dir.starts_with('/')).map(PathBuf::from));
            }
        }
        let variable = |name: &str| command.loader_environment.get(name).cloned().unwrap_or_default();
        let split = |text: String, at: &[char]| -> Vec<String> {
            text.split(at).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        Ok(Self {
            configured,
            preloads: split(variable("LD_PRELOAD"), &[' ', ':'])
                .into_iter()
                .chain(preload_file(root)?)
                .collect(),
            library_path: split(variable("LD_LIBRARY_PATH"), &[':', ';'])
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            name_services: name_services(root)?,
            configured_libraries: configured_libraries(root)?,
        })
    }

    fn directories(&self, dynamic: &Dynamic, origin: &Path) -> Vec<PathBuf> {
        let expand = |text: &Option<String>| -> Vec<PathBuf> {
            let origin = origin.to_string_lossy();
            let text = text.clone().unwrap_or_default();
            text.split(':')
                .filter(|dir| !dir.is_empty())
                .map(|dir| {
                    let dir = dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin);
                    let dir =
                        dir.replace("$LIB", "lib/x86_64-linux-gnu").replace("${LIB}", "lib/x86_64-linux-gnu");
                    PathBuf::from(dir.replace("$PLATFORM", "x86_64").replace("${PLATFORM}", "x86_64"))
                })
                .collect()
        };
        let mut directories = Vec::new();
        if dynamic.runpath.is_none() {
            directories.extend(expand(&dynamic.rpath));
        }
        directories.extend(self.library_path.iter().cloned());
        directories.extend(expand(&dynamic.runpath));
        directories.extend(self.configured.iter().cloned());
        directories.extend(DEFAULT.iter().map(PathBuf::from));
        directories
    }
}

impl Closure<'_> {
    /// Everything that a program is loaded with.
    pub(super) fn load(&mut self, program: &Path, elf: &Elf<'_>) -> Result<Scope, FilesError> {
        let mut scope = Scope { files: vec![program.to_owned()], entries: vec![0], ..Scope::default() };
        let mut inherited: Vec<PathBuf> = Vec::new();
        let dynamic = Dynamic::of(elf);
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
            if dynamic.runpath.is_none() {
                let origin = program.parent().unwrap_or(Path::new("/"));
                inherited = self
                    .loader
                    .directories(&Dynamic { rpath: dynamic.rpath.clone(), ..Dynamic::default() }, origin);
            }
            for name in self.loader.preloads.clone() {
                self.opened(&mut scope, &name, &dynamic, program, "LD_PRELOAD or /etc/ld.so.preload")?;
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
                let Some(bytes) = self.bytes_of(&path)? else { continue };
                let Ok(elf) = Elf::parse(&bytes) else { continue };
                let dynamic = Dynamic::of(&elf);
                loads |= elf.interpreter.is_some() && dynamic_loading(&dynamic)
                    || dynamic.symbols.iter().any(|symbol| !symbol.defined && is_loading(&symbol.name));
                let before = scope.files.len();
                for name in &dynamic.needed {
                    if names.contains_key(name) {
                        continue;
                    }
                    let because = format!("DT_NEEDED {name}");
                    if let Some(found) =
                        self.library(&mut scope, name, &dynamic, &path, &inherited, &because)?
                    {
                        names.insert(name.clone(), found);
                    }
                }
                // A C library loads services of its own accord.
                if later && (loads || is_c_library(&dynamic)) {
                    self.loaded_later(&mut scope, &elf, &dynamic, &path, loads)?;
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
        elf: &Elf<'_>,
        dynamic: &Dynamic,
        path: &Path,
        plugins: bool,
    ) -> Result<(), FilesError> {
        let is_libc = is_c_library(dynamic);
        if is_libc {
            for service in self.loader.name_services.clone() {
                let name = format!("libnss_{service}.so.2");
                self.opened(scope, &name, dynamic, path, "a service of /etc/nsswitch.conf")?;
            }
        }
        if elf.interpreter.is_some() && plugins {
            for name in self.loader.configured_libraries.clone() {
                self.opened(scope, &name, dynamic, path, "named in a file below /etc")?;
            }
        }
        for text in texts::texts(elf) {
            if texts::is_library(&text) {
                if is_libc && text.starts_with("libnss_") {
                    continue;
                }
                let because = format!("its name is in the data of {}", path.display());
                if texts::is_of_the_loader_alone(elf, dynamic, &text) {
                    self.library(scope, &text, dynamic, path, &[], &because)?;
                } else {
                    self.opened(scope, &text, dynamic, path, &because)?;
                }
            } else if plugins && text.starts_with('/') && is_plugins(&text) && self.wants_plugins(&text)? {
                for file in self.root.list(Path::new(&text))? {
                    if file.extension().is_some_and(|extension| extension == "so") {
                        let because = format!("in a directory that the data of {} names", path.display());
                        let name = file.to_string_lossy().into_owned();
                        self.opened(scope, &name, dynamic, path, &because)?;
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
        dynamic: &Dynamic,
        by: &Path,
        because: &str,
    ) -> Result<(), FilesError> {
        if let Some(path) = self.library(scope, name, dynamic, by, &[], because)?
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
        dynamic: &Dynamic,
        by: &Path,
        inherited: &[PathBuf],
        because: &str,
    ) -> Result<Option<PathBuf>, FilesError> {
        let mut candidates = Vec::new();
        if name.contains('/') {
            candidates.push(Path::new(&self.command.cwd).join(name));
        } else {
            let origin = by.parent().unwrap_or(Path::new("/"));
            let mut directories = self.loader.directories(dynamic, origin);
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
            let dynamic = match self.bytes_of(&by)?.as_ref().map(|bytes| Elf::parse(bytes)) {
                Some(Ok(elf)) => Dynamic::of(&elf),
                _ => Dynamic::default(),
            };
            if opened {
                self.opened(&mut scope, &name, &dynamic, &by, &because)?;
            } else {
                self.library(&mut scope, &name, &dynamic, &by, &[], &because)?;
            }
            for added in &scope.files[before..] {
                let Some(bytes) = self.bytes_of(added)? else { continue };
                let Ok(elf) = Elf::parse(&bytes) else { continue };
                for name in Dynamic::of(&elf).needed {
                    queue.push_back((PathBuf::from(&name), format!("DT_NEEDED {name}"), Some(added.clone())));
                }
            }
        }
        self.programs[at].scope = scope;
        Ok(())
    }
}

fn is_c_library(dynamic: &Dynamic) -> bool {
    dynamic.soname.as_deref() == Some("libc.so.6")
}

fn is_loading(name: &str) -> bool {
    matches!(name, "dlopen" | "dlmopen" | "__libc_dlopen_mode" | "g_module_open" | "lt_dlopen")
}

fn dynamic_loading(dynamic: &Dynamic) -> bool {
    dynamic.symbols.iter().any(|symbol| !symbol.defined && is_loading(&symbol.name))
}

/// Directories of plugins, and not those where all libraries are.
fn is_plugins(directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    !DEFAULT.contains(&directory)
        && directory.matches('/').count() >= 3
        && !directory.starts_with("/usr/local/lib")
}

fn configuration(root: &Root, path: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), FilesError> {
    let Some(found) = root.file(path)? else { return Ok(()) };
    if depth > INCLUDES_MAX {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&root.read(&found)?).into_owned();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include ") {
            Some(pattern) => {
                let pattern = path.parent().unwrap_or(Path::new("/")).join(pattern.trim());
                let directory = pattern.parent().unwrap_or(Path::new("/"));
                for file in root.list(directory)? {
                    if file.extension().is_some_and(|extension| extension == "conf") {
                        configuration(root, &file, depth + 1, into)?;
                    }
                }
            }
            None if line.starts_with('/') => into.push(PathBuf::from(line)),
            None => {}
        }
    }
    Ok(())
}

fn preload_file(root: &Root) -> Result<Vec<String>, FilesError> {
    let Some(found) = root.file(Path::new("/etc/ld.so.preload"))? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&root.read(&found)?).into_owned();
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Services of the name service switch. Source: nsswitch.conf(5); glibc's own default is files and dns.
fn name_services(root: &Root) -> Result<Vec<String>, FilesError> {
    let Some(found) = root.file(Path::new("/etc/nsswitch.conf"))? else {
        return Ok(vec!["files".to_owned(), "dns".to_owned()]);
    };
    let text = String::from_utf8_lossy(&root.read(&found)?).into_owned();
    let mut services = BTreeSet::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        if let Some((_, list)) = line.split_once(':') {
            services.extend(list.split_whitespace().filter(|word| !word.starts_with('[')).map(str::to_owned));
        }
    }
    Ok(services.into_iter().collect())
}

/// Libraries that files below /etc name by their path: modules of servers.
fn configured_libraries(root: &Root) -> Result<BTreeSet<String>, FilesError> {
    /// Longest configuration file that is looked at, in bytes.
    const BYTES_MAX: u64 = 256 << 10;
    /// Directories and files below /etc that are looked at.
    const FILES_MAX: usize = 5_000;
    let mut found = BTreeSet::new();
    let mut queue = VecDeque::from([(PathBuf::from("/etc"), 0)]);
    let mut looked = 0;
    while let Some((path, depth)) = queue.pop_front() {
        looked += 1;
        if looked > FILES_MAX {
            break;
        }
        match root.find(&path)? {
            Some(file) if matches!(file.kind, crate::Kind::Directory) && depth < 6 => {
                queue.extend(root.list(&path)?.into_iter().map(|path| (path, depth + 1)));
            }
            Some(file) if matches!(file.kind, crate::Kind::Regular { .. }) => {
                let bytes = root.head(&file, BYTES_MAX)?;
                if !bytes.windows(3).any(|window| window == b".so") {
                    continue;
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                    for word in line.split(|c: char| c.is_whitespace() || "\"';=,".contains(c)) {
                        if word.starts_with('/') && texts::is_library(word) {
                            found.insert(word.to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
