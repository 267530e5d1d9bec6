//! Which platform an index entry or a config is for, as containerd matches it on linux/amd64.
//!
//! Source: containerd platforms (normalize.go, compare.go): `Only(linux/amd64)` takes amd64 without variant or v1,
//! and then 386. A 386 image is chosen here as containerd chooses it, and then refused: 32-bit entry is denied.

use crate::json::{JsonFlaw, Object};

/// How well a platform suits this node, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    Amd64,
    I386,
}

/// os/architecture/variant, normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl Platform {
    /// Reads the fields of a descriptor's `platform` or of a config.
    pub(crate) fn read(object: &Object) -> Result<Self, JsonFlaw> {
        let lower = |name| object.text(name).map(str::to_ascii_lowercase);
        let (os, architecture, variant) = (lower("os")?, lower("architecture")?, lower("variant")?);
        let (architecture, variant) = match architecture.as_str() {
            "x86_64" | "x86-64" | "amd64" => {
                ("amd64".to_owned(), if variant == "v1" { String::new() } else { variant })
            }
            "i386" => ("386".to_owned(), String::new()),
            _ => (architecture, variant),
        };
        Ok(Self { os, architecture, variant })
    }

    /// Whether containerd would choose it on this node, and in which order.
    pub(crate) fn suits(&self) -> Option<Match> {
        match (self.os.as_str(), self.architecture.as_str(), self.variant.as_str()) {
            ("linux", "amd64", "") => Some(Match::Amd64),
            ("linux", "386", "") => Some(Match::I386),
            _ => None,
        }
    }

    /// For people, cut to a length that fits a line.
    pub(crate) fn name(&self) -> String {
        let part = |text: &str| text.chars().take(20).collect::<String>();
        let mut name = format!("{}/{}", part(&self.os), part(&self.architecture));
        if !self.variant.is_empty() {
            name = format!("{name}/{}", part(&self.variant));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::json;

    fn suits(text: &str) -> Option<Match> {
        Platform::read(&json::parse(text.as_bytes()).unwrap()).unwrap().suits()
    }

    #[test]
    fn amd64_in_all_its_spellings_suits() {
        for text in [
            r#"{"os":"linux","architecture":"amd64"}"#,
            r#"{"os":"Linux","architecture":"x86_64"}"#,
            r#"{"os":"linux","architecture":"amd64","variant":"v1"}"#,
        ] {
            assert_eq!(suits(text), Some(Match::Amd64), "{text}");
        }
        assert_eq!(suits(r#"{"os":"linux","architecture":"i386"}"#), Some(Match::I386));
    }

    #[test]
    fn other_platforms_do_not_suit() {
        for text in [
            r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#,
            r#"{"os":"windows","architecture":"amd64"}"#,
            r#"{"os":"linux","architecture":"amd64","variant":"v3"}"#,
            r#"{"os":"unknown","architecture":"unknown"}"#,
            r#"{"architecture":"amd64"}"#,
            "{}",
        ] {
            assert_eq!(suits(text), None, "{text}");
        }
    }
}
