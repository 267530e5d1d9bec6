#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bulkhead_binding::{VerifiedImage, bind, example};
use bulkhead_model::{
    ContainerKind, ContentsFacts, CreateRequest, Digest, LogEvidence, PublicKey, Refusal, RejectedSignature,
    RootFile, Rule, Signature, SignatureFacts, SignatureFormat, Signer, Tenant, TrustMaterial,
};
use oci_spec::runtime::Spec;
use proptest::{prelude::*, sample::select};

use crate::{Policy, Source};

const APP: &str = "registry.example/team-a/app:1";
const ISSUER: &str = "https://issuer.example";
const KEYED: &str = "[image]\n\"registry.example/team-a/**\" = { require = [\"ci\"] }\n\
                     [rule.ci]\nkeys = [\"keys/a.pub\"]\n";
const KEYLESS: &str = "[image]\n\"**\" = { require = [\"ci\"] }\n[rule.ci]\n\
    keyless = [{ issuer = \"https://issuer.example\", identity = \"https://ci.example/team-a/*\" },\n\
               { issuer = \"https://other.example\", identity = \"https://ci.example/team-b/*\" }]\n\
    [trust]\nroots = [\"root.json\"]\nroot_age_days_max = 30\n";

fn key(name: &str) -> PublicKey {
    PublicKey::from_der(name.as_bytes().to_vec()).unwrap()
}

fn root() -> RootFile {
    RootFile::new(b"root".to_vec(), Duration::from_secs(29 * 86_400))
}

fn policy(node: &str, tenant: Option<&str>) -> Policy {
    let source =
        |path: &str, text: &str| Source { path: PathBuf::from(path), text: format!("version = 1\n{text}") };
    let tenant = tenant.map(|tenant| source("tenant.toml", tenant));
    let material = TrustMaterial {
        keys: ["keys/a.pub", "keys/b.pub"].map(|name| (name.to_owned(), key(name))).into(),
        roots: [("root.json".to_owned(), root())].into(),
    };
    Policy::parse(&source("node.toml", node), tenant.as_ref()).unwrap().with_material(material)
}

fn signature(signer: Signer) -> Signature {
    let facts = example::facts("app");
    Signature {
        blob: Digest::of(format!("{signer:?}").as_bytes()),
        subject: facts.target,
        format: SignatureFormat::Bundle,
        signer,
        log: None,
        timestamp: None,
        predicate_type: None,
        repository: None,
    }
}

fn by_key(name: &str) -> Signature {
    signature(Signer::Key { fingerprint: key(name).fingerprint() })
}

fn by_certificate(issuer: &str, identity: &str) -> Signature {
    let signer =
        Signer::Certificate { issuer: issuer.to_owned(), identity: identity.to_owned(), root: root().digest };
    logged(signature(signer))
}

fn logged(signature: Signature) -> Signature {
    let log = LogEvidence { root: root().digest, log_id: "00".to_owned(), index: 1, integrated_at: None };
    Signature { log: Some(log), ..signature }
}

fn image(signatures: Vec<Signature>) -> VerifiedImage {
    let facts = example::facts("app");
    let observed = example::observed(&facts, APP);
    let image = bind(&facts, &observed, &observed.mounts.clone()).unwrap();
    let found = SignatureFacts { signatures, rejected: Vec::new() };
    // A scope that requires a signature wants the layers compared as well.
    image.with_signatures(BTreeMap::from([(facts.target, found)])).with_contents(ContentsFacts::Receipt)
}

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

fn admits(policy: &Policy, signatures: Vec<Signature>) -> bool {
    policy.admit(&image(signatures), &request()).is_ok()
}

fn refusal(policy: &Policy, signatures: Vec<Signature>) -> Refusal {
    let refusal = policy.admit(&image(signatures), &request()).unwrap_err();
    assert_eq!(refusal.rule, Rule::ImageSignature);
    refusal
}

#[test]
fn image_signed_by_the_key_of_its_scope_is_admitted_and_the_grant_says_by_whom() {
    let policy = policy(KEYED, None);
    let grant = policy.admit(&image(vec![by_key("keys/b.pub"), by_key("keys/a.pub")]), &request()).unwrap();
    assert_eq!(grant.accepted().len(), 1);
    assert_eq!(grant.accepted()[0].rule, "ci");
    assert_eq!(grant.accepted()[0].signer, by_key("keys/a.pub").signer);
}

