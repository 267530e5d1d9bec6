//! What an interpreter does only where a script has a certain word: calls by number, and functions by a name of the
//! script's own.
//!
//! By the interpreters' sources these are all that make such a call with what is not a constant. One that is missing here
//! stays unresolved, and has the baseline.

/// What a script that has the word can have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    /// syscall(3) with a number of the script's.
    Number,
    /// dlsym(3) with a name of the script's.
    Name,
}

/// A door of a language.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) language: &'static str,
    /// Beginning of the name of the file whose code it is: the program's own, or a library's.
    pub(super) file: &'static str,
    pub(super) door: Door,
    /// In small letters; nothing where no script opens it.
    pub(super) word: Option<&'static str>,
}

/// Source, in their order:
/// - perl 5.36 pp_sys.c, `PP(pp_syscall)`, which only the word of toke.c compiles to; ext/DynaLoader/dl_dlopen.xs,
///   `dl_find_symbol`, which DynaLoader.pm and XSLoader.pm ask for `boot_…` of the file that they have just loaded;
/// - ruby 3.1 io.c, `rb_f_syscall`; dln.c, `dln_load`, which asks for `Init_…` of the file that it has just loaded;
///   ext/fiddle/handle.c, `fiddle_handle_sym`;
/// - PHP 8.2 ext/ffi/ffi.c, `DL_FETCH_SYMBOL`, of the class FFI alone; ext/sqlite3/sqlite3.c, which alone lets SQLite load
///   extensions, for the time of `loadExtension`; SQLite 3.40 src/loadext.c, `sqlite3LoadExtension`.
pub(super) const WAYS: &[Way] = &[
    Way { language: "perl", file: "perl", door: Door::Number, word: Some("syscall") },
    Way { language: "perl", file: "libperl.so", door: Door::Number, word: Some("syscall") },
    Way { language: "perl", file: "perl", door: Door::Name, word: Some("dl_find_symbol") },
    Way { language: "perl", file: "libperl.so", door: Door::Name, word: Some("dl_find_symbol") },
    Way { language: "ruby", file: "ruby", door: Door::Number, word: Some("syscall") },
    Way { language: "ruby", file: "libruby", door: Door::Number, word: Some("syscall") },
    Way { language: "ruby", file: "ruby", door: Door::Name, word: None },
    Way { language: "ruby", file: "libruby", door: Door::Name, word: None },
    Way { language: "ruby", file: "fiddle.so", door: Door::Name, word: Some("fiddle") },
    Way { language: "php", file: "ffi.so", door: Door::Name, word: Some("ffi") },
    Way { language: "php", file: "libsqlite3.so.0", door: Door::Name, word: Some("loadextension") },
];

/// Where a language keeps its scripts, and what they are called.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) name: &'static str,
    /// Options that a script's text follows, as the letter that may end a cluster of them.
    pub(super) inline: &'static [char],
    /// Options whose value may follow in the same word.
    pub(super) valued: &'static [char],
    pub(super) suffixes: &'static [&'static str],
    /// Beginnings of directories, of which all scripts are looked at that another one names.
    pub(super) libraries: &'static [&'static str],
    /// Scripts that run before any other.
    pub(super) prelude: &'static [&'static str],
    /// Libraries that have a word because they are what it is about: of them it says nothing.
    pub(super) about: &'static [&'static str],
    /// All of the libraries are looked at: what a script loads is found by rules of its own.
    pub(super) all: bool,
}

pub(super) const LANGUAGES: &[Language] = &[
    Language {
        name: "perl",
        inline: &['e', 'E'],
        valued: &['M', 'm', 'I', 'i', 'x', 'F', 'C', 'D', 'V', 'd'],
        suffixes: &["pm", "pl", "ph", "al", "PL"],
        libraries: &[
            "/etc/perl",
            "/usr/share/perl",
            "/usr/lib/perl",
            "/usr/lib/x86_64-linux-gnu/perl",
            "/usr/local/share/perl",
            "/usr/local/lib/perl",
            "/usr/local/lib/site_perl",
            "/usr/local/lib/x86_64-linux-gnu/perl",
        ],
        prelude: &[],
        about: &["DynaLoader.pm", "XSLoader.pm"],
        all: false,
    },
    Language {
        name: "ruby",
        inline: &['e'],
        valued: &['r', 'I', 'C', 'X', 'E', 'F', 'K', 'T', 'W', 'i', 'x'],
        suffixes: &["rb", "ru", "rake", "gemspec"],
        libraries: &[
            "/usr/lib/ruby",
            "/usr/lib/x86_64-linux-gnu/ruby",
            "/usr/local/lib/ruby",
            "/usr/local/lib/site_ruby",
            "/usr/local/bundle",
            "/usr/share/ruby",
            "/var/lib/gems",
        ],
        // Source: ruby 3.1 gem_prelude.rb.
        prelude: &["rubygems", "error_highlight", "did_you_mean", "syntax_suggest/core_ext", "rbconfig"],
        about: &[],
        all: false,
    },
    Language {
        name: "php",
        inline: &['r'],
        valued: &['d', 'c', 'f', 'z', 't', 'S', 'B', 'R', 'F', 'E'],
        suffixes: &["php", "inc", "phtml", "phar", "module", "php5", "php7", "php8"],
        libraries: &["/usr/share/php", "/usr/local/lib/php"],
        prelude: &[],
        about: &[],
        all: true,
    },
];
