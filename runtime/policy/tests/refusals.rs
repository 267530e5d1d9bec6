//! docs/refusals.md and the code agree: every rule has its section, and the examples of policy are what it says.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use bulkhead_binding::{bind, example};
use bulkhead_model::{ContainerKind, CreateRequest, Digest, Refusal, Rule, Tenant};
use bulkhead_policy::{Policy, Source};

const PAGE: &str = include_str!("../../../docs/refusals.md");

const NODE: &str = "/etc/bulkhead/policy.toml";

/// Title and text of every section.
fn sections() -> Vec<(&'static str, &'static str)> {
    PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

/// The page's example of a rule.
fn example_of(rule: Rule) -> String {
    let (_, text) = sections().into_iter().find(|(title, _)| *title == rule.anchor()).unwrap();
    text.split("```text\n").nth(1).unwrap().split("\n```").next().unwrap().to_owned()
}

/// Digests are as long as they are, and of the test: the page shortens those that teach nothing.
fn shortened(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split("sha256:") {
        let hex = word.chars().take_while(char::is_ascii_hexdigit).count();
        let rest = if hex == 64 { &word[64..] } else { word.strip_prefix('…').unwrap_or(word) };
        words.push(if words.is_empty() { word.to_owned() } else { format!("…{rest}") });
    }
    words.join("sha256:")
}

#[test]
fn every_rule_has_its_section_in_order_and_nothing_else_has() {
    let titles: Vec<&str> = sections().into_iter().map(|(title, _)| title).collect();
    assert_eq!(titles, Rule::ALL.map(Rule::anchor));
}

#[test]
fn every_section_has_cause_example_and_fix_and_the_example_is_of_its_rule() {
    for (title, text) in sections() {
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{title} has no {what}"));
        assert!(at("**Cause.** ") < at("**Example.**") && at("**Example.**") < at("**Fix.** "), "{title}");
        let rule = Rule::ALL.into_iter().find(|rule| rule.anchor() == title).unwrap();
        let example = example_of(rule);
        let lines: Vec<&str> = example.lines().collect();
        assert_eq!(lines.len(), 4, "{title}");
        for (line, prefix) in lines.iter().zip(["refused: ", "  why: ", "  fix: ", "  see: "]) {
            assert!(line.starts_with(prefix), "{title}: {line}");
        }
        assert_eq!(lines[3], format!("  see: docs/refusals.md#{title}"));
    }
}

fn source(text: &str) -> Source {
    Source { path: PathBuf::from(NODE), text: text.to_owned() }
}

fn admit(node: &str, exec: Option<&[&str]>) -> Refusal {
    let facts = example::facts("app");
    let facts = bulkhead_model::ImageFacts { manifest: facts.target, ..facts };
    let observed = example::observed(&facts, "registry.example/team-a/app:1");
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    let namespace: bulkhead_model::Namespace = "default".parse().unwrap();
    let request = CreateRequest {
        id: "c1".parse().unwrap(),
        tenant: Tenant { containerd_namespace: namespace.clone(), namespace },
        kind: ContainerKind::Plain,
        bundle: PathBuf::from("/bundle"),
        spec: oci_spec::runtime::Spec::default(),
        rootfs: Vec::new(),
    };
    let policy = Policy::parse(&source(&node.replace("TARGET", &facts.target.to_string())), None).unwrap();
    match exec {
        None => policy.admit(&image, &request).unwrap_err(),
        Some(argv) => {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            policy.admit_exec(&image, &request, &argv, bulkhead_model::Interaction::default()).unwrap_err()
        }
    }
}

#[test]
fn examples_of_policy_are_what_it_says() {
    let broken = Policy::parse(&source("version = 1\n\n[image]\n[conifne.web]"), None).unwrap_err();
    let scope = |digest: &str| {
        format!("version = 1\n[image]\n\"registry.example/team-a/**\" = {{ digests = [\"{digest}\"] }}")
    };
    let signed = |digest: &str| {
        let rule = "[rule.signed-by-ci]\nkeys = [\"keys/team-a.pub\"]";
        format!(
            "{}\n{rule}",
            scope(digest).replace("digests = [", "require = [").replace(digest, "signed-by-ci")
        )
    };
    for refusal in [
        Refusal::from(broken),
        admit("version = 1", None),
        admit(&scope(&Digest::of(b"another").to_string()), None),
        admit(&signed("TARGET"), None),
        admit(&scope("TARGET"), Some(&["sh", "-c", "id; id"])),
    ] {
        assert_eq!(shortened(&example_of(refusal.rule)), shortened(&refusal.to_string()));
    }
}
