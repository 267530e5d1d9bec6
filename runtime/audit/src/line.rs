//! What a line of the record says.

use std::collections::BTreeSet;

use bulkhead_model::{Digest, Refusal, Rule, Signer};
use serde::Serialize;

/// Most names of an image that a line has: whoever imports images makes as many as he likes.
const NAMES_MAX: usize = 16;

/// Longest text in a line, in bytes.
const TEXT_BYTES_MAX: usize = 2000;

/// A verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// What became of it.
    pub verdict: Outcome,
    /// Which call asked.
    pub call: Call,
    /// Id of the container.
    pub container: &'a str,
    /// Id of the exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<&'a str>,
    /// containerd's namespace.
    pub namespace: &'a str,
    /// Whose policy narrowed the node's.
    pub tenant: &'a str,
    /// The image, as far as it was verified before the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageLine>,
    /// The images that it sees as volumes.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub volumes: &'a [ImageLine],
    /// The scope of the node's policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
    /// The signatures that satisfied a rule.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub signed_by: &'a [SignedBy],
    /// Why it was refused, or would have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalLine>,
    /// Hash of both policy files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// How many judges were started for this request: none where all that policy wants to know was stored.
    pub judges: u32,
    /// How long the gates took.
    pub timings_us: TimingsUs,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes on.
    Allow,
    /// It does not.
    Refuse,
    /// It goes on because the mode is audit.
    AuditOnly,
}

/// Which call asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// A container.
    Create,
    /// One more process in it.
    Exec,
}

/// A verified image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageLine {
    /// Its names, the first few.
    pub names: Vec<String>,
    /// What its name points to: an index or the manifest.
    pub target: Digest,
    /// The manifest of this node's platform.
    pub manifest: Digest,
    /// The config that the manifest names.
    pub config: Digest,
    /// Chain ID of all its layers: what the snapshot is of.
    pub chain: Option<Digest>,
    /// What was found out about the files of its layers.
    pub contents: Contents,
}

/// What was found out about the files of an image's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// Nothing: the chain alone is proven.
    Chain,
    /// They are as they were when they were compared.
    Receipt,
    /// They were compared for this request.
    Compared,
    /// They are not proven.
    Unproven,
}

impl ImageLine {
    /// The names that a line has.
    #[must_use]
    pub fn names(names: &BTreeSet<String>) -> Vec<String> {
        names.iter().take(NAMES_MAX).map(|name| short(name)).collect()
    }
}

/// A signature that satisfied a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedBy {
    /// Name of the rule in the policy.
    pub rule: String,
    /// Who signed.
    pub signer: Signer,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalLine {
    /// The rule: an anchor of docs/refusals.md.
    pub rule: Rule,
    /// What was refused. Of an exec not: that is its argv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What the rule wants and what was found.
    pub why: String,
}

impl From<&Refusal> for RefusalLine {
    fn from(refusal: &Refusal) -> Self {
        let Refusal { rule, what, why, fix: _ } = refusal;
        Self { rule: *rule, what: (*rule != Rule::Exec).then(|| short(what)), why: short(why) }
    }
}

/// How long each gate took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimingsUs {
    /// Asking containerd and the judge, and binding.
    pub verify: u64,
    /// All gates, from the request to this line.
    pub gates: u64,
}

fn short(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn refused_exec_is_recorded_without_its_command() {
        let refusal =
            Refusal::new(Rule::Exec, "exec of \"cat /run/token\"", "no pattern", "add \"cat /run/token\"");
        let text = serde_json::to_string(&RefusalLine::from(&refusal)).unwrap();
        assert_eq!(text, r#"{"rule":"exec","why":"no pattern"}"#);
    }

    #[test]
    fn texts_of_an_attacker_are_cut_between_characters() {
        let names: BTreeSet<String> =
            (0..100).map(|number| format!("{number}{}", "é".repeat(3000))).collect();
        let names = ImageLine::names(&names);
        assert_eq!(names.len(), NAMES_MAX);
        assert!(names.iter().all(|name| name.len() <= TEXT_BYTES_MAX));
    }
}
