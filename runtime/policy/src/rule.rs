//! `[rule.NAME]`: who must have signed an image, and whether a log must know of it.
//!
//! Invariant: one signature satisfies a rule by itself: its signer, its log and its root are not put together from
//! several. Issuer and identity are matched on the same certificate by the same entry.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_model::{Refusal, Rule, Signature, SignatureFacts, Signer, TrustMaterial};

use crate::glob::Glob;

/// Whether a signature must be in a transparency log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogRule {
    Required,
    Optional,
}

/// One entry of `keyless`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyless {
    pub(crate) issuer: Glob,
    pub(crate) identity: Glob,
}

/// A key file as policy names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A section `[rule.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignerRule {
    pub(crate) line: usize,
    pub(crate) keys: Vec<FileName>,
    pub(crate) keyless: Vec<Keyless>,
    /// `None`: optional for keys, required for certificates.
    pub(crate) log: Option<LogRule>,
}

/// `[trust]` of the node's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) roots: Vec<FileName>,
    pub(crate) root_age_max: Option<Duration>,
    pub(crate) fetch: FetchRule,
    /// How a launch reaches registries.
    pub(crate) hosts_dirs: Vec<PathBuf>,
    pub(crate) docker_config: Option<PathBuf>,
}

/// Whether registries are asked for signatures without a person who says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchRule {
    /// No: signatures come by `bulkhead trust`.
    #[default]
    Never,
    /// By `bulkhead watch`, for images that containerd announces.
    Watch,
    /// By it, and by a launch that lacks one.
    Launch,
}

/// With what a rule is asked.
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) rule: &'a SignerRule,
    pub(crate) trust: &'a Trust,
    pub(crate) material: &'a TrustMaterial,
    /// The file that the rule stands in.
    pub(crate) path: &'a Path,
}

impl Asked<'_> {
    /// The signer that satisfies the rule; else why each signature does not.
    pub(crate) fn signer<'f>(&self, facts: &'f SignatureFacts) -> Result<&'f Signer, Vec<String>> {
        let mut found = Vec::new();
        for signature in &facts.signatures {
            match self.accepts(signature) {
                Ok(()) => return Ok(&signature.signer),
                Err(why) => found.push(format!("signed by {}, {why}", self.describe(&signature.signer))),
            }
        }
        found.extend(facts.rejected.iter().map(|rejected| {
            format!("signature {} counts for nothing: {}", short(&rejected.blob.hex()), rejected.why)
        }));
        Err(found)
    }

    fn accepts(&self, signature: &Signature) -> Result<(), String> {
        if signature.is_attestation() {
            return Err("but that is an attestation, no signature".to_owned());
        }
        let default = match &signature.signer {
            Signer::Key { fingerprint } => {
                let named = self.rule.keys.iter().any(|key| {
                    let known = self.material.keys.get(&key.name);
                    known.is_some_and(|known| known.fingerprint() == *fingerprint)
                });
                if !named {
                    return Err("which the rule does not name".to_owned());
                }
                LogRule::Optional
            }
            Signer::Certificate { issuer, identity, root } => {
                let suits =
                    |entry: &Keyless| entry.issuer.matches(issuer) && entry.identity.matches(identity);
                if !self.rule.keyless.iter().any(suits) {
                    return Err("which the rule does not name".to_owned());
                }
                self.check_age(root)?;
                LogRule::Required
            }
        };
        match (&signature.log, self.rule.log.unwrap_or(default)) {
            (None, LogRule::Required) => {
                Err("but no transparency log that [trust] knows has the signature".to_owned())
            }
            (Some(log), LogRule::Required) => self.check_age(&log.root),
            (_, LogRule::Optional) => Ok(()),
        }
    }

    /// Whether the root is young enough to be believed.
    fn check_age(&self, root: &bulkhead_model::Digest) -> Result<(), String> {
        let known = self.material.roots.iter().find(|(_, file)| file.digest == *root);
        let (name, file) = known.ok_or("by a trusted root that [trust] does not name")?;
        match self.trust.root_age_max {
            Some(_) if file.age == Duration::MAX => Err(format!(
                "but the trusted root {name} is dated in the future: touch it if it is the current one"
            )),
            Some(max) if file.age > max => Err(format!(
                "but the trusted root {name} is {} days old and root_age_days_max is {}",
                file.age.as_secs() / DAY_SECONDS,
                max.as_secs() / DAY_SECONDS
            )),
            _ => Ok(()),
        }
    }

    /// A signer as people know him.
    fn describe(&self, signer: &Signer) -> String {
        match signer {
            Signer::Key { fingerprint } => {
                let name = self.material.keys.iter().find(|(_, key)| key.fingerprint() == *fingerprint);
                let name = name.map_or(String::new(), |(name, _)| format!(" ({name})"));
                format!("key {fingerprint}{name}")
            }
            Signer::Certificate { issuer, identity, .. } => format!("{identity} of {issuer}"),
        }
    }

    /// What the rule wants, in words.
    fn wants(&self) -> String {
        let keys = self.rule.keys.iter().map(|key| key.name.clone());
        let keyless = self.rule.keyless.iter().map(|entry| format!("{} of {}", entry.identity, entry.issuer));
        keys.chain(keyless).take(3).collect::<Vec<_>>().join(" or ")
    }

    /// The refusal of an image that no signature makes good. `image` is a name to fetch signatures by.
    pub(crate) fn refusal(&self, subject: &str, image: &str, found: &[String]) -> Refusal {
        let Self { name, rule, path, .. } = self;
        let place = format!("[rule.{name}] ({}:{})", path.display(), rule.line);
        let wants = self.wants();
        let (found, fix) = if found.is_empty() {
            let fix = format!(
                "bulkhead trust fetch {image}, or sign this digest with {wants} and import the signature"
            );
            ("no signature of it is known to this node".to_owned(), fix)
        } else {
            let more = match found.len() {
                0..=2 => String::new(),
                more => format!("; and {} more", more - 2),
            };
            // What was found may be long, and containerd gets one line of 700 bytes.
            let fix = format!(
                "have one of them sign this digest and fetch the signature (bulkhead trust fetch), or add the signer to \
                 [rule.{name}]"
            );
            (format!("{}{more}", found.iter().take(2).cloned().collect::<Vec<_>>().join("; ")), fix)
        };
        Refusal::new(Rule::ImageSignature, subject, format!("{found}; {place} wants {wants}"), fix)
    }
}

/// Source: a day of 24 hours; leap seconds do not matter to an age.
pub(crate) const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Sections by name.
pub(crate) type Rules = BTreeMap<String, SignerRule>;

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests;
