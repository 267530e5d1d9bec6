//! Programs that a command is told of by files rather than by words: a supervisor's configuration, directories of services,
//! and what a package keeps for its own programs alone.
//!
//! ```text
//! supervisord -c FILE   ─► FILE, what it includes ─► absolute paths, and the value of `command`
//! runsvdir DIR          ─► DIR/*/run, finish, log/run
//! "/usr/lib/gcc", "cc1" ─► the program of that name below it, where one file names both; a script that lies deeper by its
//!                          directory's name, too
//! ```
//! Invariant: nothing is added for a directory that many packages share, nor for a file that no argument names.

use std::path::{Path, PathBuf};

use super::{Closure, script};
use crate::files::{FilesError, Found, Kind};

/// Longest configuration that is looked at, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Deepest file that a file includes.
const INCLUDES_MAX: usize = 3;
/// What a supervisor reads that is told of no file, by the program's name. Source: supervisor/options.py, `Options.__init__`.
const DEFAULTS: &[(&str, &[&str])] =
    &[("supervisord", &["/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"])];
/// What a directory of services has of each. Source: runsv(8); s6-supervise.
const SERVICE: &[&str] = &["run", "finish", "log/run", "log/finish"];
/// Most services of one directory: one with more is of data.
const SERVICES_MAX: usize = 256;
/// Below these a directory is of one package.
const OF_PACKAGES: &[&str] = &[
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/libexec",
    "/usr/local/lib",
    "/usr/local/libexec",
    "/opt",
];
/// Deepest program below such a directory: /usr/lib/gcc has its compiler in x86_64-linux-gnu/12.
const DEPTH_MAX: usize = 2;
/// Most programs of one such directory: one with more is a collection (/usr/lib/git-core), and its users name what they run.
/// Only what names it is looked for there by its own name: git starts itself by the first `git` that lies there or in PATH.
/// Source: git's exec-cmd.c, `execv_git_cmd` and `setup_path`.
const PROGRAMS_MAX: usize = 64;

/// To look for a name in so many bytes takes what it takes to list one.
const NAME_BYTES: u64 = 4 << 10;

/// Programs that lie in a directory of one package.
enum Kept {
    /// And as what they are named.
    Few(Vec<(PathBuf, String)>),
    /// Where they are.
    Collection(PathBuf),
}

