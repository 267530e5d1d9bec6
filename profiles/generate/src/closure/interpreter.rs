//! Programs that run other languages, and where those keep native code.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use super::Closure;
use crate::files::{FilesError, Found, Kind};

/// Name of a program (versions cut off), directories below which its native extensions are, and the variable that
/// adds to them.
const INTERPRETERS: &[(&str, &[&str], &str)] = &[
    ("python", &["/usr/lib/python3", "/usr/local/lib", "/usr/lib"], "PYTHONPATH"),
    (
        "perl",
        &[
            "/usr/lib/x86_64-linux-gnu/perl",
            "/usr/lib/x86_64-linux-gnu/perl-base",
            "/usr/lib/x86_64-linux-gnu/perl5",
            "/usr/local/lib/x86_64-linux-gnu/perl",
        ],
        "PERL5LIB",
    ),
    (
        "ruby",
        &[
            "/usr/lib/x86_64-linux-gnu/ruby",
            "/usr/lib/ruby",
            "/var/lib/gems",
            "/usr/local/lib/ruby",
            "/usr/local/bundle",
        ],
        "RUBYLIB",
    ),
    ("php", &["/usr/lib/php", "/usr/local/lib/php/extensions"], "PHP_INI_SCAN_DIR"),
    (
        "node",
        &[
            "/usr/lib/node_modules",
            "/usr/local/lib/node_modules",
            "/usr/share/nodejs",
            "/usr/lib/x86_64-linux-gnu/nodejs",
        ],
        "NODE_PATH",
    ),
    ("java", &["/usr/lib/jvm", "/opt/java"], "JAVA_HOME"),
    ("lua", LUA, "LUA_CPATH"),
    ("luajit", LUA, "LUA_CPATH"),
    ("tclsh", &["/usr/lib/tcltk", "/usr/lib/x86_64-linux-gnu/tcltk", "/usr/local/lib/tcltk"], "TCLLIBPATH"),
    ("R", &["/usr/lib/R", "/usr/local/lib/R"], "R_LIBS"),
    ("beam.smp", &["/usr/lib/erlang", "/usr/local/lib/erlang"], "ERL_LIBS"),
    ("guile", &["/usr/lib/x86_64-linux-gnu/guile", "/usr/local/lib/guile"], "GUILE_SYSTEM_EXTENSIONS_PATH"),
];

/// Source: luaconf.h, `LUA_CPATH_DEFAULT`, as Debian and the project itself build it.
const LUA: &[&str] = &["/usr/lib/x86_64-linux-gnu/lua", "/usr/lib/lua", "/usr/local/lib/lua"];

/// Deepest directory below one of these.
const DEPTH_MAX: usize = 8;

impl Closure<'_> {
    /// Native extensions, if this program is an interpreter: all that are installed, and those beside its script.
    pub(super) fn interpreted(&mut self, found: &Found, argv: &[String]) -> Result<(), FilesError> {
        let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let Some((_, directories, variable)) =
            INTERPRETERS.iter().find(|(interpreter, _, _)| *interpreter == plain)
        else {
            return Ok(());
        };
        let mut places: Vec<PathBuf> = Vec::new();
        for directory in *directories {
            let directory = Path::new(directory);
            let (Some(parent), Some(stem)) = (directory.parent(), directory.file_name()) else { continue };
            // python3.11 and perl5.36 have their version in their directory's name.
            let stem = stem.to_string_lossy().into_owned();
            let versioned = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem))
            };
            places.extend(
                self.root
                    .list(parent)?
                    .into_iter()
                    .filter(versioned)
                    .filter(|path| plain != "python" || path.to_string_lossy().contains("python")),
            );
        }
        if plain == "python" {
            let local = self.root.list(Path::new("/usr/local/lib"))?;
            places.extend(local.into_iter().filter(|path| path.to_string_lossy().contains("/python")));
        }
        if let Some(more) = self.command.loader_environment.get(*variable) {
            places.extend(more.split(':').filter(|dir| dir.starts_with('/')).map(PathBuf::from));
        }
        let script = argv.iter().skip(1).find(|word| !word.starts_with('-'));
        if let Some(script) = script {
            let path = Path::new(&self.command.cwd).join(script);
            if let Some(file) = self.root.file(&path)?
                && let Some(directory) =
                    file.path.parent().filter(|directory| directory.components().count() > 2)
            {
                places.push(directory.to_owned());
            }
        }
        let mut files = Vec::new();
        let mut queue: VecDeque<(PathBuf, usize)> = places.into_iter().map(|place| (place, 0)).collect();
        while let Some((place, depth)) = queue.pop_front() {
            for path in self.root.list(&place)? {
                let shared = path.to_string_lossy().contains(".so");
                let Some(at) = self.root.find(&path)? else { continue };
                match at.kind {
                    Kind::Directory if depth < DEPTH_MAX && at.path == path => {
                        queue.push_back((path, depth + 1))
                    }
                    Kind::Regular { .. } if shared => files.push(at.path),
                    _ => {}
                }
            }
        }
        self.notes.insert(format!(
            "{} runs what its script says; all its native extensions are taken in",
            found.path.display()
        ));
        self.add_libraries(&found.path, &files, &format!("a native extension of {plain}"))?;
        self.listen(found, plain, argv)
    }
}
