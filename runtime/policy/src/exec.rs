//! Patterns of argv that may be exec'd, each with or without standard input and a terminal: from text, and what two lists
//! of them have in common.

use bulkhead_model::{ExecPattern, Interaction};

/// Why a text is no pattern: what is wrong, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatternError {
    pub(crate) what: &'static str,
    pub(crate) fix: &'static str,
}

const EMPTY: PatternError = PatternError {
    what: "an exec pattern without a word",
    fix: "write a command such as \"/bin/true\", or \"*\" for any command",
};

/// A pattern from words: each is literal, `*` as the last stands for any rest.
pub(crate) fn from_words(mut words: Vec<String>) -> Result<ExecPattern, PatternError> {
    let open_end = words.last().is_some_and(|word| word == "*");
    if open_end {
        words.pop();
    }
    if words.is_empty() && !open_end {
        return Err(EMPTY);
    }
    Ok(plain(words, open_end))
}

/// A pattern that says no more than its words: every command comes as it likes, any other alone.
fn plain(words: Vec<String>, open_end: bool) -> ExecPattern {
    let interaction = if words.is_empty() { Interaction::ALL } else { Interaction::default() };
    ExecPattern { words, open_end, interaction }
}

/// A pattern from one text, split into words as a shell would: blanks separate, quotes and backslash keep together.
/// Nothing is expanded.
pub(crate) fn from_text(text: &str) -> Result<ExecPattern, PatternError> {
    let mut words: Vec<(String, bool)> = Vec::new();
    // The word being read, and whether it is a bare `*`.
    let mut word: Option<(String, bool)> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let (word, star) = word.get_or_insert_default();
                if *star {
                    return Err(STAR);
                }
                loop {
                    match chars.next() {
                        None => return Err(UNCLOSED),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.push(chars.next().ok_or(UNCLOSED)?),
                        Some(inside) => word.push(inside),
                    }
                }
            }
            '\\' => {
                let (word, star) = word.get_or_insert_default();
                if *star {
                    return Err(STAR);
                }
                word.push(chars.next().ok_or(UNCLOSED)?);
            }
            '*' => match &mut word {
                Some(_) => return Err(STAR),
                None => word = Some(("*".to_owned(), true)),
            },
            c if c.is_control() => return Err(CONTROL),
            c => {
                let (word, star) = word.get_or_insert_default();
                if *star {
                    return Err(STAR);
                }
                word.push(c);
            }
        }
    }
    words.extend(word);
    let open_end = words.last().is_some_and(|(_, star)| *star);
    if open_end {
        words.pop();
    }
    if words.iter().any(|(_, star)| *star) {
        return Err(STAR);
    }
    let words: Vec<String> = words.into_iter().map(|(word, _)| word).collect();
    if words.is_empty() && !open_end {
        return Err(EMPTY);
    }
    Ok(plain(words, open_end))
}

const UNCLOSED: PatternError = PatternError {
    what: "an exec pattern with an open quote or a backslash at its end",
    fix: "close the quote, or write the command as an array of words",
};
const STAR: PatternError = PatternError {
    what: "an exec pattern with a star that is not its last word",
    fix: "* is allowed as the last word, for any rest; quote it to mean the character itself",
};
const CONTROL: PatternError = PatternError {
    what: "an exec pattern with a control character outside of quotes",
    fix: "write the command as an array of words",
};

/// The patterns without those that another covers, sorted: one list for one meaning.
pub(crate) fn canonical(patterns: &[ExecPattern]) -> Vec<ExecPattern> {
    let mut kept: Vec<ExecPattern> = patterns
        .iter()
        .filter(|one| !patterns.iter().any(|other| other != *one && covers(other, one)))
        .cloned()
        .collect();
    kept.sort();
    kept.dedup();
    kept
}

/// Exactly what both lists allow.
pub(crate) fn common(left: &[ExecPattern], right: &[ExecPattern]) -> Vec<ExecPattern> {
    let pairs = left.iter().flat_map(|one| right.iter().filter_map(|other| both(one, other)));
    canonical(&pairs.collect::<Vec<_>>())
}

/// Whether `outer` allows all that `inner` does.
fn covers(outer: &ExecPattern, inner: &ExecPattern) -> bool {
    covers_words(outer, inner) && outer.interaction.covers(inner.interaction)
}

/// Whether every command of `inner` is one of `outer`.
fn covers_words(outer: &ExecPattern, inner: &ExecPattern) -> bool {
    inner.words.starts_with(&outer.words)
        && (outer.open_end || (!inner.open_end && inner.words.len() == outer.words.len()))
}

/// What two patterns both allow: their words have nothing in common, or all of the narrower one.
fn both(one: &ExecPattern, other: &ExecPattern) -> Option<ExecPattern> {
    let narrower = if covers_words(one, other) {
        other
    } else if covers_words(other, one) {
        one
    } else {
        return None;
    };
    Some(ExecPattern { interaction: one.interaction.common(other.interaction), ..narrower.clone() })
}

