//! What `contents` of a scope wants, against what was found about the layers.

use std::path::Path;

use bulkhead_model::{ContentsFacts, ContentsFlaw, ContentsRule, Refusal, Rule};

use crate::{parse::ScopeRow, strict::Stricter};

/// `rehash` < `receipt` < `chain`.
impl Stricter for ContentsRule {
    fn stricter(&self, other: &Self) -> Self {
        *self.max(other)
    }
}

/// Refuses layers about which less is known than the scope wants.
pub(crate) fn check(
    row: &ScopeRow,
    path: &Path,
    found: &ContentsFacts,
    subject: &str,
) -> Result<(), Refusal> {
    if found.satisfy(row.contents()) {
        return Ok(());
    }
    let place = format!("scope \"{}\" ({}:{})", row.scope, path.display(), row.line);
    let refuse = |why: String, fix: &str| Err(Refusal::new(Rule::ImageContents, subject, why, fix));
    let flaw = match found {
        ContentsFacts::Unproven(flaw) => flaw,
        ContentsFacts::Chain | ContentsFacts::Receipt | ContentsFacts::Compared => {
            return refuse(
                format!(
                    "{place} wants contents = \"{}\", and the layers were not compared for it",
                    word(row.contents())
                ),
                "create the container anew under this policy; the image of a volume cannot be compared in this version",
            );
        }
    };
    match flaw {
        ContentsFlaw::Different { layer, chain, path, what } => refuse(
            format!("file {path} of layer {layer} (snapshot {chain}) {what}"),
            "look for whoever changed it; then remove the image with its snapshots and pull it again",
        ),
        ContentsFlaw::Tar { layer, blob, why } => refuse(
            format!("layer {layer} ({blob}) {why}"),
            "build the image again with a tool whose layers containerd unpacks",
        ),
        ContentsFlaw::Spoilt { blob } => refuse(
            format!(
                "{blob} in containerd's content store does not hash to its name: it is damaged or was changed"
            ),
            "remove the image with its content (ctr content rm), look for whoever changed it, and pull it again",
        ),
        ContentsFlaw::Missing { layer, blob } => refuse(
            format!(
                "the blob of layer {layer} ({blob}) is not in containerd's content store, so that {place} has nothing \
                 to compare the layer with"
            ),
            "set discard_unpacked_layers = false in containerd's CRI plugin and pull the image again, or write \
             contents = \"chain\"",
        ),
        ContentsFlaw::OwnLayer { path } => refuse(
            format!(
                "the container's own layer has {path} before its first process, which is not the image's"
            ),
            "create the container anew: one that has written to its root is not started again",
        ),
        ContentsFlaw::Snapshotter { why } => refuse(
            format!("its layers cannot be compared with their tars, as {place} wants: {why}"),
            "use containerd's overlayfs snapshotter, or write contents = \"chain\"",
        ),
    }
}

fn word(rule: ContentsRule) -> &'static str {
    match rule {
        ContentsRule::Chain => "chain",
        ContentsRule::Receipt => "receipt",
        ContentsRule::Rehash => "rehash",
    }
}
