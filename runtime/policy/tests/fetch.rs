//! Whom a launch asks for signatures that it lacks: a registry of the node's file, and nobody whom a tenant names.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use bulkhead_binding::{CriContainer, CriRecord, VerifiedImage, bind, example};
use bulkhead_model::{ContainerKind, CreateRequest, FetchFrom, Tenant};
use bulkhead_policy::{Policy, Source};

const NAME: &str = "registry.example/team-a/app:1";

fn request() -> CreateRequest {
    CreateRequest {
        id: "c1".parse().unwrap(),
        tenant: Tenant {
            containerd_namespace: "default".parse().unwrap(),
            namespace: "default".parse().unwrap(),
        },
        kind: ContainerKind::Plain,
        bundle: "/bundle".into(),
        spec: oci_spec::runtime::Spec::default(),
        rootfs: Vec::new(),
    }
}

fn image(claimed: &str, others: &[&str]) -> VerifiedImage {
    let facts = example::facts("app");
    let mut observed = example::observed(&facts, claimed);
    observed.names.extend(others.iter().map(|name| (*name).to_owned()));
    bind(&facts, &observed, &observed.mounts.clone()).unwrap()
}

fn policy(scopes: &[&str], trust: &str) -> Policy {
    let scopes: String =
        scopes.iter().map(|scope| format!("\"{scope}\" = {{ require = [\"ci\"] }}\n")).collect();
    let text =
        format!("version = 1\n[image]\n{scopes}[rule.ci]\nkeys = [\"keys/ci.pub\"]\n[trust]\n{trust}\n");
    Policy::parse(&Source { path: "/etc/bulkhead/policy.toml".into(), text }, None).unwrap()
}

const LAUNCH: &str = "fetch = \"launch\"";

fn asked(policy: &Policy, image: &VerifiedImage) -> Vec<String> {
    policy.fetch_from(image, &request()).into_iter().map(|from| from.repository).collect()
}

#[test]
fn launch_asks_the_registry_of_the_name_that_containerd_has_where_policy_says_so() {
    let node = policy(
        &["registry.example/team-a/*"],
        "fetch = \"launch\"\nhosts_dirs = [\"/certs\"]\ndocker_config = \"/config.json\"",
    );
    let found = node.fetch_from(&image(NAME, &[]), &request());
    let expected = FetchFrom {
        target: example::facts("app").target,
        repository: "registry.example/team-a/app".to_owned(),
        hosts_dirs: vec!["/certs".into()],
        docker_config: Some("/config.json".into()),
    };
    assert_eq!(found, [expected]);
    for trust in ["", "fetch = \"never\"", "fetch = \"watch\""] {
        assert!(
            asked(&policy(&["registry.example/team-a/*"], trust), &image(NAME, &[])).is_empty(),
            "{trust}"
        );
    }
}

#[test]
fn registry_that_no_scope_names_in_full_is_not_asked() {
    for scope in ["**", "*/team-a/*", "*/**"] {
        assert!(asked(&policy(&[scope], LAUNCH), &image(NAME, &[])).is_empty(), "{scope}");
    }
    // By another name of the same image that a scope names in full, it is.
    let node = policy(&["*/team-a/*", "registry.test/**"], LAUNCH);
    let two = image(NAME, &["registry.test/mirror/app:1"]);
    assert_eq!(asked(&node, &two), ["registry.test/mirror/app"]);
}

#[test]
fn what_a_pod_calls_its_image_asks_nobody() {
    let facts = example::facts("app");
    let mut observed = example::observed(&facts, "other.example/app:1");
    observed.claim.cri = CriRecord::Container(CriContainer {
        config: facts.config,
        requested_name: Some(NAME.to_owned()),
        image_volumes: Vec::new(),
    });
    let image = bind(&facts, &observed, &observed.mounts.clone()).unwrap();
    assert!(asked(&policy(&["registry.example/**"], LAUNCH), &image).is_empty());
    assert_eq!(asked(&policy(&["other.example/**"], LAUNCH), &image), ["other.example/app"]);
}

#[test]
fn image_that_is_refused_for_another_reason_asks_nobody() {
    let digest = example::facts("other").target;
    let text = format!(
        "version = 1\n[image]\n\"registry.example/**\" = {{ digests = [\"{digest}\"], require = [\"ci\"] }}\n\
         [rule.ci]\nkeys = [\"keys/ci.pub\"]\n[trust]\n{LAUNCH}\n"
    );
    let node = Policy::parse(&Source { path: "/p".into(), text }, None).unwrap();
    assert!(asked(&node, &image(NAME, &[])).is_empty());
    assert!(asked(&node, &image(NAME, &[]).with_signatures(BTreeMap::new())).is_empty());
}

#[test]
fn audit_asks_as_enforce_does() {
    let text = format!(
        "version = 1\nmode = \"audit\"\n[image]\n\"registry.example/**\" = {{ require = [\"ci\"] }}\n\
         [rule.ci]\nkeys = [\"keys/ci.pub\"]\n[trust]\n{LAUNCH}\n"
    );
    let node = Policy::parse(&Source { path: "/p".into(), text }, None).unwrap();
    assert_eq!(asked(&node, &image(NAME, &[])), ["registry.example/team-a/app"]);
}

#[test]
fn tenants_file_says_nothing_of_fetching() {
    let digest = example::facts("app").target;
    let node = Source {
        path: "/p".into(),
        text: format!("version = 1\n[image]\n\"registry.example/**\" = {{ digests = [\"{digest}\"] }}\n"),
    };
    let tenant = |more: &str| Source {
        path: "/t".into(),
        text: format!("version = 1\n[image]\n\"registry.example/**\" = {{}}\n{more}"),
    };
    assert!(Policy::parse(&node, Some(&tenant(""))).is_ok());
    for key in ["fetch = \"launch\"", "hosts_dirs = [\"/certs\"]", "docker_config = \"/c\""] {
        assert!(Policy::parse(&node, Some(&tenant(&format!("[trust]\n{key}\n")))).is_err(), "{key}");
    }
}
