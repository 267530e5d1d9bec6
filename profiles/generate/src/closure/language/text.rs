//! Words of a script, and what it may load by them.

use std::{borrow::Cow, collections::BTreeSet};

/// Whether a text has a word, given in small letters: more often than it uses it, never where it spells it out and this
/// does not see it. What is only commentary is left out.
pub(super) fn has_word(language: &str, text: &str, word: &str) -> bool {
    let ends = |c: Option<char>| !c.is_some_and(is_letter);
    code(language, text).iter().any(|line| {
        let line: Cow<'_, str> = match language {
            "perl" => Cow::Borrowed(line),
            _ => Cow::Owned(line.to_ascii_lowercase()),
        };
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
            // Ruby calls a method without arguments there, which this one refuses.
            let within_a_name = language == "ruby" && before == Some('-') && after == Some('-');
            ends(before) && ends(after) && !within_a_name
        })
    })
}

/// Adds the words that could be a function's name. What has hyphens on both sides is part of another name.
pub(super) fn identifiers(language: &str, text: &str, found: &mut BTreeSet<String>) {
    for line in code(language, text) {
        for words in line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))) {
            let parts = words.split('-').count();
            for (at, word) in words.split('-').enumerate() {
                let is_name = word.len() > 1 && !word.starts_with(|c: char| c.is_ascii_digit());
                if is_name && (at == 0 || at + 1 == parts) && !found.contains(word) {
                    found.insert(word.to_owned());
                }
            }
        }
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The lines that are not commentary from end to end.
fn code<'t>(language: &str, text: &'t str) -> Vec<&'t str> {
    let mut within = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let commentary = match language {
            "perl" => {
                line.strip_prefix('=').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
            }
            "ruby" => line.starts_with("=begin"),
            _ => false,
        };
        if within {
            within = !(line.starts_with("=cut") || line.starts_with("=end"));
            continue;
        }
        if commentary {
            within = !line.starts_with("=cut");
            continue;
        }
        if language != "php" && matches!(line.trim_end(), "__END__" | "__DATA__") {
            // What follows is data; a library may be loaded from there piece by piece, which then is a file of its own.
            break;
        }
        if language != "php" && line.trim_start().starts_with('#') {
            continue;
        }
        lines.push(line);
    }
    lines
}

/// Paths, without suffix, of what a script may load: each of its words that could name a file.
pub(super) fn names(language: &str, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code(language, text) {
        match language {
            "perl" => perl_names(line, &mut found),
            "ruby" => ruby_names(line, &mut found),
            _ => {}
        }
    }
    found
}

fn perl_names(line: &str, found: &mut BTreeSet<String>) {
    let mut before = "";
    for word in line.split(|c: char| !(is_letter(c) || "/.:-".contains(c))) {
        let word = word.trim_matches(|c| "/.:-".contains(c));
        if word.is_empty() {
            continue;
        }
        // -MModule, and clusters that end so.
        let module = word.find(['M', 'm']).filter(|_| before.is_empty()).map(|at| &word[at + 1..]);
        for word in [Some(word), module].into_iter().flatten() {
            let asked = matches!(before, "use" | "no" | "require" | "base" | "parent" | "do");
            if word.contains("::") || word.contains('/') || asked || word.starts_with(char::is_uppercase) {
                let path = word.replace("::", "/");
                found.insert(path.rsplit_once('.').map_or(path.clone(), |(stem, _)| stem.to_owned()));
            }
        }
        before = word;
    }
}

fn ruby_names(line: &str, found: &mut BTreeSet<String>) {
    let loads = ["require", "load", "gem"].iter().any(|word| line.contains(word));
    for word in line.split(|c: char| !(is_letter(c) || "/.:-".contains(c))) {
        let path = word.trim_matches(|c| "/.:-".contains(c));
        let path = path.strip_suffix(".rb").unwrap_or(path);
        if path.is_empty() {
            continue;
        }
        // A word is just a word where nothing on its line loads.
        if loads || path.contains('/') {
            found.insert(path.to_owned());
        }
        // -rlibrary.
        found.extend(word.strip_prefix("-r").map(str::to_owned));
        if path.starts_with(char::is_uppercase) {
            // What follows the constant is its method.
            found.insert(snake(path.split('.').next().unwrap_or(path)));
        }
    }
}

/// As the loaders of Rails and others find a constant: `Net::HTTPServer` is net/http_server.
fn snake(constant: &str) -> String {
    let letters: Vec<char> = constant.replace("::", "/").chars().collect();
    let mut path = String::new();
    for (at, c) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || before.is_uppercase() && after.is_some_and(|after| after.is_lowercase())
            });
        if begins {
            path.push('_');
        }
        path.extend(c.to_lowercase());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_in_code_and_in_texts_and_not_in_commentary_or_in_longer_words() {
        for code in [
            "syscall(39);",
            "&CORE::syscall(39)",
            "x('syscall')",
            "1;\n=pod\n\nx\n\n=cut\nsyscall 1",
            "a # b\nsyscall 1",
        ] {
            assert!(has_word("perl", code, "syscall"), "{code}");
        }
        for code in [
            "sub pp_syscall {}",
            "# syscall",
            "=pod\n\nsyscall\n\n=cut\n1",
            "1;\n__END__\nsyscall",
            "syscalls()",
        ] {
            assert!(!has_word("perl", code, "syscall"), "{code}");
        }
        assert!(has_word("ruby", "send(:syscall, 39)", "syscall"));
        assert!(!has_word("ruby", "%w(Linux-syscall-note)", "syscall"));
        assert!(has_word("php", "$x = FFI::cdef('int f();');", "ffi"));
        assert!(!has_word("php", "$buffi = 1;", "ffi"));
    }

    #[test]
    fn what_a_script_loads_is_among_its_names() {
        let perl = "use POSIX qw(x);\nuse parent -norequire, 'A::B';\nrequire \"sys/syscall.ph\"; my $c = 'Sys::Hostname';";
        let found = names("perl", perl);
        for name in ["POSIX", "A/B", "sys/syscall", "Sys/Hostname"] {
            assert!(found.contains(name), "{name} of {found:?}");
        }
        assert!(names("perl", "-MSys::Hostname").contains("Sys/Hostname"));
        let found =
            names("ruby", "require 'net/http'\nautoload :X, \"json/add/core.rb\"\nNet::HTTPServer.new");
        for name in ["net/http", "json/add/core", "net/http_server"] {
            assert!(found.contains(name), "{name} of {found:?}");
        }
    }
}
