//! Programs that run other languages, and where those keep native code.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::Closure;
use crate::files::{FilesError, Found, Kind};

/// A language whose programs load native code that only their scripts name.
#[derive(Debug)]
pub(super) struct Interpreter {
    /// Of the program, versions cut off.
    names: &'static [&'static str],
    /// Beginning of the name of the library that a program has in which the language is embedded (uwsgi).
    embedded: Option<&'static str>,
    /// Beginnings of directories below which native extensions are, of Debian and of what is built from source. Those below
    /// /usr are looked for below each other prefix as well that the program is called from.
    pub(super) directories: &'static [&'static str],
    /// The variable that adds to them.
    pub(super) variable: &'static str,
    /// A directory of packages that scripts look for in each directory above their own.
    pub(super) above: Option<&'static str>,
}

/// Source of the names of PHP's: sapi/*/config.m4; of what node looks for: its modules.md, "Loading from `node_modules`
/// folders".
const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python"],
        embedded: Some("libpython"),
        directories: &["/usr/lib/python", "/usr/lib64/python", "/usr/local/lib/python"],
        variable: "PYTHONPATH",
        above: None,
    },
    Interpreter {
        names: &["perl"],
        embedded: Some("libperl.so"),
        directories: &[
            "/usr/lib/x86_64-linux-gnu/perl",
            "/usr/lib/perl",
            "/usr/local/lib/perl",
            "/usr/local/lib/x86_64-linux-gnu/perl",
        ],
        variable: "PERL5LIB",
        above: None,
    },
    Interpreter {
        names: &["ruby"],
        embedded: Some("libruby"),
        directories: &[
            "/usr/lib/x86_64-linux-gnu/ruby",
            "/usr/lib/ruby",
            "/var/lib/gems",
            "/usr/local/lib/ruby",
            "/usr/local/bundle",
        ],
        variable: "RUBYLIB",
        above: None,
    },
    Interpreter {
        names: &["php", "php-fpm", "php-cgi", "phpdbg"],
        embedded: Some("libphp"),
        directories: &["/usr/lib/php", "/usr/local/lib/php/extensions"],
        variable: "PHP_INI_SCAN_DIR",
        above: None,
    },
    Interpreter {
        names: &["node"],
        embedded: Some("libnode.so"),
        directories: &[
            "/usr/lib/node_modules",
            "/usr/local/lib/node_modules",
            "/usr/share/nodejs",
            "/usr/lib/x86_64-linux-gnu/nodejs",
        ],
        variable: "NODE_PATH",
        above: Some("node_modules"),
    },
    // What lies beside a runtime's programs in its lib is its own; jlink(1) puts one anywhere.
    Interpreter {
        names: &["java"],
        // What starts the machine for javac, keytool and the others of a JDK.
        embedded: Some("libjli.so"),
        directories: &["/usr/lib/jvm", "/opt/java"],
        variable: "JAVA_HOME",
        above: None,
    },
    Interpreter {
        names: &["lua", "luajit"],
        embedded: None,
        directories: LUA,
        variable: "LUA_CPATH",
        above: None,
    },
    Interpreter {
        names: &["tclsh"],
        embedded: None,
        directories: &["/usr/lib/tcltk", "/usr/lib/x86_64-linux-gnu/tcltk", "/usr/local/lib/tcltk"],
        variable: "TCLLIBPATH",
        above: None,
    },
    Interpreter {
        names: &["R"],
        embedded: None,
        directories: &["/usr/lib/R", "/usr/local/lib/R"],
        variable: "R_LIBS",
        above: None,
    },
    Interpreter {
        names: &["beam.smp"],
        embedded: None,
        directories: &["/usr/lib/erlang", "/usr/local/lib/erlang"],
        variable: "ERL_LIBS",
        above: None,
    },
    Interpreter {
        names: &["guile"],
        embedded: None,
        directories: &["/usr/lib/x86_64-linux-gnu/guile", "/usr/local/lib/guile"],
        variable: "GUILE_SYSTEM_EXTENSIONS_PATH",
        above: None,
    },
];

