#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use bulkhead_binding::{CriContainer, CriRecord, bind, example};
use bulkhead_model::{ContainerKind, Interaction, Level, MemfdRule, RootRule, Rule, Tenant, UserRule};
use oci_spec::runtime::Spec;
use proptest::prelude::*;

use super::*;

mod volumes;

/// As probes and hooks come.
const ALONE: Interaction = Interaction { stdin: false, tty: false };

const APP: &str = "registry.example/team-a/app:1";

fn request() -> CreateRequest {
    let namespace: bulkhead_model::Namespace = "team-a".parse().unwrap();
    CreateRequest {
        id: "c1".parse().unwrap(),
        tenant: Tenant { containerd_namespace: namespace.clone(), namespace },
        kind: ContainerKind::Plain,
        bundle: PathBuf::from("/bundle"),
        spec: Spec::default(),
        rootfs: Vec::new(),
    }
}

fn image_of(facts: &ImageFacts, claimed: &str, others: &[&str], cri: CriRecord) -> VerifiedImage {
    let mut observed = example::observed(facts, claimed);
    observed.names.extend(others.iter().map(|name| (*name).to_owned()));
    observed.claim.cri = cri;
    bind(facts, &observed, &observed.mounts.clone()).unwrap()
}

fn image(claimed: &str, others: &[&str]) -> VerifiedImage {
    image_of(&example::facts("app"), claimed, others, CriRecord::None)
}

fn pod_image(claimed: &str, others: &[&str]) -> VerifiedImage {
    let facts = example::facts("app");
    let record = CriContainer { config: facts.config, requested_name: None, image_volumes: [].into() };
    image_of(&facts, claimed, others, CriRecord::Container(record))
}

fn source(path: &str, body: &str) -> Source {
    let facts = example::facts("app");
    let text = body
        .replace("TARGET", &facts.target.to_string())
        .replace("MANIFEST", &facts.manifest.to_string())
        .replace("OTHER", &Digest::of(b"other").to_string());
    Source { path: PathBuf::from(path), text: format!("version = 1\n{text}") }
}

fn policy(node: &str) -> Policy {
    Policy::parse(&source("node.toml", node), None).unwrap()
}

fn policies(node: &str, tenant: &str) -> Policy {
    Policy::parse(&source("node.toml", node), Some(&source("tenant.toml", tenant))).unwrap()
}

fn refusal(policy: &Policy, image: &VerifiedImage) -> Refusal {
    policy.admit(image, &request()).unwrap_err()
}

const BY_TARGET: &str = "[image]\n\"registry.example/team-a/**\" = { digests = [\"TARGET\"] }";

#[test]
fn image_with_listed_index_or_manifest_is_admitted() {
    let by_manifest = BY_TARGET.replace("TARGET", "MANIFEST");
    for text in [BY_TARGET, &by_manifest] {
        let grant = policy(text).admit(&image(APP, &[]), &request()).unwrap();
        assert_eq!(grant.scope(), Some("registry.example/team-a/**"));
        assert_eq!(grant.confinement(), &built_in());
        assert_eq!(grant.would_refuse(), None);
    }
}

#[test]
fn image_with_other_digest_is_refused_and_told_which() {
    let refusal = refusal(&policy(&BY_TARGET.replace("TARGET", "OTHER")), &image(APP, &[]));
    assert_eq!(refusal.rule, Rule::ImageDigest);
    let target = example::facts("app").target;
    assert!(refusal.what.contains(&format!("{APP}@{target}")), "{}", refusal.what);
    assert!(refusal.why.contains("node.toml:3"), "{}", refusal.why);
    assert!(
        refusal.line().contains(&format!("add \"{target}\" to the digests in node.toml:3")),
        "{}",
        refusal.line()
    );
}

#[test]
fn config_digest_in_the_list_is_not_enough() {
    let config = example::facts("app").config.to_string();
    let refusal = refusal(&policy(&BY_TARGET.replace("TARGET", &config)), &image(APP, &[]));
    assert_eq!(refusal.rule, Rule::ImageDigest);
}

