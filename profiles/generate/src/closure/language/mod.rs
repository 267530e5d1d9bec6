//! Whether the scripts of an interpreter can ask for what only a word of theirs asks for.
//!
//! ```text
//! command's words, its script, all scripts beside it ─► names ─► scripts of the language's libraries ─► names …
//! ```
//! Invariant: a door stays open where a text that was looked at has its word, and where what runs is not in the image.
//! Assumed, and said in the profile's notes: code that comes at run time, or that a script puts together, has no word that
//! none of these texts has, and the name of a function that a script asks for is one of its words.

mod doors;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};

use doors::{Door, LANGUAGES, Language, WAYS, Way};

use super::Closure;
use crate::files::{FilesError, Found, Kind};

/// Longest script that is looked at, in bytes.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;
/// Deepest directory below one that is looked at.
const DEPTH_MAX: usize = 24;
/// Directories of the system's: a script that lies there has nothing beside it.
const SYSTEM: &[&str] =
    &["/", "/bin", "/sbin", "/usr", "/usr/bin", "/usr/sbin", "/usr/local", "/usr/local/bin", "/etc"];

/// What scripts have a file do that it does for nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It makes no call by a number that is not its own.
    NoNumber,
    /// It asks dlsym for no other names than these and its own constants.
    Names(Rc<BTreeSet<String>>),
}

/// What the scripts of one program say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Why some script cannot be looked at.
    unknown: Option<String>,
    /// Words that open something, and where they are.
    words: BTreeMap<&'static str, PathBuf>,
    /// All words that could be a function's name.
    identifiers: Rc<BTreeSet<String>>,
    seen: BTreeSet<PathBuf>,
}