#[test]
fn image_signed_by_another_tenants_key_is_refused_by_the_names_of_both() {
    let refusal = refusal(&policy(KEYED, None), vec![by_key("keys/b.pub")]);
    let fingerprint = key("keys/b.pub").fingerprint().to_string();
    for part in ["[rule.ci]", "keys/a.pub", &fingerprint, "keys/b.pub"] {
        assert!(refusal.why.contains(part), "{part}: {}", refusal.why);
    }
}

#[test]
fn unsigned_image_is_refused_with_the_command_that_fetches_signatures() {
    let policy = policy(KEYED, None);
    let refused = refusal(&policy, Vec::new());
    assert!(refused.why.contains("no signature of it is known"), "{}", refused.why);
    assert!(refused.fix.contains(&format!("bulkhead trust fetch {APP}")), "{}", refused.fix);
    // The same where nobody looked.
    let facts = example::facts("app");
    let observed = example::observed(&facts, APP);
    let image = bind(&facts, &observed, &observed.mounts.clone()).unwrap();
    assert!(policy.needs_signatures(&image));
    assert_eq!(policy.admit(&image, &request()).unwrap_err().rule, Rule::ImageSignature);
}

#[test]
fn why_a_signature_counts_for_nothing_is_said() {
    let facts = example::facts("app");
    let observed = example::observed(&facts, APP);
    let rejected = RejectedSignature { blob: Digest::of(b"x"), why: "it is about another image".to_owned() };
    let found = SignatureFacts { signatures: Vec::new(), rejected: vec![rejected] };
    let image = bind(&facts, &observed, &observed.mounts.clone())
        .unwrap()
        .with_signatures(BTreeMap::from([(facts.target, found)]));
    let refusal = policy(KEYED, None).admit(&image, &request()).unwrap_err();
    assert!(refusal.why.contains("it is about another image"), "{}", refusal.why);
}

#[test]
fn signatures_of_another_image_do_not_count() {
    let facts = example::facts("app");
    let observed = example::observed(&facts, APP);
    let found = SignatureFacts { signatures: vec![by_key("keys/a.pub")], rejected: Vec::new() };
    let image = bind(&facts, &observed, &observed.mounts.clone())
        .unwrap()
        .with_signatures(BTreeMap::from([(Digest::of(b"other"), found)]));
    assert_eq!(policy(KEYED, None).admit(&image, &request()).unwrap_err().rule, Rule::ImageSignature);
}

#[test]
fn key_that_was_not_read_passes_no_rule() {
    let bare = policy(KEYED, None).with_material(TrustMaterial::default());
    assert!(!admits(&bare, vec![by_key("keys/a.pub")]));
}

#[test]
fn attestation_is_no_signature() {
    let mut sbom = by_key("keys/a.pub");
    sbom.predicate_type = Some("https://spdx.dev/Document".to_owned());
    assert!(!admits(&policy(KEYED, None), vec![sbom]));
    let mut signed = by_key("keys/a.pub");
    signed.predicate_type = Some(bulkhead_model::COSIGN_SIGN_PREDICATE.to_owned());
    assert!(admits(&policy(KEYED, None), vec![signed]));
}

#[test]
fn log_is_asked_of_keys_where_the_rule_says_so_and_of_certificates_unless_it_says_not() {
    let required = format!("{KEYED}transparency_log = \"required\"\n");
    assert!(!admits(&policy(&required, None), vec![by_key("keys/a.pub")]));
    assert!(admits(&policy(&required, None), vec![logged(by_key("keys/a.pub"))]));
    let certified = by_certificate(ISSUER, "https://ci.example/team-a/app");
    let unlogged = Signature { log: None, ..certified.clone() };
    assert!(admits(&policy(KEYLESS, None), vec![certified]));
    assert!(!admits(&policy(KEYLESS, None), vec![unlogged.clone()]));
    let optional = KEYLESS.replace("[trust]", "transparency_log = \"optional\"\n[trust]");
    assert!(admits(&policy(&optional, None), vec![unlogged]));
}

