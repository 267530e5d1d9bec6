//! `level` and `namespaces` of a `[confine.*]` section: the one way to less than the hardened level, so each of its
//! conditions is asked here, at parse, and told with its line.

use std::collections::BTreeSet;

use bulkhead_model::{Level, Namespace};
use toml::de::DeTable;

use crate::{
    confine::{Namespaces, Section},
    keys::{Table, find},
    parse::{DEFAULT, Role},
    read::{Value, refuse_value, word},
    source::Problems,
};

/// Keys that say something at the compatible level.
const HEEDED: [&str; 4] = ["level", "namespaces", "exec", "hooks"];

/// The two keys of a section, in a section that has no other yet.
pub(crate) fn read(problems: &mut Problems<'_>, keys: &DeTable<'_>, section: &str, role: Role) -> Section {
    let words = [("hardened", Level::Hardened), ("compatible", Level::Compatible)];
    let level = keys.get("level").and_then(|value| word(problems, value, Table::Confine, "level", &words));
    let namespaces = keys.get("namespaces").and_then(|value| namespaces(problems, value));
    match (level, keys.get("level")) {
        (Some(Level::Compatible), Some(at)) => check(problems, keys, at, section, role),
        _ => {
            if let Some(value) = keys.get("namespaces") {
                problems.add(
                    &value.span(),
                    "`namespaces` is for a section with level = \"compatible\" alone",
                    "remove it: a tenant is narrowed by its own file, tenants/NAMESPACE.toml",
                );
            }
        }
    }
    Section { level, namespaces, ..Section::default() }
}

fn check(problems: &mut Problems<'_>, keys: &DeTable<'_>, at: &Value<'_>, section: &str, role: Role) {
    if role == Role::Tenant {
        let fix =
            "remove it: only the node's file, in a section that a scope of [image] names, grants that level";
        problems.add(&at.span(), "`level` is \"compatible\" in a tenant's file", fix);
    } else if section == DEFAULT {
        problems.add(
            &at.span(),
            "`level` is \"compatible\" in [confine.default], so it would hold for every image",
            "write it in a section of its own, and name that in the scopes of [image] which need it",
        );
    } else if !keys.contains_key("namespaces") {
        problems.add(
            &at.span(),
            "`level` is \"compatible\" without `namespaces`, so every tenant could run the image as root of the node",
            "add namespaces = [\"kube-system\"], or [\"*\"] if every tenant may",
        );
    }
    for (key, _) in keys {
        let name = key.get_ref().as_ref();
        if !HEEDED.contains(&name) && find(Table::Confine, name).is_some() {
            problems.add(
                &key.span(),
                format!(
                    "`{name}` means nothing at level \"compatible\", where the request's own word counts"
                ),
                format!("remove it, or remove level: {name} holds at the hardened level"),
            );
        }
    }
}

fn namespaces(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<Namespaces> {
    let list = value.get_ref().as_array().filter(|list| !list.is_empty());
    let Some(list) = list else {
        refuse_value(problems, value, Table::Confine, "namespaces");
        return None;
    };
    if list.len() == 1 && list.iter().all(|item| item.get_ref().as_str() == Some("*")) {
        return Some(Namespaces::All);
    }
    let mut names = BTreeSet::new();
    for item in list.iter() {
        match item.get_ref().as_str().map(str::parse::<Namespace>) {
            Some(Ok(name)) => {
                names.insert(name);
            }
            Some(Err(error)) => problems.add(
                &item.span(),
                format!("an entry of `namespaces` is no namespace: {error}"),
                "write the namespace of the pods, such as \"kube-system\"; \"*\" stands alone",
            ),
            None => refuse_value(problems, item, Table::Confine, "namespaces"),
        }
    }
    Some(Namespaces::Some(names))
}
