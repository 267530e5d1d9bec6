//! Names that become path components or keys: checked once, where they come in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest identifier containerd accepts, in bytes.
///
/// Source: `maxLength`, containerd pkg/identifiers/validate.go.
const ID_BYTES_MAX: usize = 76;

/// Longest namespace of a pod that is accepted, in bytes. Kubernetes has 63, CRI itself no limit; a tenant's file is
/// named so, and with `.toml` and what a rename adds that stays below `NAME_MAX`.
const NAMESPACE_BYTES_MAX: usize = 192;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{start:?} is not an identifier: up to {max} letters and digits, separated by single '.', '_' or '-'"
)]
pub struct IdError {
    start: String,
    max: usize,
}

fn check(text: &str, max: usize) -> Result<(), IdError> {
    let separated = text
        .split(['.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if text.len() <= max && separated {
        Ok(())
    } else {
        Err(IdError { start: text.chars().take(ID_BYTES_MAX).collect(), max })
    }
}

/// As [`check`], and what [`Namespace::of_pod`] makes.
fn check_namespace(text: &str, max: usize) -> Result<(), IdError> {
    let made = decoded(text).is_some_and(|bytes| !bytes.is_empty() && encoded(&bytes) == text);
    if made && text.len() <= max { Ok(()) } else { check(text, max) }
}

/// A path component that stands for these bytes and no others.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'.' if at == 0 => text.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $max:expr, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text: safe as one path component.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                $check(text, $max).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier! {
    /// The id of a container, an exec or a sandbox.
    ContainerId, ID_BYTES_MAX, check
}

identifier! {
    /// A containerd namespace, or that of a pod: what a tenant file is named after.
    Namespace, NAMESPACE_BYTES_MAX, check_namespace
}

impl Namespace {
    /// The namespace of a pod. CRI takes any text; here a byte other than a letter, a digit, `.`, `_` and `-` is written
    /// `%20`, and so is a dot in front. No two namespaces have the same name here, and one that Kubernetes can have is
    /// written as it is.
    ///
    /// # Errors
    /// It is empty, or too long.
    pub fn of_pod(text: &str) -> Result<Self, IdError> {
        encoded(text.as_bytes()).parse()
    }
}

/// Who asks: whose file narrows the node's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The namespace of containerd that the task lives in.
    pub containerd_namespace: Namespace,
    /// The namespace that names the tenant: the pod's inside containerd's CRI namespace, else containerd's.
    pub namespace: Namespace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_identifiers_are_accepted() {
        for text in ["a", "default", "k8s.io", "redis-1_b", "A9"] {
            assert!(text.parse::<ContainerId>().is_ok(), "{text} was refused");
        }
    }

    #[test]
    fn paths_empty_parts_and_long_names_are_errors() {
        let long = "a".repeat(ID_BYTES_MAX + 1);
        for text in ["", ".", "..", "a/b", "../a", "-a", "a-", "a..b", "a b", "a\0", "é", &long] {
            assert!(text.parse::<ContainerId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn namespace_of_a_pod_may_be_longer_than_an_id_and_no_longer_than_a_files_name() {
        let name = |length| "a".repeat(length);
        assert!(name(NAMESPACE_BYTES_MAX).parse::<Namespace>().is_ok());
        assert!(name(NAMESPACE_BYTES_MAX + 1).parse::<Namespace>().is_err());
        assert!(name(NAMESPACE_BYTES_MAX).parse::<ContainerId>().is_err());
        assert!("../a".parse::<Namespace>().is_err());
    }

    #[test]
    fn namespace_of_a_pod_is_one_path_component_whatever_it_holds_and_nobody_elses() {
        for (text, name) in [
            ("team-a", "team-a"),
            ("k8s.io", "k8s.io"),
            ("stop signals", "stop%20signals"),
            ("stop%20signals", "stop%2520signals"),
            ("..", "%2E."),
            ("../team-a", "%2E.%2Fteam-a"),
            ("a\n\0", "a%0A%00"),
            ("\u{e9}", "%C3%A9"),
        ] {
            let namespace = Namespace::of_pod(text).map(String::from);
            assert_eq!(namespace.as_deref(), Ok(name), "{text:?}");
            assert!(name.parse::<Namespace>().is_ok(), "{name} cannot be written in a policy");
        }
        for text in ["", &" ".repeat(NAMESPACE_BYTES_MAX / 3 + 1)] {
            assert!(Namespace::of_pod(text).is_err(), "{text:?}");
        }
        for text in ["a b", "a%2", "a%zz", "a%61", "a%2f", ".a", "a/b"] {
            assert!(text.parse::<Namespace>().is_err(), "{text:?} is no name of one");
        }
    }
}