#[test]
fn issuer_and_identity_of_two_entries_do_not_make_one() {
    let policy = policy(KEYLESS, None);
    for (issuer, identity, good) in [
        (ISSUER, "https://ci.example/team-a/app", true),
        ("https://other.example", "https://ci.example/team-b/app", true),
        (ISSUER, "https://ci.example/team-b/app", false),
        ("https://other.example", "https://ci.example/team-a/app", false),
        (ISSUER, "https://ci.example/team-a/app/deeper", false),
        ("https://issuer.example.evil", "https://ci.example/team-a/app", false),
    ] {
        assert_eq!(admits(&policy, vec![by_certificate(issuer, identity)]), good, "{issuer} {identity}");
    }
    // Nor do two signatures.
    let mixed = vec![
        by_certificate(ISSUER, "https://ci.example/team-b/app"),
        by_certificate("https://other.example", "https://ci.example/team-a/app"),
    ];
    assert!(!admits(&policy, mixed));
}

#[test]
fn root_that_is_too_old_or_unknown_vouches_for_nobody() {
    let certified = vec![by_certificate(ISSUER, "https://ci.example/team-a/app")];
    let young = policy(KEYLESS, None);
    assert!(admits(&young, certified.clone()));
    let old = policy(&KEYLESS.replace("= 30", "= 28"), None);
    assert!(refusal(&old, certified.clone()).why.contains("29 days old"));
    let mut material = young.material().clone();
    material.roots.clear();
    assert!(!admits(&young.with_material(material), certified));
    let keyed = format!("{KEYED}transparency_log = \"required\"\n[trust]\nroots = [\"root.json\"]\n");
    let logged = || vec![logged(by_key("keys/a.pub"))];
    assert!(admits(&policy(&format!("{keyed}root_age_days_max = 30"), None), logged()));
    assert!(!admits(&policy(&format!("{keyed}root_age_days_max = 28"), None), logged()));
}

#[test]
fn digests_and_require_must_both_hold() {
    let digest = example::facts("app").manifest;
    let both = |digest: Digest| KEYED.replace("{ require", &format!("{{ digests = [\"{digest}\"], require"));
    assert!(admits(&policy(&both(digest), None), vec![by_key("keys/a.pub")]));
    assert!(!admits(&policy(&both(digest), None), Vec::new()));
    assert!(!admits(&policy(&both(Digest::of(b"other")), None), vec![by_key("keys/a.pub")]));
}

#[test]
fn node_and_tenant_must_both_be_satisfied() {
    let tenant = KEYED.replace("a.pub", "b.pub");
    let both = policy(KEYED, Some(&tenant));
    assert!(!admits(&both, vec![by_key("keys/a.pub")]));
    assert!(!admits(&both, vec![by_key("keys/b.pub")]));
    let grant = both.admit(&image(vec![by_key("keys/a.pub"), by_key("keys/b.pub")]), &request()).unwrap();
    assert_eq!(grant.accepted().len(), 2);
    // A rule of the tenant's cannot stand in for the node's of the same name.
    assert_eq!(refusal(&both, vec![by_key("keys/b.pub")]).rule, Rule::ImageSignature);
}

#[test]
fn every_name_asks_for_its_own_signer() {
    let two = format!("{KEYED}[rule.other]\nkeys = [\"keys/b.pub\"]\n")
        .replace("[rule.ci]", "\"registry.example/team-b/**\" = { require = [\"other\"] }\n[rule.ci]");
    let facts = example::facts("app");
    let mut observed = example::observed(&facts, APP);
    observed.names.insert("registry.example/team-b/copy:1".to_owned());
    let image = |signatures| {
        let found = SignatureFacts { signatures, rejected: Vec::new() };
        bind(&facts, &observed, &observed.mounts.clone())
            .unwrap()
            .with_signatures(BTreeMap::from([(facts.target, found)]))
            .with_contents(ContentsFacts::Receipt)
    };
    let policy = policy(&two, None);
    assert!(policy.admit(&image(vec![by_key("keys/a.pub")]), &request()).is_err());
    assert!(policy.admit(&image(vec![by_key("keys/a.pub"), by_key("keys/b.pub")]), &request()).is_ok());
}

