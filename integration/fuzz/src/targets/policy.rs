//! The node's policy and a tenant's: what a person writes, and what an attacker who can write neither would like to.

use bulkhead_policy::{Policy, Source};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A line `---` divides node and tenant.
    let (node, tenant) = match text.split_once("\n---\n") {
        Some((node, tenant)) => (node, Some(tenant)),
        None => (text, None),
    };
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
    let node = source("/etc/bulkhead/policy.toml", node);
    let tenant = tenant.map(|text| source("/etc/bulkhead/tenants/team-a.toml", text));
    match Policy::parse(&node, tenant.as_ref()) {
        Ok(policy) => {
            let again = Policy::parse(&node, tenant.as_ref());
            assert_eq!(again.as_ref().map(Policy::hash).ok(), Some(policy.hash()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
