//! Which programs and libraries of an image a command can run, and why each.
//!
//! ```text
//! argv, PATH, cwd ─► program ─► #! interpreter, commands of a script ─► more programs
//!                       │
//!                       └► ELF: PT_INTERP, DT_NEEDED, preloads, names of libraries in its data ─► a scope
//! ```
//! Invariant: a member is a file of the image; what is named and not there is left out, for it cannot run either.
//! Limits: what a program is told to run by its input or its network is not known; see the profile's notes.

mod interpreter;
pub(crate) mod language;
mod linkage;
mod loader;
mod places;
mod script;
mod search;
mod supervised;
pub(crate) mod texts;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::{Deserialize, Serialize};

use linkage::Linkage;
pub(crate) use loader::Scope;
use script::{Script, Words};

use crate::{
    Limits,
    elf::Elf,
    files::{FilesError, Found, Kind, Root},
};

/// Most words of a command line that go on with a program which an argument names.
const ARGUMENTS_MAX: usize = 64;

/// Longest chain of `#!` that is followed. Source: `exec_binprm`, fs/exec.c, allows five rewrites.
const SHEBANGS_MAX: usize = 5;

/// What is run, and with which environment: all that decides the closure, besides the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Entrypoint and arguments.
    pub argv: Vec<String>,
    /// Directories of PATH.
    pub path: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// LD_PRELOAD, LD_LIBRARY_PATH, PYTHONPATH and the like.
    pub loader_environment: BTreeMap<String, String>,
    /// Commands that may be exec'd besides.
    pub exec: Vec<Vec<String>>,
}

/// How a file comes to be in a closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it is.
    pub path: PathBuf,
    /// Who needs it; nothing for what the command line names.
    pub needed_by: Option<PathBuf>,
    /// How it was found.
    pub because: String,
}

/// A program of the closure and what it is loaded with.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) scope: Scope,
}

/// A program that was named and not yet looked at.
struct Waiting {
    found: Found,
    by: Option<PathBuf>,
    because: String,
    argv: Vec<String>,
    /// How many `#!` led here.
    depth: usize,
}

/// Closure of a command, as it grows.
pub(crate) struct Closure<'r> {
    pub(crate) root: &'r Root,
    pub(crate) command: Command,
    limits: Limits,
    pub(crate) members: BTreeMap<PathBuf, Member>,
    pub(crate) programs: Vec<Program>,
    queue: VecDeque<Waiting>,
    done: BTreeSet<PathBuf>,
    /// Commands that arguments of others are.
    arguments: BTreeSet<Vec<String>>,
    /// The same with what it was given.
    done_with: BTreeSet<(PathBuf, Vec<String>)>,
    /// Configurations that were read, and how deep in what includes them.
    configured: BTreeMap<PathBuf, usize>,
    /// What could not be known.
    pub(crate) notes: BTreeSet<String>,
    /// Directories that shell scripts speak of.
    entered: BTreeSet<PathBuf>,
    interpreters: BTreeMap<PathBuf, interpreter::Running>,
    /// By interpreter.
    said: BTreeMap<PathBuf, language::Said>,
    loader: search::Loader,
    linkages: HashMap<PathBuf, Option<Rc<Linkage>>>,
}

impl<'r> Closure<'r> {
    pub(crate) fn new(root: &'r Root, command: &Command, limits: &Limits) -> Result<Self, FilesError> {
        let loader = search::Loader::new(root, command)?;
        Ok(Self {
            root,
            command: command.clone(),
            limits: limits.clone(),
            members: BTreeMap::new(),
            programs: Vec::new(),
            queue: VecDeque::new(),
            done: BTreeSet::new(),
            arguments: BTreeSet::new(),
            done_with: BTreeSet::new(),
            configured: BTreeMap::new(),
            notes: BTreeSet::new(),
            entered: BTreeSet::new(),
            interpreters: BTreeMap::new(),
            said: BTreeMap::new(),
            loader,
            linkages: HashMap::new(),
        })
    }

    /// Where a command is, as execvp(3) looks for it.
    pub(crate) fn which(&self, name: &str) -> Result<Option<Found>, FilesError> {
        Ok(self.called(name)?.map(|(_, found)| found))
    }