#[test]
fn rules_that_say_nothing_or_too_much_are_no_policy() {
    let scope = "[image]\n\"**\" = { require = [\"ci\"] }\n";
    let problem = |text: &str| {
        let source = Source { path: PathBuf::from("p"), text: format!("version = 1\n{text}") };
        Policy::parse(&source, None).unwrap_err().to_string()
    };
    for (rule, wanted) in [
        ("[rule.ci]", "passed by nobody"),
        ("[rule.ci]\nkeys = []", "`keys`"),
        ("[rule.ci]\nkeys = [\"/etc/a.pub\"]", "/etc/a.pub"),
        ("[rule.ci]\nkeys = [\"../a.pub\"]", "../a.pub"),
        ("[rule.ci]\nkeys = [\"a.pub\", \"a.pub\"]", "a.pub"),
        ("[rule.ci]\nkeyless = [{ issuer = \"https://a\" }]", "no `identity`"),
        ("[rule.ci]\nkeyless = [{ identity = \"a\" }]", "no `issuer`"),
        ("[rule.ci]\nkeyless = [{ issuer = \"**\", identity = \"a\" }]", "pattern of other hosts"),
        (
            "[rule.ci]\nkeyless = [{ issuer = \"https://*.example/x\", identity = \"a\" }]",
            "pattern of other hosts",
        ),
        ("[rule.ci]\nkeyless = [{ issuer = \"https://a*\", identity = \"a\" }]", "pattern of other hosts"),
        ("[rule.ci]\nkeyless = [{ issuer = \"https://a/\", identity = \"**\" }]", "anybody"),
        ("[rule.ci]\nkeyless = [{ issuer = \"https://a/\", identity = \"*@*\" }]", "anybody"),
        ("[rule.ci]\nkeys = [\"a\"]\ntransparency_log = \"never\"", "transparency_log"),
        ("[rule.ci]\nkeys = [\"a\"]\nkyes = 1", "unknown key"),
        ("[rule.other]\nkeys = [\"a\"]", "no rule [rule.ci]"),
        ("[rule.ci]\nkeys = [\"a\"]\n[trust]\nroot_age_days_max = 0", "root_age_days_max"),
    ] {
        let found = problem(&format!("{scope}{rule}"));
        assert!(found.contains(wanted), "{rule}: {found}");
    }
    let node = Source { path: PathBuf::from("n"), text: "version = 1".to_owned() };
    let tenant =
        Source { path: PathBuf::from("t"), text: "version = 1\n[trust]\nroots = [\"r\"]".to_owned() };
    assert!(Policy::parse(&node, Some(&tenant)).unwrap_err().to_string().contains("tenant's file"));
}

fn signatures() -> impl Strategy<Value = Vec<Signature>> {
    let some = vec![
        by_key("keys/a.pub"),
        logged(by_key("keys/a.pub")),
        by_key("keys/b.pub"),
        by_certificate(ISSUER, "https://ci.example/team-a/app"),
        by_certificate("https://other.example", "https://ci.example/team-a/app"),
        by_certificate(ISSUER, "https://evil.example"),
    ];
    prop::collection::vec(select(some), 0..4)
}

fn body() -> impl Strategy<Value = String> {
    select(vec![
        KEYED.to_owned(),
        KEYED.replace("a.pub", "b.pub"),
        format!("{KEYED}transparency_log = \"required\"\n"),
        KEYLESS.to_owned(),
        KEYLESS.replace("= 30", "= 28"),
    ])
}

proptest! {
    #[test]
    fn tenants_file_never_admits_what_the_nodes_refuses(
        node in body(), tenant in body(), signatures in signatures(),
    ) {
        let tenant = tenant.split("[trust]").next().unwrap_or_default().to_owned();
        if admits(&policy(&node, Some(&tenant)), signatures.clone()) {
            prop_assert!(admits(&policy(&node, None), signatures));
        }
    }

    #[test]
    fn tighter_rule_never_admits_more(node in body(), signatures in signatures()) {
        for (from, to) in [
            ("[rule.ci]\n", "[rule.ci]\ntransparency_log = \"required\"\n"),
            ("[\"ci\"]", "[\"ci\", \"b\"]"),
            ("= 30", "= 28"),
        ] {
            let tighter = format!("{}[rule.b]\nkeys = [\"keys/b.pub\"]\n", node.replace("[trust]", "\n[trust]")).replace(from, to);
            let tighter = if tighter.matches("transparency_log").count() > 1 { continue } else { tighter };
            if admits(&policy(&tighter, None), signatures.clone()) {
                prop_assert!(admits(&policy(&node, None), signatures.clone()), "{}", tighter);
            }
        }
    }
}
