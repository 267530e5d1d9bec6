//! Where ld.so looks for libraries, and what files below /etc have a C library or a server load.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::{Command, linkage::Linkage, texts};
use crate::files::{FilesError, Root};

/// Where glibc looks last, multiarch directories of Debian included; then musl's own.
///
/// Source: ld.so(8), "default path"; Debian's /etc/ld.so.conf.d; musl ldso/dynlink.c, `sys_path`.
pub(super) const DEFAULT: &[&str] = &[
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

#[derive(Clone, Debug)]
pub(super) struct Loader {
    configured: Vec<PathBuf>,
    pub(super) preloads: Vec<String>,
    library_path: Vec<PathBuf>,
    pub(super) name_services: Vec<String>,
    /// Libraries that files below /etc name.
    pub(super) configured_libraries: BTreeSet<String>,
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

    /// Where the libraries of a program's libraries are looked for by what the program says.
    pub(super) fn inherited(&self, program: &Linkage, origin: &Path) -> Vec<PathBuf> {
        let mut directories = expand(&program.rpath, origin);
        directories.extend(self.library_path.iter().cloned());
        directories.extend(self.configured.iter().cloned());
        directories.extend(DEFAULT.iter().map(PathBuf::from));
        directories
    }

    /// Directories in the order of the search, for what a file of the directory `origin` needs.
    pub(super) fn directories(&self, linkage: &Linkage, origin: &Path) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        if linkage.runpath.is_none() {
            directories.extend(expand(&linkage.rpath, origin));
        }
        directories.extend(self.library_path.iter().cloned());
        directories.extend(expand(&linkage.runpath, origin));
        directories.extend(self.configured.iter().cloned());
        directories.extend(DEFAULT.iter().map(PathBuf::from));
        directories
    }
}

/// The directories of DT_RPATH or DT_RUNPATH. Source: ld.so(8), "dynamic string tokens".
fn expand(text: &Option<String>, origin: &Path) -> Vec<PathBuf> {
    let origin = origin.to_string_lossy();
    let tokens = [("ORIGIN", &*origin), ("LIB", "lib/x86_64-linux-gnu"), ("PLATFORM", "x86_64")];
    let directories = text.iter().flat_map(|text| text.split(':')).filter(|dir| !dir.is_empty());
    let expanded = directories.map(|dir| {
        tokens.iter().fold(dir.to_owned(), |dir, (token, value)| {
            dir.replace(&format!("${token}"), value).replace(&format!("${{{token}}}"), value)
        })
    });
    expanded.map(PathBuf::from).collect()
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
