//! Where the native extensions of a language may lie: those of the system, of each prefix that the interpreter is called
//! from (a virtual environment, /opt/conda, a runtime that jlink made), and of the script.
//!
//! Invariant: no place is a directory of the system's that many packages share.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    Closure,
    interpreter::Interpreter,
    language::{beside, is_of_the_system},
    script::Words,
};
use crate::files::{FilesError, Found, Kind};

/// Links from the path that an interpreter is called by to its file. Source: `MAXSYMLINKS`, include/linux/namei.h.
const LINKS_MAX: usize = 40;
/// Longest file of paths that is looked at, in bytes.
const PATHS_BYTES_MAX: u64 = 64 << 10;
/// What tells the directory of a whole application from those of its scripts.
const OF_A_WHOLE: &[&str] = &["package.json", "pyproject.toml", "setup.py", "Gemfile", "composer.json"];

/// Most directories that scripts speak of.
const ENTERED_MAX: usize = 256;
/// Directories that a script's own is not, though one lies there.
const SHARED: &[&str] = &[
    "/lib",
    "/usr/lib",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/share",
    "/opt",
    "/var",
    "/home",
    "/tmp",
];

impl Closure<'_> {
    /// Where a shell script goes, and where the files are that it names: an interpreter may be started there, or of one.
    pub(super) fn enter(&mut self, words: &Words) -> Result<(), FilesError> {
        let cwd = Path::new(&self.command.cwd);
        let named = words.words.iter().filter(|word| word.starts_with('/'));
        for word in words.entered.iter().chain(named) {
            let directory = match self.root.find(&cwd.join(word))? {
                Some(found) if found.kind == Kind::Directory && words.entered.contains(word) => found.path,
                Some(Found { path, kind: Kind::Regular { .. } }) => match beside(&path) {
                    Some(directory) => directory.to_owned(),
                    None => continue,
                },
                _ => continue,
            };
            if !is_shared(&directory) && self.entered.len() < ENTERED_MAX {
                self.entered.insert(directory);
            }
        }
        Ok(())
    }

    /// Directories below which all native code is the language's.
    pub(super) fn places(&self, of: &Interpreter, argv: &[String]) -> Result<Vec<PathBuf>, FilesError> {
        let mut places = BTreeSet::new();
        for directory in of.directories {
            self.beginning_with(Path::new(directory), &mut places)?;
        }
        for prefix in self.prefixes(argv)? {
            if of.variable == "JAVA_HOME" {
                places.extend([prefix.join("lib"), prefix.join("jre/lib")]);
            }
            for directory in of.directories {
                if let Ok(below) = Path::new(directory).strip_prefix("/usr") {
                    self.beginning_with(&prefix.join(below), &mut places)?;
                }
            }
        }
        if let Some(more) = self.command.loader_environment.get(of.variable) {
            places.extend(more.split([':', ';']).filter(|dir| dir.starts_with('/')).map(PathBuf::from));
        }
        let cwd = Path::new(&self.command.cwd);
        let mut own = vec![cwd.to_owned()];
        own.extend(self.entered.iter().cloned());
        // `gunicorn --chdir DIR`, `uvicorn --app-dir=DIR`.
        let values = argv.iter().skip(1).map(|word| word.split_once('=').map_or(&**word, |(_, value)| value));
        for word in values.filter(|word| word.starts_with('/')) {
            let directory = self.root.find(Path::new(word))?.filter(|found| found.kind == Kind::Directory);
            own.extend(directory.map(|found| found.path).filter(|directory| !is_shared(directory)));
        }
        for word in argv.iter().skip(1).filter(|word| !word.starts_with('-')) {
            if let Some(file) = self.root.file(&cwd.join(word))? {
                own.extend(beside(&file.path).map(Path::to_owned));
                // The first is the script.
                break;
            }
        }
        for directory in own.into_iter().filter(|directory| !is_of_the_system(directory)) {
            for above in directory.ancestors() {
                if let Some(packages) = of.above {
                    places.insert(above.join(packages));
                }
                for name in OF_A_WHOLE {
                    if !is_of_the_system(above) && self.root.file(&above.join(name))?.is_some() {
                        places.insert(above.to_owned());
                    }
                }
            }
            places.insert(directory);
        }
        self.told_by_paths(&mut places)?;
        Ok(places.into_iter().collect())
    }

    /// python3.11 and perl5.36 have their version in their directory's name.
    fn beginning_with(&self, beginning: &Path, into: &mut BTreeSet<PathBuf>) -> Result<(), FilesError> {
        let Some(parent) = beginning.parent() else { return Ok(()) };
        let text = beginning.to_string_lossy();
        let there = self.root.list(parent)?;
        into.extend(there.into_iter().filter(|path| path.to_string_lossy().starts_with(&*text)));
        Ok(())
    }

    /// Directories above the `bin` of what `argv` calls, of each link from there to the file, and of those of PATH; the homes
    /// where packages are put for one user.
    fn prefixes(&self, argv: &[String]) -> Result<BTreeSet<PathBuf>, FilesError> {
        let mut directories: Vec<PathBuf> = self.command.path.iter().map(PathBuf::from).collect();
        let called = argv.first().map(|name| self.called(name)).transpose()?.flatten();
        let mut next = called.map(|(path, _)| path);
        for _ in 0..LINKS_MAX {
            let Some(path) = next.take() else { break };
            let Some(parent) = path.parent().map(|parent| self.root.find(parent)).transpose()?.flatten()
            else {
                break;
            };
            directories.extend(path.parent().map(Path::to_owned));
            if let Some(name) = path.file_name()
                && let Some(Kind::Link(to)) = self.root.itself(&parent.path.join(name))?
            {
                next = Some(parent.path.join(to));
            }
            directories.push(parent.path);
        }
        let mut prefixes = BTreeSet::new();
        for directory in directories.iter().filter(|it| it.ends_with("bin") || it.ends_with("sbin")) {
            prefixes.extend(directory.parent().map(Path::to_owned));
        }
        let homes = self.root.list(Path::new("/home"))?.into_iter().chain([PathBuf::from("/root")]);
        prefixes.extend(homes.map(|home| home.join(".local")));
        prefixes.retain(|prefix| !is_of_the_system(prefix));
        Ok(prefixes)
    }

    /// Directories that Python is told of by files beside its packages. Source: the documentation of `site`.
    fn told_by_paths(&self, places: &mut BTreeSet<PathBuf>) -> Result<(), FilesError> {
        let mut told = Vec::new();
        for place in places.iter() {
            for packages in ["", "site-packages", "dist-packages"] {
                for path in self.root.list(&place.join(packages))? {
                    let Some(file) = self.path_file(&path)? else { continue };
                    let text = String::from_utf8_lossy(&self.root.head(&file, PATHS_BYTES_MAX)?).into_owned();
                    let lines = text
                        .lines()
                        .map(str::trim)
                        .filter(|line| !line.is_empty() && !line.starts_with("import"));
                    told.extend(lines.map(|line| place.join(packages).join(line)));
                }
            }
        }
        for path in told {
            let found = self.root.find(&path)?.filter(|found| found.kind == Kind::Directory);
            places.extend(found.map(|found| found.path).filter(|path| !is_of_the_system(path)));
        }
        Ok(())
    }

    fn path_file(&self, path: &Path) -> Result<Option<Found>, FilesError> {
        if path.extension().is_some_and(|extension| extension == "pth") {
            self.root.file(path)
        } else {
            Ok(None)
        }
    }
}

fn is_shared(directory: &Path) -> bool {
    is_of_the_system(directory) || SHARED.iter().any(|shared| directory == Path::new(shared))
}
