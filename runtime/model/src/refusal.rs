//! A refusal: policy said no. Data first, text second.

use std::fmt;

use serde::Serialize;

/// Longest line that containerd gets, in bytes: it must reach `kubectl describe pod` whole.
pub const LINE_BYTES_MAX: usize = 700;

/// The rule that refused. Each has its section in docs/refusals.md, named by [`Rule::anchor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// There is no policy, or it cannot be trusted or read.
    Policy,
    /// No scope of `[image]` matches.
    ImageScope,
    /// The digest is not in the scope's list.
    ImageDigest,
    /// Nobody whom a rule wants has signed the image.
    ImageSignature,
    /// The container has no image, or containerd does not know it any more.
    ImageMissing,
    /// Blobs, config and chain do not belong together.
    ImageContents,
    /// The snapshot is not the image's.
    SnapshotChain,
    /// The request's root file system is not the container's snapshot.
    Rootfs,
    /// Root, gid 0 or root's groups.
    User,
    /// Capabilities beyond containerd's defaults.
    Capabilities,
    /// Host or foreign namespaces.
    Namespaces,
    /// A mount that is no allowed shape.
    Mounts,
    /// Host devices.
    Devices,
    /// OCI hooks.
    Hooks,
    /// Sysctls outside of the safe set.
    Sysctl,
    /// The request's seccomp section.
    Seccomp,
    /// Files of the image that a command may not have, and which it needs cannot be told.
    Landlock,
    /// Masked and read-only paths, AppArmor, SELinux and other sections that would loosen.
    Spec,
    /// A command that may not be exec'd.
    Exec,
}

impl Rule {
    /// All rules, for the test that compares code and page.
    pub const ALL: [Rule; 19] = [
        Rule::Policy,
        Rule::ImageScope,
        Rule::ImageDigest,
        Rule::ImageSignature,
        Rule::ImageMissing,
        Rule::ImageContents,
        Rule::SnapshotChain,
        Rule::Rootfs,
        Rule::User,
        Rule::Capabilities,
        Rule::Namespaces,
        Rule::Mounts,
        Rule::Devices,
        Rule::Hooks,
        Rule::Sysctl,
        Rule::Seccomp,
        Rule::Landlock,
        Rule::Spec,
        Rule::Exec,
    ];

    /// The section of docs/refusals.md.
    #[must_use]
    pub fn anchor(self) -> &'static str {
        match self {
            Rule::Policy => "policy",
            Rule::ImageScope => "image-scope",
            Rule::ImageDigest => "image-digest",
            Rule::ImageSignature => "image-signature",
            Rule::ImageMissing => "image-missing",
            Rule::ImageContents => "image-contents",
            Rule::SnapshotChain => "snapshot-chain",
            Rule::Rootfs => "rootfs",
            Rule::User => "user",
            Rule::Capabilities => "capabilities",
            Rule::Namespaces => "namespaces",
            Rule::Mounts => "mounts",
            Rule::Devices => "devices",
            Rule::Hooks => "hooks",
            Rule::Sysctl => "sysctl",
            Rule::Seccomp => "seccomp",
            Rule::Landlock => "landlock",
            Rule::Spec => "spec",
            Rule::Exec => "exec",
        }
    }
}

/// Policy said no: what, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// What was refused: `image registry.example/a@sha256:… has no accepted digest`.
    pub what: String,
    /// Why: what the rule wants and what was found.
    pub why: String,
    /// What whoever is allowed to can do about it.
    pub fix: String,
}

impl Refusal {
    /// A refusal; control characters, which are attacker input, become `?`.
    #[must_use]
    pub fn new(rule: Rule, what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        let clean =
            |text: String| -> String { text.chars().map(|c| if c.is_control() { '?' } else { c }).collect() };
        Self { rule, what: clean(what.into()), why: clean(why.into()), fix: clean(fix.into()) }
    }

    /// One line of at most [`LINE_BYTES_MAX`] bytes for containerd. What is too long is cut from `what`
    /// and `why`, never from the fix.
    #[must_use]
    pub fn line(&self) -> String {
        let see = format!("see: docs/refusals.md#{}", self.rule.anchor());
        let fix = cut(&self.fix, 260);
        let rest = LINE_BYTES_MAX - "bulkhead refused: ; why: ; fix: ; ".len() - see.len() - fix.len();
        let what = cut(&self.what, rest / 2);
        let why = cut(&self.why, rest - what.len());
        format!("bulkhead refused: {what}; why: {why}; fix: {fix}; {see}")
    }
}

/// The first `bytes_max` bytes of `text`, with an ellipsis where something is missing.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The form for people.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "refused: {}", self.what)?;
        writeln!(f, "  why: {}", self.why)?;
        writeln!(f, "  fix: {}", self.fix)?;
        write!(f, "  see: docs/refusals.md#{}", self.rule.anchor())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_keeps_fix_and_page_however_long_the_rest() {
        let refusal = Refusal::new(Rule::ImageDigest, "é".repeat(2000), "y".repeat(2000), "do this");
        let line = refusal.line();
        assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
        assert!(line.contains("fix: do this; see: docs/refusals.md#image-digest"));
    }

    #[test]
    fn attacker_text_cannot_forge_a_second_line() {
        let refusal = Refusal::new(Rule::Exec, "exec a\nrefused: nothing", "\x1b[2J", "none");
        assert!(!refusal.line().contains(['\n', '\x1b']));
        assert_eq!(refusal.to_string().lines().count(), 4);
    }

    #[test]
    fn every_rule_has_an_anchor_of_its_own() {
        let anchors: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|r| r.anchor()).collect();
        assert_eq!(anchors.len(), Rule::ALL.len());
    }
}