    /// The same, and the path that it is called by: links on the way are not followed there.
    fn called(&self, name: &str) -> Result<Option<(PathBuf, Found)>, FilesError> {
        let executable = |found: &Found| matches!(found.kind, Kind::Regular { executable: true, .. });
        let cwd = Path::new(&self.command.cwd);
        let paths = match name.contains('/') {
            true => vec![cwd.join(name)],
            false => self.command.path.iter().map(|dir| cwd.join(dir).join(name)).collect(),
        };
        for path in paths {
            if let Some(found) = self.root.file(&path)?.filter(executable) {
                return Ok(Some((path, found)));
            }
        }
        Ok(None)
    }

    /// Adds the program that `argv` runs; whether it is there.
    pub(crate) fn add_command(
        &mut self,
        argv: &[String],
        by: Option<&Path>,
        because: &str,
    ) -> Result<bool, FilesError> {
        let Some(name) = argv.first() else { return Ok(false) };
        let Some(found) = self.which(name)? else { return Ok(false) };
        self.queue.push_back(Waiting {
            found,
            by: by.map(Path::to_owned),
            because: because.to_owned(),
            argv: argv.to_vec(),
            depth: 0,
        });
        Ok(true)
    }

    /// Follows everything that was added.
    pub(crate) fn settle(&mut self) -> Result<(), FilesError> {
        let mut entered = self.entered.clone();
        loop {
            while let Some(Waiting { found, by, because, argv, depth }) = self.queue.pop_front() {
                // Called by another name an interpreter has other extensions.
                let is_new = self.done.insert(found.path.clone());
                if !self.done_with.insert((found.path.clone(), argv.clone())) && !is_new {
                    continue;
                }
                self.member(&found.path, by.as_deref(), &because)?;
                self.program(&found, &argv, depth)?;
            }
            let fresh: Vec<PathBuf> = self.entered.difference(&entered).cloned().collect();
            if fresh.is_empty() {
                return Ok(());
            }
            self.extend_below(&fresh)?;
            entered.extend(fresh);
        }
    }

    pub(crate) fn member(&mut self, path: &Path, by: Option<&Path>, because: &str) -> Result<(), FilesError> {
        if self.members.len() >= self.limits.members_max {
            return Err(FilesError::TooMuch {
                what: "programs and libraries in one closure",
                limit: self.limits.members_max as u64,
            });
        }
        self.members.entry(path.to_owned()).or_insert_with(|| Member {
            path: path.to_owned(),
            needed_by: by.map(Path::to_owned),
            because: because.to_owned(),
        });
        Ok(())
    }

    fn program(&mut self, found: &Found, argv: &[String], depth: usize) -> Result<(), FilesError> {
        let head = self.root.head(found, 256)?;
        if head.starts_with(b"#!") {
            return self.script(found, &head, argv, depth);
        }
        if !head.starts_with(b"\x7fELF") {
            // execvp(3) hands what the kernel does not know to the shell.
            if self.add_command(&["/bin/sh".to_owned()], Some(&found.path), "runs files without #!")? {
                self.commands(found, argv)?;
            }
            return Ok(());
        }
        let bytes = self.root.read(found)?;
        match Elf::parse(&bytes) {
            Ok(elf) => {
                if !self.programs.iter().any(|program| program.path == found.path) {
                    let scope = self.load(&found.path, &elf)?;
                    self.programs.push(Program { path: found.path.clone(), scope });
                }
                self.shell(found, argv)?;
                self.interpreted(found, argv)?;
                self.arguments(found, argv)?;
                self.supervised(found, argv)
            }
            Err(error) => {
                self.notes.insert(format!("{} cannot run: {error}", found.path.display()));
                Ok(())
            }
        }
    }

    /// Programs that the arguments of a program name: small inits, env(1), setpriv(1), nice(1) and the like run them.
    fn arguments(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        for (at, word) in argv.iter().enumerate().skip(1) {
            if self.which(word)?.is_none() {
                continue;
            }
            let rest: Vec<String> = argv.iter().skip(at).take(ARGUMENTS_MAX).cloned().collect();
            if self.arguments.insert(rest.clone()) {
                // `env -C DIR PYTHONPATH=DIR python3`.
                let before = argv[1..at].iter().flat_map(|word| script::paths(word)).map(str::to_owned);
                self.enter(&Words { paths: before.collect(), ..Words::default() })?;
                self.add_command(&rest, Some(&found.path), "an argument that names a program")?;
            }
        }
        Ok(())
    }

