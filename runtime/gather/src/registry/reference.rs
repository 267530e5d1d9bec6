//! The name of an image: `registry/repository[:tag][@digest]`, with Docker's short forms.

use std::{fmt, str::FromStr};

use bulkhead_model::Digest;

use crate::GatherError;

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry, as policy and containerd call it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The digest in the name.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, this digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), tag: None, ..self.clone() }
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// What a registry is asked for: the digest where there is one.
    pub(super) fn to_ask(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

/// Source: distribution/reference, normalize.go and regexp.go.
impl FromStr for Reference {
    type Err = GatherError;

    fn from_str(name: &str) -> Result<Self, GatherError> {
        let wrong = |why| GatherError::Reference { name: name.chars().take(300).collect(), why };
        let (rest, digest) = match name.split_once('@') {
            None => (name, None),
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("its digest is no sha256:… of 64 hex digits"))?))
            }
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (rest, tag) = match rest[last..].split_once(':') {
            None => (rest, None),
            Some((before, tag)) => (&rest[..last + before.len()], Some(tag)),
        };
        let is_host =
            |first: &str| first.contains(['.', ':']) || first == "localhost" || first.starts_with('[');
        let (host, repository) = match rest.split_once('/') {
            Some((first, repository)) if is_host(first) => (first, repository.to_owned()),
            Some(_) => ("docker.io", rest.to_owned()),
            None => ("docker.io", format!("library/{rest}")),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let host_ok = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
        if !host_ok || host.is_empty() {
            return Err(wrong("its registry is no host"));
        }
        let part = |part: &str| {
            let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = part.as_bytes();
            part.bytes().all(byte) && edge(bytes.first()) && edge(bytes.last()) && !part.contains("..")
        };
        if repository.len() > 255 || !repository.split('/').all(part) {
            return Err(wrong(
                "its repository has other than lower-case letters, digits, '.', '_', '-' and '/'",
            ));
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let tag_ok = |tag: &str| {
            (1..=128).contains(&tag.len()) && tag.bytes().all(word) && !tag.starts_with(['.', '-'])
        };
        if !tag.is_none_or(tag_ok) {
            return Err(wrong("its tag is none"));
        }
        Ok(Self { host: host.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_as_docker_does() {
        let digest = Digest::of(b"x");
        for (name, long) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis"),
            ("index.docker.io/a/b", "docker.io/a/b"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            (&format!("registry.example/a:1@{digest}"), &format!("registry.example/a:1@{digest}")),
        ] {
            assert_eq!(name.parse::<Reference>().unwrap().to_string(), long, "{name}");
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_none() {
        for name in [
            "",
            "registry.example/",
            "registry.example/../etc",
            "registry.example/a/../../b",
            "registry.example/a?x=y",
            "registry.example/a#b",
            "registry.example/A",
            "user@registry.example/a",
            "registry.example/a@sha256:00",
            "registry.example/a:",
            "registry.example/a:../b",
            "registry.exam ple/a",
            "http://registry.example/a",
        ] {
            assert!(name.parse::<Reference>().is_err(), "{name}");
        }
    }
}