/// An entry of `exec` that allows this and nothing else, as TOML: `text` is the command as [`quote`] writes it.
pub(crate) fn entry(text: &str, interaction: Interaction) -> String {
    let asked = [("stdin", interaction.stdin), ("tty", interaction.tty)];
    let keys: String =
        asked.iter().filter(|(_, asked)| *asked).map(|(key, _)| format!(", {key} = true")).collect();
    if keys.is_empty() { format!("{text:?}") } else { format!("{{ command = {text:?}{keys} }}") }
}

/// A command as the text of a pattern that allows it, and nothing else.
pub(crate) fn quote(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn pattern(text: &str) -> ExecPattern {
        from_text(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn text_is_split_as_a_shell_would() {
        for (text, words, open_end) in [
            ("/bin/true", vec!["/bin/true"], false),
            ("  cat   /a  ", vec!["cat", "/a"], false),
            ("sh -c 'echo  $x'", vec!["sh", "-c", "echo  $x"], false),
            (r#"a "b \" c" d\ e ''"#, vec!["a", "b \" c", "d e", ""], false),
            ("redis-cli *", vec!["redis-cli"], true),
            ("ls '*'", vec!["ls", "*"], false),
            ("*", vec![], true),
        ] {
            let pattern = pattern(text);
            assert_eq!((pattern.words, pattern.open_end), (argv(&words), open_end), "{text}");
        }
    }

    #[test]
    fn text_with_open_quote_or_stray_star_is_an_error() {
        for text in
            ["", "  ", "a 'b", "a \"b", "a\\", "ls *.txt", "ls a*", "* ls", "**", "*'a'", "*\\a", "a\nb"]
        {
            assert!(from_text(text).is_err(), "{text:?} was accepted");
        }
        assert!(from_words(Vec::new()).is_err());
    }

    #[test]
    fn pattern_allows_its_command_and_no_other() {
        assert!(pattern("cat /a").matches(&argv(&["cat", "/a"])));
        assert!(!pattern("cat /a").matches(&argv(&["cat", "/a", "/b"])));
        assert!(!pattern("cat /a").matches(&argv(&["cat"])));
        assert!(pattern("cat *").matches(&argv(&["cat", "/a", "/b"])));
        assert!(!pattern("cat *").matches(&argv(&["catch"])));
        assert!(pattern("*").matches(&argv(&["anything"])));
    }

    #[test]
    fn common_patterns_are_those_that_both_lists_allow() {
        let list = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect::<Vec<_>>();
        assert_eq!(common(&list(&["*"]), &list(&["cat /a", "ls *"])), list(&["cat /a", "ls *"]));
        assert_eq!(common(&list(&["ls *", "id"]), &list(&["ls /", "id -u"])), list(&["ls /"]));
        assert_eq!(common(&list(&["ls /"]), &[]), []);
    }

    #[test]
    fn words_alone_allow_neither_input_nor_terminal_but_a_star_alone_allows_all() {
        for (text, interaction) in [("sh", Interaction::default()), ("*", Interaction::ALL)] {
            let pattern = pattern(text);
            assert!(pattern.allows(&argv(&["sh"]), Interaction::default()));
            for asked in [Interaction { stdin: true, tty: false }, Interaction { stdin: false, tty: true }] {
                assert_eq!(pattern.allows(&argv(&["sh"]), asked), interaction.covers(asked), "{text}");
            }
        }
    }

    #[test]
    fn common_pattern_has_the_interaction_that_both_have() {
        let one =
            |text: &str, stdin, tty| ExecPattern { interaction: Interaction { stdin, tty }, ..pattern(text) };
        let found = common(&[one("sh *", true, false)], &[one("sh -c x", true, true), one("ls", true, true)]);
        assert_eq!(found, [one("sh -c x", true, false)]);
        let kept = canonical(&[one("sh", true, false), one("sh", false, true), one("sh", false, false)]);
        assert_eq!(kept, [one("sh", false, true), one("sh", true, false)]);
    }

    #[test]
    fn entry_asks_for_no_more_than_was_asked() {
        assert_eq!(entry("id", Interaction::default()), r#""id""#);
        assert_eq!(entry("sh", Interaction::ALL), r#"{ command = "sh", stdin = true, tty = true }"#);
    }

    #[test]
    fn quoted_command_is_what_a_person_would_write() {
        assert_eq!(quote(&argv(&["sh", "-c", "echo 'a' *"])), r"sh -c 'echo '\''a'\'' *'");
    }

    proptest::proptest! {
        #[test]
        fn quoted_command_reads_back_as_itself_alone(command in proptest::collection::vec(".{0,8}", 1..5)) {
            let wanted = ExecPattern { words: command.clone(), open_end: false, interaction: Interaction::default() };
            proptest::prop_assert_eq!(from_text(&quote(&command)), Ok(wanted));
        }
    }
}
