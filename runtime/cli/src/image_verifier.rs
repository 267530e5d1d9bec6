//! `bulkhead image-verifier`: containerd's image-verifier plugin asks it before it pulls.
//!
//! A convenience, never the boundary: it sees a name, a digest and the node's policy, and no byte of the image. What it
//! cannot know it lets pass, and the launch decides; docs/signatures.md says what that is.
//!
//! Source: containerd docs/image-verification.md: exit status 0 allows, any other refuses, and the first bytes of standard
//! output are the reason.

use std::{
    ffi::OsString,
    io::{self, Read as _},
};

use bulkhead_model::{Digest, ImageFacts, ImageUser, Layout, Namespace, Refusal, Rule};
use bulkhead_node::load_node_policy;
use serde::Deserialize;
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    verify,
};

/// The name under which containerd may find this program in its directory of verifiers.
pub(crate) const PROGRAM: &str = "bulkhead-image-verifier";

/// Largest descriptor, in bytes.
const DESCRIPTOR_BYTES_MAX: u64 = 64 * 1024;

/// What containerd writes to standard input, as far as it counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
}

/// What is known of an image before it is pulled.
struct Announced {
    name: String,
    digest: Digest,
    index: bool,
}

/// Whether this was started as a verifier; its arguments then.
pub(crate) fn arguments() -> Option<Vec<OsString>> {
    let mut words = std::env::args_os();
    let program = words.next()?;
    if std::path::Path::new(&program).file_name().is_some_and(|name| name == PROGRAM) {
        return Some(words.collect());
    }
    (words.next()? == "image-verifier").then(|| words.collect())
}

/// Judges what containerd announces.
pub(crate) fn judge(layout: &Layout, arguments: &[OsString]) -> Result<Answer, Trouble> {
    match announced(arguments, io::stdin()) {
        Ok(image) => decide(layout, &image),
        Err(problem) => Ok(Answer::usage(&format!(
            "{problem}: containerd's image-verifier plugin calls this with -name NAME -digest DIGEST \
             -stdin-media-type TYPE and a descriptor on standard input"
        ))),
    }
}

fn announced(arguments: &[OsString], input: impl io::Read) -> Result<Announced, String> {
    let (mut name, mut digest, mut kind) = (None, None, None);
    let mut words = arguments.iter().map(|word| word.to_str().ok_or("an argument is not UTF-8"));
    while let Some(word) = words.next().transpose()? {
        let flag = word.trim_start_matches('-');
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (flag, words.next().transpose()?),
        };
        let value = value.ok_or(format!("-{flag} has no value"))?.to_owned();
        match flag {
            "name" => name = Some(value),
            "digest" => digest = Some(value.parse::<Digest>().map_err(|error| error.to_string())?),
            "stdin-media-type" => kind = Some(value),
            other => return Err(format!("-{other} is unknown")),
        }
    }
    let (Some(name), Some(digest)) = (name, digest) else { return Err("no -name or no -digest".to_owned()) };
    let mut index = false;
    if kind.as_deref().is_some_and(|kind| kind.starts_with("application/vnd.oci.descriptor.v1+json")) {
        let mut text = Vec::new();
        input.take(DESCRIPTOR_BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
        let descriptor: Descriptor =
            serde_json::from_slice(&text).map_err(|error| format!("the descriptor is none: {error}"))?;
        if descriptor.digest != digest {
            return Err(format!("the descriptor is of {}, the digest {digest}", descriptor.digest));
        }
        index = descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list");
    }
    Ok(Announced { name, digest, index })
}

fn decide(layout: &Layout, image: &Announced) -> Result<Answer, Trouble> {
    let policy = match load_node_policy(layout) {
        Ok(policy) => policy,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let Announced { name, digest, index } = image;
    // Only the digest is known: nothing below it was fetched yet.
    let facts = ImageFacts {
        target: *digest,
        manifest: *digest,
        config: *digest,
        diff_ids: Vec::new(),
        layers: Vec::new(),
        user: ImageUser::default(),
        volumes: Default::default(),
        exposed: Default::default(),
    };
    let signatures = if policy.requires(name) {
        Some(verify::signatures(layout, &facts, policy.material())?)
    } else {
        None
    };
    // A pull is for no tenant yet: the name decides how confined it would run, which is not asked here.
    let nobody = match "default".parse::<Namespace>() {
        Ok(nobody) => nobody,
        Err(error) => return Ok(Answer::usage(&error.to_string())),
    };
    match policy.preview(&facts, signatures.as_ref(), name, &nobody) {
        Ok(preview) => Ok(match preview.would_refuse() {
            None => allowed(name, digest, "policy admits it by what is known before the pull"),
            Some(_) => allowed(name, digest, "policy would refuse it, and its mode is audit"),
        }),
        Err(refusal) if *index && refusal.rule == Rule::ImageDigest => {
            Ok(allowed(name, digest, "its index is not listed, its manifest may be: the launch decides"))
        }
        Err(refusal) => Ok(refused(&refusal)),
    }
}

fn allowed(name: &str, digest: &Digest, why: &str) -> Answer {
    let text = format!("bulkhead lets {name}@{digest} be pulled: {why}");
    Answer::yes(text, json!({ "allowed": { "name": name, "digest": digest, "why": why } }))
}

/// One line: what containerd shows of it is short.
fn refused(refusal: &Refusal) -> Answer {
    Answer::refused(refusal.line(), json!({ "refused": crate::answer::refusal_json(refusal) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(words: &[&str], input: &str) -> Result<Announced, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        announced(&words, input.as_bytes())
    }

    #[test]
    fn what_containerd_says_is_understood_in_both_forms_of_a_flag() {
        let digest = Digest::of(b"x").to_string();
        let index = format!(
            r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":3}}"#
        );
        let kind = "application/vnd.oci.descriptor.v1+json";
        let split = of(&["-name", "r.example/a:1", "-digest", &digest, "-stdin-media-type", kind], &index);
        let joined = of(&["--name=r.example/a:1", &format!("-digest={digest}")], "");
        let (split, joined) = (split.unwrap(), joined.unwrap());
        assert_eq!((split.name.as_str(), split.index), ("r.example/a:1", true));
        assert_eq!((joined.name.as_str(), joined.digest), ("r.example/a:1", split.digest));
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_an_error_and_so_no_pull() {
        let digest = Digest::of(b"x").to_string();
        let other = Digest::of(b"y").to_string();
        let kind = "application/vnd.oci.descriptor.v1+json";
        let all = ["-name", "r.example/a", "-digest", &digest, "-stdin-media-type", kind];
        let of_other = format!(r#"{{"mediaType":"a","digest":"{other}"}}"#);
        for (words, input) in [
            (&[][..], ""),
            (&["-name", "a"], ""),
            (&["-digest", &digest], ""),
            (&["-name", "a", "-digest", "sha256:1"], ""),
            (&["-name"], ""),
            (&["-else", "a"], ""),
            (&all, ""),
            (&all, "{}"),
            (&all, of_other.as_str()),
        ] {
            assert!(of(words, input).is_err(), "{words:?} {input}");
        }
    }
}
