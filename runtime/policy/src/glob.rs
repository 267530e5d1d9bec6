//! Patterns for issuers and identities: `*` is anything between two slashes, `**` anything at all.

use std::fmt;

/// Longest pattern, in bytes.
pub(crate) const GLOB_BYTES_MAX: usize = 1024;

/// A pattern that the whole text must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// `*`: no slash.
    Some,
    /// `**`.
    Any,
}

impl Glob {
    /// `None` for what is too long, empty, or has control characters or three stars in a row.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > GLOB_BYTES_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let mut parts = Vec::new();
        for byte in text.bytes() {
            match (byte, parts.last()) {
                (b'*', Some(Part::Any)) => return None,
                (b'*', Some(Part::Some)) => {
                    parts.pop();
                    parts.push(Part::Any);
                }
                (b'*', _) => parts.push(Part::Some),
                (byte, _) => parts.push(Part::Byte(byte)),
            }
        }
        Some(Self { text: text.to_owned(), parts })
    }

    /// Whether it has no star.
    pub(crate) fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Byte(_)))
    }

    /// What stands before the first star.
    pub(crate) fn literal_start(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    /// Whether all of `text` matches: in time and memory of pattern times text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        // reached[n]: the first n parts match what was read of the text.
        let mut reached = vec![false; self.parts.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for byte in text.bytes() {
            let mut next = vec![false; self.parts.len() + 1];
            for (at, part) in self.parts.iter().enumerate() {
                if !reached[at] {
                    continue;
                }
                match part {
                    Part::Byte(wanted) if *wanted == byte => next[at + 1] = true,
                    Part::Some if byte != b'/' => next[at] = true,
                    Part::Any => next[at] = true,
                    Part::Byte(_) | Part::Some => {}
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            if reached[at] && matches!(part, Part::Some | Part::Any) {
                reached[at + 1] = true;
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, text: &str) -> bool {
        Glob::parse(glob).unwrap().matches(text)
    }

    #[test]
    fn star_stays_between_slashes_and_two_stars_do_not() {
        let workflow = "https://github.com/team-a/*/.github/workflows/release.yml@refs/tags/*";
        let of = |repository: &str, tag: &str| {
            format!("https://github.com/{repository}/.github/workflows/release.yml@refs/tags/{tag}")
        };
        assert!(matches(workflow, &of("team-a/app", "v1.2.3")));
        assert!(!matches(workflow, &of("team-a/app", "v1/2")));
        assert!(!matches(workflow, &of("team-a/app/deeper", "v1")));
        assert!(!matches(workflow, &of("team-b/app", "v1")));
        assert!(!matches(workflow, &format!("{}x", of("team-b/app", "v1"))));
        assert!(matches("https://github.com/team-a/**", &of("team-a/app", "v1/2")));
        assert!(matches("*@example.com", "a@example.com"));
        assert!(!matches("*@example.com", "a@example.com.evil"));
        assert!(!matches("a.c", "abc"));
        assert!(matches("a*", "a"));
    }

    #[test]
    fn three_stars_control_characters_and_nothing_are_no_pattern() {
        for text in ["", "a***", "a\nb", &"x".repeat(GLOB_BYTES_MAX + 1)] {
            assert_eq!(Glob::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn literal_matches_itself_alone(text in "[a-z/.@]{1,20}", other in "[a-z/.@]{1,20}") {
            prop_assert!(matches(&text, &text));
            prop_assert_eq!(matches(&text, &other), text == other);
        }

        #[test]
        fn star_matches_no_more_than_two_stars(glob in "[ab/*]{1,8}", text in "[ab/]{0,12}") {
            let (Some(one), Some(two)) = (Glob::parse(&glob), Glob::parse(&glob.replace("**", "*").replace('*', "**")))
            else { return Ok(()) };
            prop_assert!(!one.matches(&text) || two.matches(&text));
        }
    }
}
