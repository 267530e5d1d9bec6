//! Image names, normalised as containerd does, and the scopes of `[image]` that match them.
//!
//! Invariant: of all different scopes that match one name, exactly one is the most specific. Read from the left, a
//! literal part beats `*`, and `*` beats `**`; two scopes that never differ so are the same scope.

use std::fmt;

use bulkhead_model::Digest;

/// Longest repository name, in bytes.
///
/// Source: distribution/reference, `RepositoryNameTotalLengthMax`.
const REPOSITORY_BYTES_MAX: usize = 255;

/// What an image is called, without tag and digest: `docker.io`, `library`, `nginx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository(Vec<String>);

impl Repository {
    /// The repository of a name as containerd keeps it. Short names get `docker.io` and `library` as there. `None`
    /// for what is no reference, and for CRI's own `sha256:<config>` names: no scope matches those.
    ///
    /// Source: distribution/reference, normalize.go, `ParseNormalizedNamed`.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        if name.parse::<Digest>().is_ok() || name.len() > 4 * REPOSITORY_BYTES_MAX {
            return None;
        }
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (name, None),
        };
        if !digest.is_none_or(is_digest) {
            return None;
        }
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let name = match name[last..].split_once(':') {
            Some((_, tag)) if !is_tag(tag) => return None,
            Some((repository, _)) => &name[..last + repository.len()],
            None => name,
        };
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_host_like(first) => (first.to_ascii_lowercase(), path),
            _ => ("docker.io".to_owned(), name),
        };
        let host = if host == "index.docker.io" { "docker.io".to_owned() } else { host };
        if name.len() > REPOSITORY_BYTES_MAX || !is_host(&host) {
            return None;
        }
        let mut parts = vec![host];
        if parts[0] == "docker.io" && !path.contains('/') {
            parts.push("library".to_owned());
        }
        parts.extend(path.split('/').map(str::to_owned));
        parts[1..].iter().all(|part| is_part(part)).then_some(Self(parts))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// One part of a scope. The order is that of specificity: the first is the strongest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `*`: any one part.
    One,
    /// `**` at the end: one part or more.
    Rest,
}

impl Part {
    fn rank(&self) -> u8 {
        match self {
            Part::Literal(_) => 0,
            Part::One => 1,
            Part::Rest => 2,
        }
    }
}

/// A key of `[image]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(Vec<Part>);

/// Why a key of `[image]` is no scope: what is wrong, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeError {
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl Scope {
    pub(crate) fn parse(text: &str) -> Result<Self, ScopeError> {
        let error = |what: String, fix: String| Err(ScopeError { what, fix });
        let parts: Vec<&str> = text.split('/').collect();
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        if text.contains('@') || (parts.len() > 1 && last.contains(':')) {
            let repository = text.split('@').next().unwrap_or(text);
            let tag = repository.rfind(':').filter(|colon| !repository[*colon..].contains('/'));
            let repository = &repository[..tag.unwrap_or(repository.len())];
            return error(
                format!("scope {text:?} carries a tag or a digest; a scope names repositories"),
                format!("write {repository:?} and put the digest into its digests"),
            );
        }
        for (index, part) in parts.iter().enumerate() {
            if *part == "**" && index + 1 != parts.len() {
                return error(
                    format!("scope {text:?} has ** before its end"),
                    "use * for one part, ** only as the last part".to_owned(),
                );
            }
            if part.contains('*') && !matches!(*part, "*" | "**") {
                return error(
                    format!("scope {text:?} has a star inside of a part"),
                    "* stands for one whole part between slashes, ** at the end for any further parts"
                        .to_owned(),
                );
            }
        }
        if first == "index.docker.io" {
            return error(
                format!("scope {text:?}: containerd calls this registry docker.io"),
                format!("write {:?}", text.replacen("index.docker.io", "docker.io", 1)),
            );
        }
        let short = !matches!(first, "*" | "**") && (!is_host_like(first) || parts.len() == 1);
        if short {
            let long =
                Repository::of_name(text).map_or("registry.example/…".to_owned(), |long| long.to_string());
            return error(
                format!("scope {text:?} does not begin with a registry and a slash"),
                format!("write the name in full, such as {long:?}"),
            );
        }
        if first == "docker.io" && parts.len() == 2 && last != "**" {
            return error(
                format!("scope {text:?} matches nothing: names of docker.io have two parts"),
                format!("write \"docker.io/library/{last}\" or \"docker.io/{last}/**\""),
            );
        }
        let well_formed = |(index, part): (usize, &&str)| match (*part, index) {
            ("*" | "**", _) => true,
            (part, 0) => is_host(part),
            (part, _) => is_part(part),
        };
        if text.len() > REPOSITORY_BYTES_MAX || !parts.iter().enumerate().all(well_formed) {
            return error(
                format!("scope {text:?} is no repository name"),
                "write registry/part/part in lower case: letters, digits, single dots, dashes, underscores"
                    .to_owned(),
            );
        }
        let part = |part: &str| match part {
            "*" => Part::One,
            "**" => Part::Rest,
            literal => Part::Literal(literal.to_owned()),
        };
        Ok(Self(parts.into_iter().map(part).collect()))
    }

    pub(crate) fn matches(&self, Repository(name): &Repository) -> bool {
        let open_end = self.0.last() == Some(&Part::Rest);
        let long_enough = if open_end { name.len() >= self.0.len() } else { name.len() == self.0.len() };
        long_enough
            && self.0.iter().zip(name).all(|(part, word)| match part {
                Part::Literal(literal) => literal == word,
                Part::One | Part::Rest => true,
            })
    }

    /// Whether it says which registry: no star stands for it.
    pub(crate) fn names_registry(&self) -> bool {
        matches!(self.0.first(), Some(Part::Literal(_)))
    }

    /// Sorts before that of every other scope that matches one of the same names and is less specific.
    pub(crate) fn specificity(&self) -> Vec<u8> {
        self.0.iter().map(Part::rank).collect()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part: &Part| match part {
            Part::Literal(literal) => literal.clone(),
            Part::One => "*".to_owned(),
            Part::Rest => "**".to_owned(),
        };
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join("/"))
    }
}