#[test]
fn image_outside_of_every_scope_is_refused_with_a_line_that_admits_it() {
    let refused = refusal(&policy("[image]"), &image(APP, &[]));
    assert_eq!(refused.rule, Rule::ImageScope);
    let line = refused
        .fix
        .strip_prefix("add ")
        .and_then(|fix| fix.split(" below [image] in node.toml").next())
        .unwrap();
    assert!(refused.line().contains(line), "the line for containerd was cut: {}", refused.line());
    let grant = policy(&format!("[image]\n{line}")).admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!(grant.scope(), Some("registry.example/team-a/app"));
}

#[test]
fn policy_without_scopes_refuses_all() {
    assert_eq!(refusal(&policy(""), &image(APP, &[])).rule, Rule::ImageScope);
    assert_eq!(refusal(&policies(BY_TARGET, ""), &image(APP, &[])).rule, Rule::ImageScope);
}

#[test]
fn most_specific_scope_decides_though_a_wider_one_would_admit() {
    let text = |specific: &str| {
        format!(
            "{BY_TARGET}\n\"registry.example/team-a/app\" = {{ digests = [\"{specific}\"] }}\n\"**\" = {{ digests = [\"TARGET\"] }}"
        )
    };
    assert_eq!(refusal(&policy(&text("OTHER")), &image(APP, &[])).rule, Rule::ImageDigest);
    let grant = policy(&text("TARGET")).admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!(grant.scope(), Some("registry.example/team-a/app"));
}

#[test]
fn another_name_that_a_scope_matches_must_pass_too() {
    let two = format!("{BY_TARGET}\n\"registry.example/team-b/**\" = {{ digests = [\"OTHER\"] }}");
    let beside = "registry.example/team-b/copy:1";
    assert!(policy(&two).admit(&image(APP, &[]), &request()).is_ok());
    assert_eq!(refusal(&policy(&two), &image(APP, &[beside])).rule, Rule::ImageDigest);
    assert_eq!(refusal(&policy(&two), &pod_image(APP, &[beside])).rule, Rule::ImageDigest);
}

#[test]
fn name_that_no_scope_matches_says_nothing() {
    let id = example::facts("app").config.to_string();
    let unlisted = ["registry.example/stranger:1", "not a name", id.as_str()];
    assert!(policy(BY_TARGET).admit(&image(APP, &unlisted), &request()).is_ok());
    assert!(policy(BY_TARGET).admit(&pod_image(APP, &unlisted), &request()).is_ok());
}

#[test]
fn in_cri_any_name_lets_the_image_in_and_outside_only_the_claimed_one() {
    let id = example::facts("app").config.to_string();
    for claimed in ["registry.example/stranger:1", "not a name", id.as_str()] {
        let grant = policy(BY_TARGET).admit(&pod_image(claimed, &[APP]), &request()).unwrap();
        assert_eq!(grant.scope(), Some("registry.example/team-a/**"));
        assert_eq!(refusal(&policy(BY_TARGET), &image(claimed, &[APP])).rule, Rule::ImageScope, "{claimed}");
    }
}

#[test]
fn image_must_pass_node_and_tenant_by_one_and_the_same_name() {
    let tenant = |scope: &str| format!("[image]\n{scope}");
    let by_name = policies(BY_TARGET, &tenant("\"registry.example/team-a/app\" = {}"));
    assert!(by_name.admit(&image(APP, &[]), &request()).is_ok());
    let other_digest = tenant("\"registry.example/team-a/app\" = { digests = [\"OTHER\"] }");
    assert_eq!(refusal(&policies(BY_TARGET, &other_digest), &image(APP, &[])).rule, Rule::ImageDigest);
    let other_name = policies(BY_TARGET, &tenant("\"registry.example/own/**\" = {}"));
    // A copy of the same bytes under the tenant's name: node admits by one name, tenant by the other.
    let copied = refusal(&other_name, &pod_image(APP, &["registry.example/own/copy:1"]));
    assert_eq!(copied.rule, Rule::ImageScope);
    assert!(
        copied.fix.starts_with("add \"registry.example/team-a/app\" = {} below [image] in tenant.toml"),
        "{}",
        copied.fix
    );
}