    fn script(
        &mut self,
        found: &Found,
        head: &[u8],
        argv: &[String],
        depth: usize,
    ) -> Result<(), FilesError> {
        if depth >= SHEBANGS_MAX {
            self.notes.insert(format!("{} has too many interpreters in a row", found.path.display()));
            return Ok(());
        }
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let path = found.path.to_string_lossy().into_owned();
        let mut interpreter = words.clone();
        interpreter.push(path);
        interpreter.extend(argv.iter().skip(1).cloned());
        let because = format!("#! of {}", found.path.display());
        let Some(program) = words.first() else { return Ok(()) };
        match self.which(program)? {
            Some(file) => self.queue.push_back(Waiting {
                found: file,
                by: Some(found.path.clone()),
                because,
                argv: interpreter.clone(),
                depth: depth + 1,
            }),
            None => {
                self.notes.insert(format!(
                    "{}: its interpreter {program} is not in the image",
                    found.path.display()
                ));
            }
        }
        // env(1) looks the rest up.
        if program.ends_with("/env") {
            let rest: Vec<String> = interpreter
                .iter()
                .skip(1)
                .skip_while(|word| word.starts_with('-') || word.contains('='))
                .cloned()
                .collect();
            self.add_command(&rest, Some(&found.path), &format!("#! of {} by env", found.path.display()))?;
        }
        let shell = words.iter().any(|word| script::is_shell(word));
        if shell { self.commands(found, argv) } else { Ok(()) }
    }

    /// The script that a shell is given: as a file, or as a word.
    fn shell(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        match script::of_shell(&found.path, argv) {
            Some(Script::Text(text, rest)) => {
                if text.contains("$0") {
                    self.add_command(rest, Some(&found.path), "what the script calls itself, which it runs")?;
                }
                self.commands_of(text.as_bytes(), found, rest)
            }
            Some(Script::File(rest)) => {
                let path = Path::new(&self.command.cwd).join(&rest[0]);
                let Some(file) = self.root.file(&path)? else { return Ok(()) };
                self.member(&file.path, Some(&found.path), "the script of a shell")?;
                self.commands(&file, rest)
            }
            None => Ok(()),
        }
    }

    /// The commands of a shell script.
    fn commands(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        let text = self.root.read(found)?;
        self.commands_of(&text, found, argv)
    }

    fn commands_of(&mut self, text: &[u8], found: &Found, argv: &[String]) -> Result<(), FilesError> {
        let words = script::words(text);
        if words.runs_arguments {
            for at in 1..argv.len() {
                self.add_command(
                    &argv[at..],
                    Some(&found.path),
                    "an argument of the script, which runs its arguments",
                )?;
            }
        }
        let is_named = |name: &str| words.words.iter().any(|word| is_path_of(word, name));
        self.enter(&words)?;
        for word in words.words.iter().filter(|word| word.starts_with('/')) {
            self.private(word, &found.path, 0, &is_named)?;
        }
        for word in words.words {
            let because = format!("a word of the script {}", found.path.display());
            if let Some(program) = self.which(&word)? {
                self.queue.push_back(Waiting {
                    found: program,
                    by: Some(found.path.clone()),
                    because,
                    argv: vec![word],
                    depth: 0,
                });
            }
        }
        for sourced in words.sourced {
            let path = Path::new(&self.command.cwd).join(&sourced);
            if let Some(file) = self.root.file(&path)?
                && self.done.insert(file.path.clone())
            {
                self.member(&file.path, Some(&found.path), "a script that a script reads")?;
                self.commands(&file, &[])?;
            }
        }
        Ok(())
    }

    /// What the loader reads of the file at `path`; nothing where no ELF file of this machine is.
    fn linkage(&mut self, path: &Path) -> Result<Option<Rc<Linkage>>, FilesError> {
        if let Some(known) = self.linkages.get(path) {
            return Ok(known.clone());
        }
        let linkage = self.bytes_of(path)?.and_then(|bytes| Linkage::of(&bytes)).map(Rc::new);
        self.linkages.insert(path.to_owned(), linkage.clone());
        Ok(linkage)
    }

    pub(crate) fn bytes_of(&self, path: &Path) -> Result<Option<Rc<Vec<u8>>>, FilesError> {
        match self.root.file(path)? {
            Some(found) => self.root.read(&found).map(Some),
            None => Ok(None),
        }
    }
}

/// Whether a word is a name, or a path that ends with it.
fn is_path_of(word: &str, name: &str) -> bool {
    word.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}
