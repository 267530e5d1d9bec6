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

/// What is known of an image's files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known<'i> {
    /// This, of an image that is to run or to be mounted as a volume.
    Image(&'i ContentsFacts),
    /// People ask, who have no container.
    Unasked,
}

/// Refuses layers about which less is known than the scope wants.
pub(crate) fn check(row: &ScopeRow, path: &Path, known: Known<'_>, subject: &str) -> Result<(), Refusal> {
    let (found, rule) = match known {
        Known::Image(found) => (found, row.contents()),
        Known::Unasked => return Ok(()),
    };
    if found.satisfy(rule) {
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
                    word(rule)
                ),
                "create the container anew under this policy",
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_binding::{VerifiedImage, bind, example};
    use bulkhead_model::{ContainerKind, CreateRequest, Digest, Tenant};
    use oci_spec::runtime::Spec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Needs, Policy, Source};

    const NAME: &str = "registry.example/team-a/app:1";

    fn image(found: ContentsFacts) -> VerifiedImage {
        let facts = example::facts("app");
        let observed = example::observed(&facts, NAME);
        bind(&facts, &observed, &observed.mounts.clone()).unwrap().with_contents(found)
    }

    fn policy(node: &str, tenant: Option<&str>) -> Policy {
        let digest = example::facts("app").target;
        let source = |path: &str, keys: &str| Source {
            path: path.into(),
            text: format!("version = 1\n[image]\n\"registry.example/team-a/*\" = {{ {keys} }}\n"),
        };
        let node = source("/etc/bulkhead/policy.toml", &format!("digests = [\"{digest}\"]{node}"));
        let tenant = tenant.map(|keys| source("/etc/bulkhead/tenants/team-a.toml", keys));
        Policy::parse(&node, tenant.as_ref()).unwrap()
    }

    fn asked() -> CreateRequest {
        let namespace: bulkhead_model::Namespace = "team-a".parse().unwrap();
        CreateRequest {
            id: "c1".parse().unwrap(),
            tenant: Tenant { containerd_namespace: namespace.clone(), namespace },
            kind: ContainerKind::Plain,
            bundle: "/bundle".into(),
            spec: Spec::default(),
            rootfs: Vec::new(),
        }
    }

    #[test]
    fn node_and_tenant_come_to_the_stricter() {
        for (node, tenant, wanted) in [
            ("", None, ContentsRule::Chain),
            (", contents = \"chain\"", Some("contents = \"rehash\""), ContentsRule::Rehash),
            (", contents = \"receipt\"", Some("contents = \"chain\""), ContentsRule::Receipt),
            (", contents = \"receipt\"", Some(""), ContentsRule::Receipt),
            (", contents = \"rehash\"", Some("contents = \"receipt\""), ContentsRule::Rehash),
        ] {
            let policy = policy(node, tenant);
            assert_eq!(
                policy.contents_rules(&image(ContentsFacts::Chain), &asked()).image,
                wanted,
                "{node} {tenant:?}"
            );
            for (found, proven) in [
                (ContentsFacts::Chain, ContentsRule::Chain),
                (ContentsFacts::Receipt, ContentsRule::Receipt),
                (ContentsFacts::Compared, ContentsRule::Rehash),
            ] {
                let admitted = policy.admit(&image(found.clone()), &asked());
                assert_eq!(admitted.is_ok(), proven >= wanted, "{node} {tenant:?} {found:?}");
            }
        }
    }

    #[test]
    fn needs_are_those_of_node_and_tenant_and_none_where_one_has_no_scope() {
        let needs = |node, tenant| policy(node, tenant).needs(NAME);
        let plain = Needs { signatures: false, contents: ContentsRule::Chain };
        assert_eq!(needs("", None), Some(plain));
        assert_eq!(
            needs("", Some("contents = \"rehash\"")),
            Some(Needs { contents: ContentsRule::Rehash, ..plain })
        );
        assert_eq!(policy("", None).needs("registry.example/team-b/app:1"), None);
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let signed = "version = 1\n[image]\n\"registry.example/team-a/*\" = { require = [\"ci\"] }\n[rule.ci]\nkeys = [\"a.pub\"]\n";
        let node = source("/etc/bulkhead/policy.toml", signed);
        let asks = Needs { signatures: true, contents: ContentsRule::Receipt };
        assert_eq!(Policy::parse(&node, None).unwrap().needs(NAME), Some(asks));
        let stranger = source("/t.toml", "version = 1\n[image]\n\"registry.example/team-b/*\" = {}\n");
        assert_eq!(Policy::parse(&node, Some(&stranger)).unwrap().needs(NAME), None);
    }

    #[test]
    fn nothing_is_compared_for_an_image_that_is_refused_anyway() {
        let facts = example::facts("other");
        let observed = example::observed(&facts, NAME);
        let other = bind(&facts, &observed, &observed.mounts.clone()).unwrap();
        let policy = policy(", contents = \"rehash\"", None);
        assert_eq!(policy.contents_rules(&other, &asked()).image, ContentsRule::Chain);
        assert_eq!(policy.admit(&other, &asked()).unwrap_err().rule, Rule::ImageDigest);
    }

    #[test]
    fn what_is_not_proven_is_named_and_refused_unless_the_chain_is_enough() {
        let digest = Digest::of(b"x");
        let flaws = [
            (
                ContentsFlaw::Different {
                    layer: 3,
                    chain: digest,
                    path: "/etc/passwd".to_owned(),
                    what: "has mode 0666, the image says 0644".to_owned(),
                },
                "file /etc/passwd of layer 3",
            ),
            (ContentsFlaw::Tar { layer: 1, blob: digest, why: "has a damaged header".to_owned() }, "damaged"),
            (ContentsFlaw::Spoilt { blob: digest }, "does not hash to its name"),
            (ContentsFlaw::Missing { layer: 2, blob: digest }, "the blob of layer 2"),
            (ContentsFlaw::OwnLayer { path: "/bin/evil".to_owned() }, "own layer has /bin/evil"),
            (ContentsFlaw::Snapshotter { why: "it is a FUSE mount".to_owned() }, "it is a FUSE mount"),
        ];
        for (flaw, said) in flaws {
            let image = image(ContentsFacts::Unproven(flaw));
            let refusal = policy(", contents = \"receipt\"", None).admit(&image, &asked()).unwrap_err();
            assert_eq!(refusal.rule, Rule::ImageContents);
            assert!(refusal.why.contains(said), "{}", refusal.why);
            assert!(policy("", None).admit(&image, &asked()).is_ok());
        }
    }

    fn any_rule() -> impl Strategy<Value = ContentsRule> {
        prop_oneof![Just(ContentsRule::Chain), Just(ContentsRule::Receipt), Just(ContentsRule::Rehash)]
    }

    proptest! {
        #[test]
        fn stricter_admits_what_both_admit(one in any_rule(), two in any_rule()) {
            let both = one.stricter(&two);
            prop_assert_eq!(both, two.stricter(&one));
            for found in [ContentsFacts::Chain, ContentsFacts::Receipt, ContentsFacts::Compared] {
                prop_assert_eq!(found.satisfy(both), found.satisfy(one) && found.satisfy(two));
            }
        }
    }
}