#[test]
fn several_sections_come_to_the_strictest_of_each_key() {
    let text = "[image]
\"registry.example/team-a/app\" = { digests = [\"TARGET\"], confine = \"wide\" }
\"registry.example/team-a/alias\" = { digests = [\"TARGET\"], confine = \"narrow\" }
[confine.default]
pids_max = 100
[confine.wide]
root = \"writable\"
exec = [\"*\"]
[confine.narrow]
memfd = \"allowed\"
exec = [\"/bin/true\"]";
    let both = policy(text).admit(&image(APP, &["registry.example/team-a/alias:1"]), &request()).unwrap();
    assert_eq!(both.confinement().root, RootRule::ReadOnly);
    assert_eq!(both.confinement().memfd, MemfdRule::Denied);
    assert_eq!(both.confinement().pids_max, 100);
    assert!(both.admit_exec(&["/bin/true".to_owned()], ALONE).is_ok());
    assert!(both.admit_exec(&["/bin/false".to_owned()], ALONE).is_err());
    let one = policy(text).admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!(one.confinement().root, RootRule::Writable);
    assert!(one.admit_exec(&["/bin/false".to_owned()], ALONE).is_ok());
}

#[test]
fn tenant_narrows_what_it_names_and_leaves_the_rest() {
    let node =
        format!("{BY_TARGET}\n[confine.default]\nmemfd = \"allowed\"\nuser = {{ force = 7 }}\npids_max = 50");
    let tenant =
        "[image]\n\"**\" = {}\n[confine.default]\npids_max = 9\nuser = { force = 8 }\nroot = \"writable\"";
    let grant = policies(&node, tenant).admit(&image(APP, &[]), &request()).unwrap();
    let confinement = grant.confinement();
    assert_eq!(confinement.memfd, MemfdRule::Allowed, "not named by the tenant");
    assert_eq!(confinement.pids_max, 9, "narrowed");
    assert_eq!(confinement.user, UserRule::NonRoot, "two different ids");
    assert_eq!(confinement.root, RootRule::ReadOnly, "a tenant cannot widen");
}

#[test]
fn audit_admits_and_carries_the_refusal() {
    let text = format!("mode = \"audit\"\n{}", BY_TARGET.replace("TARGET", "OTHER"));
    let grant = policy(&text).admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!(grant.would_refuse().map(|refusal| refusal.rule), Some(Rule::ImageDigest));
    let exec = grant.admit_exec(&["id".to_owned()], ALONE).unwrap();
    assert_eq!(exec.would_refuse().map(|refusal| refusal.rule), Some(Rule::Exec));
    let outside = policy("mode = \"audit\"").admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!(outside.would_refuse().map(|refusal| refusal.rule), Some(Rule::ImageScope));
    assert_eq!((outside.scope(), outside.mode()), (None, Mode::Audit));
}

#[test]
fn tenant_cannot_turn_enforce_into_audit_but_audit_into_enforce() {
    let audit = format!("mode = \"audit\"\n{BY_TARGET}");
    assert_eq!(policies(BY_TARGET, "mode = \"audit\"").mode(), Mode::Enforce);
    assert_eq!(policies(&audit, "mode = \"enforce\"").mode(), Mode::Enforce);
    assert_eq!(policies(&audit, "").mode(), Mode::Audit);
}

#[test]
fn exec_of_listed_command_is_admitted_and_of_any_other_refused_with_its_pattern() {
    let text = format!("{BY_TARGET}\n[confine.default]\nexec = [\"/bin/health *\"]");
    let grant = policy(&text).admit(&image(APP, &[]), &request()).unwrap();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert!(grant.admit_exec(&argv(&["/bin/health", "--live"]), ALONE).is_ok());
    let refusal = grant.admit_exec(&argv(&["sh", "-c", "id; id"]), ALONE).unwrap_err();
    assert_eq!(refusal.rule, Rule::Exec);
    assert!(
        refusal.fix.starts_with(r#"add "sh -c 'id; id'" to exec of [confine.default] in node.toml"#),
        "{}",
        refusal.fix
    );
}

#[test]
fn input_and_terminal_are_given_where_the_entry_says_so_and_the_refusal_writes_that_entry() {
    let asks = |keys: &str, interaction| {
        let text = format!("{BY_TARGET}\n[confine.default]\nexec = [{keys}]");
        policy(&text).admit(&image(APP, &[]), &request()).unwrap().admit_exec(&["sh".to_owned()], interaction)
    };
    let typed = Interaction { stdin: true, tty: false };
    assert!(asks("\"sh\"", ALONE).is_ok());
    let refusal = asks("\"sh\"", typed).unwrap_err();
    assert!(refusal.why.ends_with("allows it without standard input"), "{refusal}");
    let entry = "{ command = \"sh\", stdin = true }";
    assert!(refusal.fix.contains(&format!("add {entry} to exec of")), "{refusal}");
    assert!(asks(entry, typed).is_ok() && asks(entry, ALONE).is_ok());
    assert!(asks(entry, Interaction { stdin: false, tty: true }).is_err());
    assert!(asks(entry, Interaction::ALL).unwrap_err().fix.contains("stdin = true, tty = true"));
    for all in ["\"*\"", "{ command = [\"sh\", \"*\"], stdin = true, tty = true }"] {
        assert!(asks(all, Interaction::ALL).is_ok(), "{all}");
    }
    assert!(asks("{ command = \"*\" }", typed).is_err());
}

#[test]
fn exec_is_judged_by_the_policy_of_its_moment() {
    let before = policy(&format!("{BY_TARGET}\n[confine.default]\nexec = [\"id\"]"));
    let (image, argv) = (image(APP, &[]), ["id".to_owned()]);
    assert!(before.admit_exec(&image, &request(), &argv, ALONE).is_ok());
    assert_eq!(policy(BY_TARGET).admit_exec(&image, &request(), &argv, ALONE).unwrap_err().rule, Rule::Exec);
    assert_eq!(policy("").admit_exec(&image, &request(), &argv, ALONE).unwrap_err().rule, Rule::ImageScope);
}

#[test]
fn tenant_whose_list_lacks_a_command_is_named_in_the_refusal() {
    let node = format!("{BY_TARGET}\n[confine.default]\nexec = [\"*\"]");
    let tenant = "[image]\n\"**\" = { confine = \"web\" }\n[confine.web]\nexec = [\"id\"]";
    let grant = policies(&node, tenant).admit(&image(APP, &[]), &request()).unwrap();
    assert!(grant.admit_exec(&["id".to_owned()], ALONE).is_ok());
    let refusal = grant.admit_exec(&["sh".to_owned()], ALONE).unwrap_err();
    assert!(refusal.fix.contains("[confine.web] in tenant.toml"), "{}", refusal.fix);
}

#[test]
fn hash_changes_with_either_text_and_with_its_place() {
    let (one, two) = (source("a", ""), source("b", "mode = \"audit\""));
    let hash = |node, tenant| Policy::parse(node, tenant).unwrap().hash();
    let hashes = [
        hash(&one, None),
        hash(&two, None),
        hash(&one, Some(&two)),
        hash(&two, Some(&one)),
        hash(&one, Some(&one)),
    ];
    for (index, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..index].contains(hash), "{index}");
    }
    assert_eq!(hash(&one, None), hash(&source("elsewhere", ""), None));
}

#[test]
fn preview_says_what_admit_would() {
    let facts = example::facts("app");
    let policy = policy(BY_TARGET);
    let preview = policy.preview(&facts, None, APP, &"default".parse().unwrap()).unwrap();
    let grant = policy.admit(&image(APP, &[]), &request()).unwrap();
    assert_eq!((preview.scope(), preview.confinement()), (grant.scope(), grant.confinement()));
    let other = example::facts("other");
    assert_eq!(
        policy.preview(&other, None, APP, &"default".parse().unwrap()).unwrap_err().rule,
        Rule::ImageDigest
    );
}

const INFRA: &str = "[image]\n\"registry.example/team-a/**\" = { digests = [\"TARGET\"], confine = \"infra\" }\n\
    [confine.infra]\nlevel = \"compatible\"\nnamespaces = [\"NAMESPACE\"]";

fn level(policy: &Policy, image: &VerifiedImage) -> Level {
    policy.admit(image, &request()).unwrap().confinement().level
}

#[test]
fn compatible_level_is_for_the_tenants_that_it_names_and_hardened_for_all_others() {
    let image = image(APP, &[]);
    let tenant = request().tenant.namespace;
    for (namespace, wanted) in
        [(tenant.as_str(), Level::Compatible), ("*", Level::Compatible), ("other", Level::Hardened)]
    {
        let text = INFRA.replace("NAMESPACE", namespace);
        assert_eq!(level(&policy(&text), &image), wanted, "{namespace}");
        // The tenant's own file may leave it, take it back, or narrow any other key, which takes it back as well.
        let scope = "[image]\n\"registry.example/team-a/**\" = {}\n[confine.default]\n";
        for (keys, kept) in [
            ("", true),
            ("exec = [\"a\"]", true),
            ("hooks = []", true),
            ("level = \"hardened\"", false),
            ("root = \"read-only\"", false),
            ("pids_max = 10", false),
            ("tmpfs = []", false),
        ] {
            let wanted = if kept { wanted } else { Level::Hardened };
            assert_eq!(
                level(&policies(&text, &format!("{scope}{keys}")), &image),
                wanted,
                "{namespace} {keys}"
            );
        }
    }
}

#[test]
fn image_that_another_scope_hardens_by_another_name_is_hardened() {
    let text = INFRA.replace("NAMESPACE", "*");
    let two =
        text.replace("[confine.infra]", "\"r.example/b\" = { digests = [\"TARGET\"] }\n[confine.infra]");
    assert_eq!(level(&policy(&two), &image(APP, &[])), Level::Compatible);
    assert_eq!(level(&policy(&two), &image(APP, &["r.example/b:1"])), Level::Hardened);
}

#[test]
fn audit_runs_what_it_would_refuse_at_the_hardened_level() {
    let text = format!("mode = \"audit\"\n{}", INFRA.replace("NAMESPACE", "*"));
    assert_eq!(level(&policy(&text), &image(APP, &[])), Level::Compatible);
    let other = policy(&text.replace("TARGET", "OTHER"));
    let grant = other.admit(&image(APP, &[]), &request()).unwrap();
    assert!(grant.would_refuse().is_some());
    assert_eq!(grant.confinement().level, Level::Hardened);
}

/// Digests and names small enough that scopes, lists and images meet often.
fn lines() -> impl Strategy<Value = String> {
    let scope =
        prop::sample::select(vec!["r.example/a", "r.example/*", "r.example/**", "**", "r.example/b/c"]);
    let digests = prop::sample::subsequence(vec!["TARGET", "MANIFEST", "OTHER"], 1..=3);
    prop::collection::btree_map(scope, digests, 0..4).prop_map(|scopes| {
        let line =
            |(scope, digests): (&str, Vec<&str>)| format!("\"{scope}\" = {{ digests = {digests:?} }}\n");
        scopes.into_iter().map(line).collect()
    })
}

fn images() -> impl Strategy<Value = VerifiedImage> {
    let name = || {
        prop::sample::select(vec![
            "r.example/a:1",
            "r.example/b/c:1",
            "r.example/b:2",
            "other.example/x",
            "?",
        ])
    };
    (name(), prop::collection::vec(name(), 0..3), any::<bool>()).prop_map(|(claimed, others, pod)| {
        if pod { pod_image(claimed, &others) } else { image(claimed, &others) }
    })
}

proptest! {
    #[test]
    fn tenant_file_never_turns_a_refusal_into_a_grant(node in lines(), tenant in lines(), image in images()) {
        let (node, tenant) = (format!("[image]\n{node}"), format!("[image]\n{tenant}"));
        if policies(&node, &tenant).admit(&image, &request()).is_ok() {
            prop_assert!(policy(&node).admit(&image, &request()).is_ok());
            prop_assert!(policy(&tenant).admit(&image, &request()).is_ok());
        }
    }

    #[test]
    fn shorter_digest_list_never_turns_a_refusal_into_a_grant(node in lines(), image in images()) {
        let wide = format!("[image]\n{node}");
        for dropped in ["\"TARGET\", ", "\"MANIFEST\", ", ", \"MANIFEST\"", ", \"OTHER\""] {
            if policy(&wide.replace(dropped, "")).admit(&image, &request()).is_ok() {
                prop_assert!(policy(&wide).admit(&image, &request()).is_ok());
            }
        }
    }

    #[test]
    fn image_whose_digests_no_line_lists_is_refused_whatever_its_names(node in lines(), image in images()) {
        let policy = policy(&format!("[image]\n{node}"));
        let facts = image.facts();
        let listed = node.contains("TARGET") || node.contains("MANIFEST");
        if policy.admit(&image, &request()).is_ok() {
            prop_assert!(listed, "{} admitted by a policy that lists none of its digests", facts.target);
        }
    }
}
