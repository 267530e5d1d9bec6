//! Where the native extensions of a language may lie: those of the system, of each prefix that the interpreter is called
//! from (a virtual environment and what it is made from, /opt/conda, a runtime that jlink made), and of the script.
//!
//! Invariant: no place is a directory that many packages share, and none is a link.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::{
    Closure,
    interpreter::Interpreter,
    language::{beside, is_of_the_system},
    script::Words,
    search::DEFAULT,
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
/// Directories that a script's own is not, though one lies there; those where the loader looks are none either.
const SHARED: &[&str] = &[
    "/usr/include",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/lib64",
    "/usr/local/lib/x86_64-linux-gnu",
    "/usr/local/share",
    "/opt",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/run",
    "/dev",
    "/proc",
    "/sys",
    "/home",
    "/tmp",
];

impl Closure<'_> {
    /// Where a shell script goes, the directories that it names by their path (in a variable that it sets, as an option's value),
    /// and where the files are that it names: an interpreter may be started there, of one, or told of it.
    pub(super) fn enter(&mut self, words: &Words) -> Result<(), FilesError> {
        let cwd = Path::new(&self.command.cwd);
        for word in words.entered.iter().chain(&words.paths) {
            let directory = match self.root.find(&cwd.join(word))? {
                Some(found) if found.kind == Kind::Directory => found.path,
                Some(Found { path, kind: Kind::Regular { .. } }) => match beside(&path) {
                    Some(directory) => directory.to_owned(),
                    None => continue,
                },
                _ => continue,
            };
            if is_shared(&directory) || self.entered.contains(&directory) {
                continue;
            }
            if self.entered.len() >= ENTERED_MAX {
                self.notes.insert(format!(
                    "scripts name more than {ENTERED_MAX} directories; native extensions in others are not looked for"
                ));
                break;
            }
            self.entered.insert(directory);
        }
        Ok(())
    }

    /// Directories below which all native code is the language's.
    pub(super) fn places(&self, of: &Interpreter, argv: &[String]) -> Result<BTreeSet<PathBuf>, FilesError> {
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
        own.extend(values.filter(|word| word.starts_with('/')).map(PathBuf::from));
        for word in argv.iter().skip(1).filter(|word| !word.starts_with('-')) {
            if let Some(file) = self.root.file(&cwd.join(word))? {
                own.extend(beside(&file.path).map(Path::to_owned));
                // The first is the script.
                break;
            }
        }
        places.extend(self.around(of, own)?);
        self.unshared(places)
    }

    /// An application's own directories, and what belongs to them above.
    pub(super) fn around(
        &self,
        of: &Interpreter,
        own: impl IntoIterator<Item = PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, FilesError> {
        let mut places = BTreeSet::new();
        for directory in own {
            let Some(Found { path: directory, .. }) = self.root.find(&directory)? else { continue };
            for above in directory.ancestors() {
                if let Some(packages) = of.above {
                    places.insert(above.join(packages));
                }
                for name in OF_A_WHOLE {
                    if !is_shared(above) && self.root.file(&above.join(name))?.is_some() {
                        places.insert(above.to_owned());
                    }
                }
            }
            places.insert(directory);
        }
        self.unshared(places)
    }

    /// Those that are directories and not shared, without links.
    fn unshared(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<BTreeSet<PathBuf>, FilesError> {
        let mut places = BTreeSet::new();
        for path in paths {
            let found = self.root.find(&path)?.filter(|found| found.kind == Kind::Directory);
            places.extend(found.map(|found| found.path).filter(|path| !is_shared(path)));
        }
        Ok(places)
    }

    /// python3.11 and perl5.36 have their version in their directory's name.
    fn beginning_with(&self, beginning: &Path, into: &mut BTreeSet<PathBuf>) -> Result<(), FilesError> {
        let Some(parent) = beginning.parent() else { return Ok(()) };
        let text = beginning.to_string_lossy();
        let there = self.root.list(parent)?;
        into.extend(there.into_iter().filter(|path| path.to_string_lossy().starts_with(&*text)));
        Ok(())
    }

    /// Directories above the `bin` of what `argv` calls, of each link from there to the file, of what a virtual environment is
    /// made from, and of those of PATH; the homes where packages are put for one user.
    fn prefixes(&self, argv: &[String]) -> Result<BTreeSet<PathBuf>, FilesError> {
        let mut directories: Vec<PathBuf> = self.command.path.iter().map(PathBuf::from).collect();
        let called = argv.first().map(|name| self.called(name)).transpose()?.flatten();
        let mut waiting: VecDeque<_> = called.map(|(path, _)| path).into_iter().collect();
        for _ in 0..LINKS_MAX {
            let Some(path) = waiting.pop_front() else { break };
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            directories.push(parent.to_owned());
            let Some(real) = self.root.find(parent)? else { continue };
            if let Some(Kind::Link(to)) = self.root.itself(&real.path.join(name))? {
                waiting.push_back(real.path.join(to));
            }
            for home in self.homes_of(parent)? {
                // The parent of the path that is looked at next is one of them.
                waiting.push_back(home.join(name));
            }
            directories.push(real.path);
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

    /// Where the Python is that a virtual environment is made from: its own may be a copy. Source: the documentation of
    /// `site`, "pyvenv.cfg".
    fn homes_of(&self, bin: &Path) -> Result<Vec<PathBuf>, FilesError> {
        let mut homes = Vec::new();
        for directory in bin.ancestors().take(2) {
            let Some(file) = self.root.file(&directory.join("pyvenv.cfg"))? else { continue };
            let text = String::from_utf8_lossy(&self.root.head(&file, PATHS_BYTES_MAX)?).into_owned();
            let lines = text.lines().filter_map(|line| line.split_once('='));
            // The first counts: Modules/getpath.py.
            let told = lines.filter(|(key, _)| key.trim().eq_ignore_ascii_case("home")).take(1);
            homes.extend(told.map(|(_, home)| PathBuf::from(home.trim())));
        }
        homes.retain(|home| home.is_absolute());
        Ok(homes)
    }

    /// Directories that Python is told of by files beside its packages. Source: the documentation of `site`.
    pub(super) fn told_by_paths<'p>(
        &self,
        places: impl IntoIterator<Item = &'p PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, FilesError> {
        let mut told = Vec::new();
        for place in places {
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
        self.unshared(told)
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
    let mut shared = SHARED.iter().chain(DEFAULT);
    is_of_the_system(directory) || shared.any(|shared| directory == Path::new(shared))
}