/// Source: luaconf.h, `LUA_CPATH_DEFAULT`, as Debian and the project itself build it.
const LUA: &[&str] = &["/usr/lib/x86_64-linux-gnu/lua", "/usr/lib/lua", "/usr/local/lib/lua"];

/// Deepest directory that is looked at, by its names from the root on. pnpm puts packages in each other's.
const DEPTH_MAX: usize = 32;

/// A program that is one, and where its extensions were looked for.
#[derive(Debug)]
pub(super) struct Running {
    of: &'static Interpreter,
    places: BTreeSet<PathBuf>,
    /// The places and what lies below them: none is listed again.
    walked: BTreeSet<PathBuf>,
}

impl Closure<'_> {
    /// Native extensions, if this program is an interpreter: all that are installed, and those of its script.
    pub(super) fn interpreted(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        let name = file_name(&found.path);
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let scope = self.programs.iter().find(|program| program.path == found.path).map(|it| &it.scope.files);
        let has =
            |library: &str| scope.into_iter().flatten().any(|file| file_name(file).starts_with(library));
        let Some(interpreter) = INTERPRETERS
            .iter()
            .find(|interpreter| interpreter.names.contains(&plain) || interpreter.embedded.is_some_and(has))
        else {
            return Ok(());
        };
        let places = self.places(interpreter, argv)?;
        self.extend_in(&found.path, interpreter, places)?;
        self.notes.insert(format!(
            "{} runs what its script says; all its native extensions are taken in",
            found.path.display()
        ));
        if interpreter.names.contains(&plain) { self.listen(found, plain, argv) } else { Ok(()) }
    }

    /// Native extensions of all interpreters below the directories that scripts came to speak of.
    pub(super) fn extend_below(&mut self, directories: &[PathBuf]) -> Result<(), FilesError> {
        let running: Vec<_> = self.interpreters.iter().map(|(path, it)| (path.clone(), it.of)).collect();
        for (program, of) in running {
            let places = self.around(of, directories.iter().cloned())?;
            self.extend_in(&program, of, places)?;
        }
        Ok(())
    }

    /// Adds the extensions in places where none were looked for.
    fn extend_in(
        &mut self,
        program: &Path,
        of: &'static Interpreter,
        mut places: BTreeSet<PathBuf>,
    ) -> Result<(), FilesError> {
        let Running { of: _, places: mut known, mut walked } = self
            .interpreters
            .remove(program)
            .unwrap_or_else(|| Running { of, places: BTreeSet::new(), walked: BTreeSet::new() });
        places.retain(|place| !known.contains(place));
        let told = if of.variable == "PYTHONPATH" { self.told_by_paths(&places)? } else { BTreeSet::new() };
        let mut queue: VecDeque<_> = places.iter().cloned().chain(told).collect();
        known.append(&mut places);
        let mut files = Vec::new();
        while let Some(place) = queue.pop_front() {
            if !walked.insert(place.clone()) {
                continue;
            }
            for path in self.root.list(&place)? {
                let Some(at) = self.root.find(&path)? else { continue };
                match at.kind {
                    Kind::Directory if path.components().count() <= DEPTH_MAX && at.path == path => {
                        queue.push_back(path);
                    }
                    Kind::Regular { .. } if is_extension(&path) => files.push(at.path),
                    _ => {}
                }
            }
        }
        self.interpreters.insert(program.to_owned(), Running { of, places: known, walked });
        self.add_libraries(program, &files, &format!("a native extension of {}", of.names[0]))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether it may be code that a script loads. Source: node's addons.md, "`.node` extension".
pub(crate) fn is_extension(path: &Path) -> bool {
    let name = file_name(path);
    name.contains(".so") || name.ends_with(".node")
}
