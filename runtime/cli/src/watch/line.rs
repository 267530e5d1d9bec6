//! What the watch says: one line for each verdict, and only when it is another than before.

use std::io::{self, Write as _};

use bulkhead_model::{Digest, Refusal, Signer};
use bulkhead_policy::Preview;
use serde_json::{Value, json};

use crate::answer::refusal_json;

/// What came of a look at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may run.
    Admitted,
    /// It may not.
    Refused,
    /// It could not be found out.
    Failed,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) verdict: Verdict,
    text: String,
    json: Value,
}

/// Which image, for whom.
pub(crate) struct About<'a> {
    pub(crate) name: &'a str,
    pub(crate) target: &'a Digest,
    pub(crate) tenant: Option<&'a str>,
}

impl About<'_> {
    fn text(&self) -> String {
        let name = self.name.split('@').next().unwrap_or(self.name);
        let tenant = self.tenant.unwrap_or("tenants without a file");
        format!("{name}@{} for {tenant}", self.target)
    }

    fn json(&self, verdict: &str, more: Value) -> Value {
        let mut line =
            json!({ "verdict": verdict, "image": self.name, "target": self.target, "tenant": self.tenant });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        line
    }
}

impl Line {
    /// Policy admits the image. `files` says what is known of its layers.
    pub(crate) fn admitted(about: &About<'_>, preview: &Preview, files: &str) -> Self {
        let signers: Vec<String> = preview
            .accepted()
            .iter()
            .map(|accepted| format!("[rule.{}] by {}", accepted.rule, who(&accepted.signer)))
            .collect();
        let audit = preview.would_refuse();
        let signed = if signers.is_empty() { String::new() } else { format!(": {}", signers.join(", ")) };
        let only =
            audit.map_or(String::new(), |refusal| format!(" only because mode is audit: {}", refusal.why));
        Self {
            verdict: Verdict::Admitted,
            text: format!("admitted {}{signed}{only}; {files}", about.text()),
            json: about.json(
                "admitted",
                json!({ "rules": signers, "files": files, "audit": audit.map(refusal_json) }),
            ),
        }
    }

    /// Policy refuses it.
    pub(crate) fn refused(about: &About<'_>, refusal: &Refusal, notes: &[String]) -> Self {
        let more: String = notes.iter().map(|note| format!("; {note}")).collect();
        Self {
            verdict: Verdict::Refused,
            text: format!(
                "refused  {}: {}: {}; fix: {}{more}",
                about.text(),
                refusal.rule.anchor(),
                refusal.why,
                refusal.fix
            ),
            json: about.json("refused", json!({ "refusal": refusal_json(refusal), "notes": notes })),
        }
    }

    /// It could not be looked at.
    pub(crate) fn failed(about: &About<'_>, why: &str) -> Self {
        Self {
            verdict: Verdict::Failed,
            text: format!("failed   {}: {why}", about.text()),
            json: about.json("failed", json!({ "failed": why })),
        }
    }

    /// Something about the watch itself.
    pub(crate) fn trouble(why: &str) -> Self {
        Self { verdict: Verdict::Failed, text: format!("failed   {why}"), json: json!({ "failed": why }) }
    }

    /// Good news about it.
    pub(crate) fn note(what: &str) -> Self {
        Self { verdict: Verdict::Admitted, text: what.to_owned(), json: json!({ "note": what }) }
    }

    /// To stdout, at once. Who does not listen any more misses it.
    pub(crate) fn print(&self, as_json: bool) {
        let mut out = io::stdout().lock();
        let text = if as_json { self.json.to_string() } else { self.text.clone() };
        // Names and a registry's words are others': a line is one line.
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            // There is nobody left to tell.
        }
    }
}

fn who(signer: &Signer) -> String {
    match signer {
        Signer::Key { fingerprint } => format!("key {fingerprint}"),
        Signer::Certificate { issuer, identity, root: _ } => format!("{identity} of {issuer}"),
    }
}