/// Whether the first part of a name is a registry.
///
/// Source: distribution/reference, normalize.go, `splitDockerDomain`.
fn is_host_like(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// A registry in lower case, with an optional port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_ok = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_ok = match ipv6 {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => name.split('.').all(|label| {
            let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = label.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        }),
    };
    port_ok && name_ok
}

/// One part of a repository's path.
///
/// Source: distribution/reference, regexp.go, `pathComponent`.
fn is_part(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators: Vec<&str> = part.split(word).filter(|gap| !gap.is_empty()).collect();
    let edges = part.starts_with(word) && part.ends_with(word);
    edges && separators.iter().all(|gap| matches!(*gap, "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-' | b'_'))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Option<String> {
        Repository::of_name(name).map(|repository| repository.to_string())
    }

    #[test]
    fn names_are_normalised_as_containerd_does() {
        let digest = Digest::of(b"x");
        for (name, wanted) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx"),
            ("bitnami/redis:7", "docker.io/bitnami/redis"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/library/nginx:latest", "docker.io/library/nginx"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/a/b:tag", "localhost:5000/a/b"),
            ("Registry.Example/a", "registry.example/a"),
            ("[::1]:5000/app:1", "[::1]:5000/app"),
            (&format!("registry.example/a/b:1@{digest}"), "registry.example/a/b"),
            (&format!("import-2026-11-21@{digest}"), "docker.io/library/import-2026-11-21"),
        ] {
            assert_eq!(repository(name).as_deref(), Some(wanted), "{name}");
        }
    }

    #[test]
    fn ids_and_texts_that_are_no_reference_are_no_repository() {
        let id = Digest::of(b"x").to_string();
        let long = format!("registry.example/{}", "a".repeat(REPOSITORY_BYTES_MAX));
        for name in [
            "",
            "/",
            "a//b",
            "a/",
            "registry.example/",
            "a b",
            "registry.example/A",
            "a@sha256:12",
            "a:",
            "a:b:c",
            "registry.example./a",
            "-a",
            "a..b",
            "a___b",
            "a/../b",
            "é",
            "registry.example/é",
            &id,
            &long,
        ] {
            assert_eq!(repository(name), None, "{name}");
        }
    }

    #[test]
    fn scope_matches_what_it_covers_and_nothing_beside() {
        for (scope, name, wanted) in [
            ("registry.example/a/b", "registry.example/a/b:1", true),
            ("registry.example/a/b", "registry.example/a/bb:1", false),
            ("registry.example/a/*", "registry.example/a/b", true),
            ("registry.example/a/*", "registry.example/a/b/c", false),
            ("registry.example/a/*", "registry.example/a", false),
            ("registry.example/*/web", "registry.example/a/web", true),
            ("registry.example/*/web", "registry.example/a/api", false),
            ("registry.example/a/**", "registry.example/a/b/c", true),
            ("registry.example/a/**", "registry.example/a", false),
            ("registry.example/a/**", "registry.example/ab/c", false),
            ("registry.example/a/**", "registry.example.evil/a/b", false),
            ("registry.example/a/**", "evil.example/registry.example/a/b", false),
            ("registry.example:5000/a", "registry.example/a", false),
            ("**", "nginx", true),
            ("docker.io/**", "nginx", true),
        ] {
            let scope = Scope::parse(scope).unwrap_or_else(|error| panic!("{scope}: {error:?}"));
            let repository = Repository::of_name(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(scope.matches(&repository), wanted, "{scope} {name}");
        }
    }

    #[test]
    fn scope_with_tag_digest_short_name_or_partial_star_is_an_error() {
        for text in [
            "",
            "nginx",
            "team/app",
            "registry.example/a:1",
            "registry.example/a@sha256:00",
            "registry.example/a-*",
            "**/a",
            "registry.example/**/b",
            "registry.example/a/",
            "registry.example//b",
            "Registry.Example/a",
            "index.docker.io/library/nginx",
            "docker.io/nginx",
            "docker.io/*",
            "registry.example",
            "localhost:5000",
            "registry.example/a b",
            "registry.example/a/***",
        ] {
            assert!(Scope::parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn first_difference_from_the_left_decides_which_scope_is_more_specific() {
        for (more, less) in [
            ("registry.example/a/b", "registry.example/a/*"),
            ("registry.example/a/b", "*/a/b"),
            ("registry.example/a/*", "registry.example/a/**"),
            ("registry.example/a/b/**", "registry.example/a/*/c"),
            ("registry.example/a/**", "registry.example/**"),
            ("registry.example/**", "**"),
            ("registry.example/*/c", "registry.example/*/*"),
        ] {
            let parse = |text| Scope::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert!(parse(more).specificity() < parse(less).specificity(), "{more} {less}");
        }
    }
}
