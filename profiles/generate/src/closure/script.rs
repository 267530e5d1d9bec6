//! Words of a shell script that may be commands: more than it runs, never fewer of those that it spells out.

use std::{collections::BTreeSet, path::Path};

/// Longest script that is looked at, in bytes.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: BTreeSet<String>,
    /// Scripts that it reads, or has a shell read.
    pub(super) sourced: BTreeSet<String>,
    /// Directories that it changes to.
    pub(super) entered: BTreeSet<String>,
    /// Absolute paths in its words, each alone: `A=/x:/y`, `-I/x`, `${A:-/x}`.
    pub(super) paths: BTreeSet<String>,
    /// `"$@"` and the like.
    pub(super) runs_arguments: bool,
}

pub(super) fn is_shell(interpreter: &str) -> bool {
    let name = interpreter.rsplit('/').next().unwrap_or_default();
    matches!(name, "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh" | "mksh" | "busybox")
}

/// What a shell is given to run, with what it hands on to that, its own name first.
pub(super) enum Script<'a> {
    Text(&'a str, &'a [String]),
    File(&'a [String]),
}

/// Nothing where the program is no shell, or reads its script from elsewhere.
pub(super) fn of_shell<'a>(program: &Path, argv: &'a [String]) -> Option<Script<'a>> {
    let is_one = |word: &String| is_shell(word);
    if !is_shell(&program.to_string_lossy()) && !argv.first().is_some_and(is_one) {
        return None;
    }
    // A program of many commands has the shell's name after its own.
    let own = argv.iter().take(2).take_while(|word| is_one(word)).count().max(1);
    let mut rest = argv.get(own..)?;
    let mut text = false;
    while let Some(option) = rest.first().filter(|word| word.starts_with(['-', '+']) && word.len() > 1) {
        let (long, value) = (option.starts_with("--"), option.ends_with(['o', 'O']));
        text |= !long && option.starts_with('-') && option.contains('c');
        let with_value = if long { matches!(&**option, "--rcfile" | "--init-file") } else { value };
        rest = rest.get(1 + usize::from(with_value)..)?;
    }
    match text {
        true => Some(Script::Text(rest.first()?, &rest[1..])),
        false => (!rest.is_empty()).then_some(Script::File(rest)),
    }
}

/// Every word outside of comments. A quoted text counts with its words: it may be handed to `sh -c`.
pub(super) fn words(script: &[u8]) -> Words {
    let script = String::from_utf8_lossy(&script[..script.len().min(SCRIPT_BYTES_MAX)]);
    let mut found = Words {
        runs_arguments: ["$@", "$*", "${@", "${*", "$1", "${1"].iter().any(|word| script.contains(word)),
        ..Words::default()
    };
    for line in script.lines() {
        let line = without_comment(line);
        let mut previous = "";
        for word in line.split(|c: char| c.is_whitespace() || ";|&(){}`\"'<>=$!,".contains(c)) {
            let word = word.trim_start_matches('\\');
            found.paths.extend(paths(word).map(str::to_owned));
            if word.is_empty() || word.starts_with('-') {
                continue;
            }
            if previous == "." || previous == "source" || is_shell(previous) {
                found.sourced.insert(word.to_owned());
            }
            if previous == "cd" || previous == "pushd" {
                found.entered.insert(word.to_owned());
            }
            found.words.insert(word.to_owned());
            previous = word;
        }
    }
    found
}

/// Absolute paths in a word: the whole of it, between `:` and `=`, behind an option's letter.
pub(super) fn paths(word: &str) -> impl Iterator<Item = &str> {
    word.split([':', '=']).chain([word]).filter_map(|part| {
        let value = part.strip_prefix(['-', '+', '?']).unwrap_or(part);
        let behind = value.strip_prefix(|c: char| value.len() < part.len() && c.is_ascii_alphabetic());
        [value, behind.unwrap_or(value)].into_iter().find(|path| path.starts_with('/'))
    })
}

fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    let (mut single, mut double) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '#' if !single && !double && before.is_whitespace() => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_substitutions_quotes_and_behind_assignments_are_words_and_comments_are_not() {
        let found = words(b"#!/bin/sh\nset -e # chown it\nA=$(id -u) exec gosu redis \"$@\"; sh -c 'find . | xargs rm'\n. /lib/lsb/init-functions\n");
        for word in ["id", "gosu", "find", "xargs", "rm", "sh", "exec"] {
            assert!(found.words.contains(word), "{word} of {found:?}");
        }
        assert!(!found.words.contains("chown"));
        assert!(found.runs_arguments);
        assert!(found.sourced.contains("/lib/lsb/init-functions"));
    }

    #[test]
    fn absolute_paths_are_found_alone_in_lists_in_defaults_and_behind_options() {
        let text = b"A=/a:/b:$A env -C/c --d=/d ${E:-/e} \"${F:=/f}\" x/y -- -I /i/j\n";
        let found: Vec<_> = words(text).paths.into_iter().collect();
        assert_eq!(found, ["/a", "/a:/b:", "/b", "/c", "/d", "/e", "/f", "/i/j"]);
    }

    #[test]
    fn a_number_sign_in_a_word_or_in_quotes_begins_no_comment() {
        assert!(words(b"a=${b#c} kill\n").words.contains("kill"));
        assert!(words(b"echo '# x' kill\n").words.contains("kill"));
    }
}