impl Closure<'_> {
    /// Looks at what a command of an interpreter says.
    pub(super) fn listen(&mut self, found: &Found, name: &str, argv: &[String]) -> Result<(), FilesError> {
        let Some(language) = LANGUAGES.iter().find(|language| language.name == name) else { return Ok(()) };
        let mut said = self.said.remove(&found.path).unwrap_or_default();
        self.command_says(&mut said, language, argv)?;
        self.said.insert(found.path.clone(), said);
        Ok(())
    }

    fn command_says(&self, said: &mut Said, language: &Language, argv: &[String]) -> Result<(), FilesError> {
        let options = argv.iter().skip(1).take_while(|word| word.starts_with('-') && word.len() > 1);
        let inline = options.clone().any(|word| {
            let first = word.chars().find(|c| language.inline.contains(c) || language.valued.contains(c));
            first.is_some_and(|c| language.inline.contains(&c)) && !word.starts_with("--")
        });
        let mut waiting = VecDeque::new();
        // Who names something, and what.
        let mut names: BTreeSet<(PathBuf, String)> = BTreeSet::new();
        let nobody = Path::new("/");
        let mut name = |by: &Path, more: BTreeSet<String>| {
            names.extend(more.into_iter().map(|name| (by.to_owned(), name)));
        };
        name(nobody, language.prelude.iter().map(|name| (*name).to_owned()).collect());
        for word in argv.iter().skip(1) {
            said.hear(language, Path::new("(the command)"), word);
            name(nobody, text::names(language.name, word));
            waiting.extend(self.root.file(&Path::new(&self.command.cwd).join(word))?);
        }
        if !inline {
            let script = argv.iter().skip(1 + options.count()).find(|word| *word != "--");
            let file = match script {
                Some(script) => self.root.file(&Path::new(&self.command.cwd).join(script))?,
                None => None,
            };
            match (file, script) {
                (Some(file), _) => {
                    if let Some(directory) = beside(&file.path) {
                        self.scripts_below(language, directory, &mut waiting)?;
                    }
                }
                (None, Some(script)) => {
                    said.unknown.get_or_insert(format!("{script} is not in the image"));
                }
                (None, None) => {
                    said.unknown.get_or_insert("its script comes at run time".to_owned());
                }
            }
        }
        if !is_of_the_system(Path::new(&self.command.cwd)) {
            self.scripts_below(language, Path::new(&self.command.cwd), &mut waiting)?;
        }
        let libraries = self.libraries(language)?;
        if language.all {
            waiting.extend(libraries.values().flatten().cloned());
        }
        loop {
            for (by, name) in std::mem::take(&mut names) {
                let name = Path::new(&name);
                let Some(stem) = name.file_name() else { continue };
                let named = libraries.get(&*stem.to_string_lossy()).into_iter().flatten();
                waiting.extend(named.filter(|file| is_named(&file.path, &by, name)).cloned());
            }
            if waiting.is_empty() {
                return Ok(());
            }
            while let Some(file) = waiting.pop_front() {
                if said.seen.insert(file.path.clone()) {
                    let more = self.script_says(said, language, &file)?;
                    names.extend(more.into_iter().map(|name| (file.path.clone(), name)));
                }
            }
        }
    }

    /// Hears a script; the names that it has.
    fn script_says(
        &self,
        said: &mut Said,
        language: &Language,
        file: &Found,
    ) -> Result<BTreeSet<String>, FilesError> {
        if !matches!(file.kind, Kind::Regular { bytes, .. } if bytes <= SCRIPT_BYTES_MAX) {
            said.unknown.get_or_insert(format!("{} is too long to be looked at", file.path.display()));
            return Ok(BTreeSet::new());
        }
        let bytes = self.root.head(file, SCRIPT_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        if !language.about.iter().any(|about| file.path.ends_with(about)) {
            said.hear(language, &file.path, &text);
        }
        Ok(text::names(language.name, &text))
    }

    /// The scripts of a language's libraries, by name without suffix.
    fn libraries(&self, language: &Language) -> Result<BTreeMap<String, Vec<Found>>, FilesError> {
        let mut files = VecDeque::new();
        for beginning in language.libraries {
            let Some(parent) = Path::new(beginning).parent() else { continue };
            for directory in self.root.list(parent)? {
                if directory.to_string_lossy().starts_with(beginning) {
                    self.scripts_below(language, &directory, &mut files)?;
                }
            }
        }
        let variable = match language.name {
            "perl" => "PERL5LIB",
            "ruby" => "RUBYLIB",
            _ => "PHP_INI_SCAN_DIR",
        };
        if let Some(more) = self.command.loader_environment.get(variable) {
            for directory in more.split(':').filter(|directory| directory.starts_with('/')) {
                self.scripts_below(language, Path::new(directory), &mut files)?;
            }
        }
        let mut libraries: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for file in files {
            let stem = file.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            libraries.entry(stem.unwrap_or_default()).or_default().push(file);
        }
        Ok(libraries)
    }

    /// All scripts below a directory: by their suffix, or by a first line that says so.
    fn scripts_below(
        &self,
        language: &Language,
        directory: &Path,
        files: &mut VecDeque<Found>,
    ) -> Result<(), FilesError> {
        let mut queue = VecDeque::from([(directory.to_owned(), 0)]);
        while let Some((directory, depth)) = queue.pop_front() {
            for path in self.root.list(&directory)? {
                let Some(found) = self.root.find(&path)? else { continue };
                let suffix = path.extension().map(|suffix| suffix.to_string_lossy().into_owned());
                match found.kind {
                    Kind::Directory if depth < DEPTH_MAX && found.path == path => {
                        queue.push_back((path, depth + 1));
                    }
                    Kind::Regular { .. } => {
                        let named = suffix.as_deref().is_some_and(|it| language.suffixes.contains(&it));
                        if named || suffix.is_none() && self.root.head(&found, 2)? == b"#!" {
                            files.push_back(found);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What the scripts of `program` have the files of its scope do, and what that rests on.
    pub(crate) fn said_in(&self, program: &Path, files: &[PathBuf]) -> (Vec<(usize, Asked)>, Vec<String>) {
        let mut notes = Vec::new();
        let Some(said) = self.said.get(program) else { return (Vec::new(), notes) };
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let ways = WAYS.iter().filter(|way| name.starts_with(way.language));
        let mut asked = Vec::new();
        for Way { language: _, file, door, word } in ways {
            let of = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(file))
            };
            let here: Vec<_> =
                files.iter().enumerate().filter(|(_, path)| of(path)).map(|(at, _)| at).collect();
            if here.is_empty() {
                continue;
            }
            let opened = word.and_then(|word| said.words.get(word).map(|at| (word, at)));
            let what = match (door, word, &said.unknown, opened) {
                (_, Some(_), Some(why), _) => {
                    notes.push(format!("{}: its scripts are not known: {why}", program.display()));
                    continue;
                }
                (Door::Number, _, _, Some((word, at))) => {
                    let at = at.display();
                    notes.push(format!("{}: {at} has the word {word}", program.display()));
                    continue;
                }
                (Door::Name, _, _, Some(_)) => Asked::Names(Rc::clone(&said.identifiers)),
                (Door::Number, _, _, None) => Asked::NoNumber,
                (Door::Name, _, _, None) => Asked::Names(Rc::default()),
            };
            if let Some(word) = word {
                let opened = opened.map_or_else(
                    || format!("no code of run time has the word {word}"),
                    |(word, at)| format!("what {} asks for by {word} is a word of a script", at.display()),
                );
                let count = said.seen.len();
                notes
                    .push(format!("{}: assumed that {opened}; {count} scripts were read", program.display()));
            }
            asked.extend(here.into_iter().map(|at| (at, what.clone())));
        }
        (asked, notes)
    }
}

impl Said {
    fn hear(&mut self, language: &Language, at: &Path, text: &str) {
        let identifiers = Rc::make_mut(&mut self.identifiers);
        text::identifiers(language.name, text, identifiers);
        for way in WAYS.iter().filter(|way| way.language == language.name) {
            if let Some(word) = way.word
                && !self.words.contains_key(word)
                && text::has_word(language.name, text, word)
            {
                self.words.insert(word, at.to_owned());
            }
        }
    }
}

/// Whether `name` is what the script `by` may load `file` by: from where the language looks, or from beside itself.
fn is_named(file: &Path, by: &Path, name: &Path) -> bool {
    let stem = file.with_extension("");
    let mut above = stem.ancestors().skip(name.components().count());
    let Some(root) = above.next().filter(|_| stem.ends_with(name)) else { return false };
    let last = root.file_name().map(|last| last.to_string_lossy().into_owned()).unwrap_or_default();
    let searched =
        ["lib", "perl", "perl5", "perl-base", "site_perl", "vendor_perl", "vendor_ruby", "site_ruby"];
    let is_searched = |last: &str| {
        searched.contains(&last) || last.starts_with(|c: char| c.is_ascii_digit()) || last.contains("linux")
    };
    is_searched(&last) || by.ancestors().skip(1).any(|directory| directory == root)
}

/// Whether a directory belongs to no one application. Trailing slashes do not count.
pub(super) fn is_of_the_system(directory: &Path) -> bool {
    SYSTEM.iter().any(|system| directory == Path::new(system))
}

/// Directories whose scripts belong to the one at `script`.
pub(super) fn beside(script: &Path) -> Option<&Path> {
    let directory = script.parent()?;
    if is_of_the_system(directory) {
        return None;
    }
    // Its libraries are in lib, next to bin.
    let up = directory.parent().filter(|_| directory.ends_with("bin") || directory.ends_with("exe"));
    Some(up.filter(|up| !is_of_the_system(up)).unwrap_or(directory))
}