impl Closure<'_> {
    /// Programs of the files and directories that the arguments of a program name.
    pub(super) fn supervised(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        let is_it = |program: &str| argv.iter().take(2).any(|word| word.rsplit('/').next() == Some(program));
        let defaults = DEFAULTS.iter().filter(|(program, _)| is_it(program)).flat_map(|(_, files)| *files);
        let words = argv.iter().skip(1).map(|word| word.split_once('=').map_or(&**word, |(_, value)| value));
        let named: Vec<&str> = words.chain(defaults.copied()).filter(|word| word.starts_with('/')).collect();
        for word in named {
            match self.root.find(Path::new(word))? {
                Some(file) if file.kind == Kind::Directory => self.services(found, &file.path)?,
                Some(file) => self.configuration(found, &file, 0)?,
                None => {}
            }
        }
        Ok(())
    }

    fn services(&mut self, by: &Found, directory: &Path) -> Result<(), FilesError> {
        let services = self.root.list(directory)?;
        for service in services.iter().filter(|_| services.len() <= SERVICES_MAX) {
            for name in SERVICE {
                let script = service.join(name).to_string_lossy().into_owned();
                self.add_command(
                    &[script],
                    Some(&by.path),
                    "a service of a directory that an argument names",
                )?;
            }
        }
        Ok(())
    }

    fn configuration(&mut self, by: &Found, file: &Found, depth: usize) -> Result<(), FilesError> {
        let Kind::Regular { executable: false, .. } = file.kind else { return Ok(()) };
        // Again only where more of what it includes counts.
        if self.configured.get(&file.path).is_some_and(|before| *before <= depth) {
            return Ok(());
        }
        self.configured.insert(file.path.clone(), depth);
        let bytes = self.root.head(file, FILE_BYTES_MAX)?;
        if bytes.contains(&0) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let because = format!("named in {}, which an argument names", file.path.display());
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let command = line.split_once('=').filter(|(key, _)| key.trim().ends_with("command"));
            let first = command.and_then(|(_, value)| value.split_whitespace().next());
            let separates = |c: char| c.is_whitespace() || "\"';,=()".contains(c);
            for word in line.split(separates).filter(|word| word.starts_with('/')).chain(first) {
                let word = word.trim_matches(['"', '\'']);
                if let (Some((directory, pattern)), true) = (word.rsplit_once('/'), depth < INCLUDES_MAX)
                    && let Some((start, end)) = pattern.split_once('*')
                {
                    for included in self.matching(directory, start, end)? {
                        self.configuration(by, &included, depth + 1)?;
                    }
                    continue;
                }
                self.add_command(&[word.to_owned()], Some(&by.path), &because)?;
            }
        }
        Ok(())
    }

    fn matching(&self, directory: &str, start: &str, end: &str) -> Result<Vec<Found>, FilesError> {
        let mut found = Vec::new();
        for path in self.root.list(Path::new(directory))? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(start) && name.ends_with(end) {
                found.extend(self.root.file(&path)?);
            }
        }
        Ok(found)
    }

    /// Programs below a directory of one package, which `by` names, as their names. To ask for a name is to go over `bytes`.
    pub(crate) fn private(
        &mut self,
        directory: &str,
        by: &Path,
        bytes: usize,
        names: &dyn Fn(&str) -> bool,
    ) -> Result<(), FilesError> {
        let programs = match self.programs_below(directory)? {
            Some(Kept::Few(programs)) => {
                self.root.count_names(programs.len() as u64 * (bytes as u64 / NAME_BYTES))?;
                programs
            }
            Some(Kept::Collection(at)) => {
                let own = by.file_name().map(|name| (at.join(name), name.to_string_lossy().into_owned()));
                own.into_iter().collect()
            }
            None => return Ok(()),
        };
        let because = format!("{} names it and {directory}", by.display());
        for (program, name) in programs {
            if names(&name) {
                let word = program.to_string_lossy().into_owned();
                self.add_command(&[word], Some(by), &because)?;
            }
        }
        Ok(())
    }

    fn programs_below(&mut self, directory: &str) -> Result<Option<Kept>, FilesError> {
        let directory = directory.trim_end_matches('/');
        let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
        let of_one = |shared: &&&str| {
            directory.strip_prefix(**shared).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
        };
        if parent.is_empty() || OF_PACKAGES.contains(&directory) || OF_PACKAGES.iter().find(of_one).is_none()
        {
            return Ok(None);
        }
        let Some(Found { path, kind: Kind::Directory }) = self.root.find(Path::new(directory))? else {
            return Ok(None);
        };
        let mut programs = Vec::new();
        let mut waiting = vec![(path.clone(), 0)];
        while let Some((at, depth)) = waiting.pop() {
            for entry in self.root.list(&at)? {
                match self.root.find(&entry)? {
                    Some(Found { path: real, kind: Kind::Directory })
                        if depth < DEPTH_MAX && real == entry =>
                    {
                        waiting.push((entry, depth + 1));
                    }
                    Some(found)
                        if matches!(found.kind, Kind::Regular { executable: true, .. })
                            && self.is_program(&found)? =>
                    {
                        let is_script = self.root.head(&found, 2)? == b"#!";
                        // Of a script below it (PostgreSQL's pgxs/config/missing) the name alone may be any word.
                        let named = if is_script && depth > 0 { 2 } else { 1 };
                        let parts: Vec<_> = entry.iter().map(|part| part.to_string_lossy()).collect();
                        let name = parts[parts.len().saturating_sub(named)..].join("/");
                        programs.push((entry, name));
                    }
                    _ => {}
                }
                if programs.len() > PROGRAMS_MAX {
                    return Ok(Some(Kept::Collection(path)));
                }
            }
        }
        Ok(Some(Kept::Few(programs)))
    }

    /// Whether the kernel runs it itself, or a shell does.
    fn is_program(&mut self, found: &Found) -> Result<bool, FilesError> {
        let head = self.root.head(found, 256)?;
        if head.starts_with(b"#!") {
            let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            return Ok(line.trim_start_matches("#!").split_whitespace().any(script::is_shell));
        }
        Ok(self.linkage(&found.path)?.is_some_and(|linkage| linkage.interpreter))
    }
}
