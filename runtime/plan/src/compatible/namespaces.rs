//! `linux.namespaces`, id mappings and clock offsets as they are asked for.

use std::path::Path;

use bulkhead_model::{IdExtent, MountOwners, Refusal, Rule, UserNamespace};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Kind};

use crate::{
    limits::{at_most, no_nul},
    refuse::{nothing_left, refuse, short},
    user_namespace::extent,
};

const FIELD: &str = "linux.namespaces";

/// Most extents of one map.
///
/// Source: `UID_GID_MAP_MAX_EXTENTS`, include/linux/user_namespace.h.
const EXTENTS_MAX: usize = 340;

/// The clocks whose offsets a time namespace has.
///
/// Source: time_namespaces(7).
const CLOCKS: [&str; 2] = ["monotonic", "boottime"];

const NANOSECONDS: u32 = 1_000_000_000;

/// Judges the list, and says which user namespace it comes to.
pub(super) fn as_asked(linux: &Linux) -> Result<Option<UserNamespace>, Refusal> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    at_most(FIELD, namespaces.len(), 8, "entries")?;
    for (index, namespace) in namespaces.iter().enumerate() {
        let mut rest = namespace.clone();
        rest.set_path(None).set_typ(Kind::Cgroup);
        nothing_left(FIELD, &rest, r#"{"type":"cgroup"}"#)?;
        let typ = namespace.typ();
        if namespaces[..index].iter().any(|earlier| earlier.typ() == typ) {
            let why = "which of them holds is not defined";
            return Err(refuse(Rule::Namespaces, FIELD, format!("{typ} twice"), why, "name it once"));
        }
        let path = path_of(namespace).unwrap_or(Path::new("/"));
        no_nul(FIELD, &path.to_string_lossy())?;
        if !path.is_absolute() {
            let found = format!("a {typ} namespace at {:?}", short(&path.to_string_lossy()));
            return Err(refuse(Rule::Namespaces, FIELD, found, "a path is absolute", "correct the path"));
        }
    }
    let find = |kind: Kind| namespaces.iter().find(|namespace| namespace.typ() == kind);
    match find(Kind::Mount).map(path_of) {
        Some(None) => {}
        Some(Some(path)) => {
            let found = format!("a mount namespace at {:?}", short(&path.to_string_lossy()));
            let why = "the container's mounts and its root would be made in that of others";
            return Err(refuse(Rule::Namespaces, FIELD, found, why, "ask for a new one"));
        }
        None => {
            let why = "the container's root would be the node's";
            return Err(refuse(
                Rule::Namespaces,
                FIELD,
                "no mount namespace",
                why,
                "add one: containerd does",
            ));
        }
    }
    judge_offsets(linux, find(Kind::Time))?;
    user_namespace(linux, find(Kind::User))
}

fn path_of(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn user_namespace(linux: &Linux, asked: Option<&LinuxNamespace>) -> Result<Option<UserNamespace>, Refusal> {
    let map =
        |name: &str, list: &Option<Vec<LinuxIdMapping>>| extents(name, list.as_deref().unwrap_or_default());
    let uids = map("linux.uidMappings", linux.uid_mappings())?;
    let gids = map("linux.gidMappings", linux.gid_mappings())?;
    let fix = "name both maps and a user namespace, or none of the three";
    let Some(asked) = asked else {
        if uids.is_empty() && gids.is_empty() {
            return Ok(None);
        }
        let why = "nothing would be mapped";
        return Err(refuse(Rule::Namespaces, FIELD, "mappings without a user namespace", why, fix));
    };
    if uids.is_empty() || gids.is_empty() {
        let why = "of a namespace without a map every id is nobody";
        let found = "a user namespace without uidMappings or gidMappings";
        return Err(refuse(Rule::Namespaces, FIELD, found, why, fix));
    }
    let path = path_of(asked).map(Path::to_owned);
    Ok(Some(UserNamespace { uids, gids, owners: MountOwners::AsAsked, path }))
}

/// A map, as the kernel takes it.
pub(super) fn extents(field: &str, list: &[LinuxIdMapping]) -> Result<Vec<IdExtent>, Refusal> {
    at_most(field, list.len(), EXTENTS_MAX, "extents")?;
    let extents: Vec<IdExtent> = list.iter().map(extent).collect();
    for IdExtent { inside, outside, count } in &extents {
        let ends = |first: &u32| first.checked_add(*count).is_some();
        if *count == 0 || !ends(inside) || !ends(outside) {
            let found = format!("{count} ids from {inside} to {outside} on the node");
            let why = "an extent has one id or more, and ends below 4294967296";
            return Err(refuse(Rule::Namespaces, field, found, why, "correct the mapping"));
        }
    }
    Ok(extents)
}

/// Source: `timeOffsets`, runtime-spec config-linux.md; runc libcontainer/configs/validate/validator.go.
fn judge_offsets(linux: &Linux, namespace: Option<&LinuxNamespace>) -> Result<(), Refusal> {
    const OFFSETS: &str = "linux.timeOffsets";
    let refused = |found: &str, why, fix| Err(refuse(Rule::Namespaces, OFFSETS, found, why, fix));
    let offsets = linux.time_offsets().iter().flatten();
    match namespace {
        _ if offsets.clone().next().is_none() => return Ok(()),
        None => return refused("offsets without a time namespace", "they would change nothing", "add one"),
        Some(namespace) if path_of(namespace).is_some() => {
            let why = "those of a namespace that others are in cannot be changed";
            return refused("offsets of a namespace that is joined", why, "leave them out");
        }
        Some(_) => {}
    }
    for (clock, offset) in offsets {
        if !CLOCKS.contains(&clock.as_str()) {
            let why = "a time namespace has offsets of monotonic and boottime";
            return refused(&format!("an offset of {:?}", short(clock)), why, "leave it out");
        }
        let mut rest = offset.clone();
        rest.set_secs(None).set_nanosecs(None);
        nothing_left(OFFSETS, &rest, "{}")?;
        if offset.nanosecs().is_some_and(|nanoseconds| nanoseconds >= NANOSECONDS) {
            return refused("1000000000 nanoseconds or more", "that is a second", "say it in secs");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn judge(change: impl FnOnce(&mut Value)) -> Result<Option<UserNamespace>, Refusal> {
        let mut linux = json!({ "namespaces": [{ "type": "mount" }] });
        change(&mut linux);
        as_asked(&serde_json::from_value(linux).unwrap())
    }

    fn with(typ: Value) -> impl FnOnce(&mut Value) {
        move |linux| linux["namespaces"].as_array_mut().unwrap().push(typ)
    }

    #[test]
    fn mount_namespace_is_demanded_and_others_are_taken_as_they_are_once() {
        assert_eq!(judge(|_| {}).unwrap(), None);
        assert!(judge(|linux| linux["namespaces"] = json!([])).is_err());
        for typ in ["network", "pid", "ipc", "uts", "cgroup", "time"] {
            assert_eq!(judge(with(json!({ "type": typ }))).unwrap(), None, "{typ}");
            assert!(judge(with(json!({ "type": typ, "path": "ns" }))).is_err(), "{typ}");
        }
        assert!(judge(with(json!({ "type": "mount" }))).is_err());
        let joined = json!([{ "type": "mount", "path": "/proc/1/ns/mnt" }]);
        assert!(judge(|linux| linux["namespaces"] = joined).is_err(), "the node's mounts would be changed");
    }

    #[test]
    fn user_namespace_has_any_maps_that_the_kernel_takes_and_never_none() {
        let user = |uids: Value, gids: Value| {
            judge(|linux| {
                linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
                linux["uidMappings"] = uids;
                linux["gidMappings"] = gids;
            })
        };
        let one = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
        let two = json!([{ "containerID": 0, "hostID": 0, "size": 1 }, { "containerID": 1, "hostID": 5, "size": 9 }]);
        let namespace = user(one.clone(), two.clone()).unwrap().unwrap();
        assert_eq!((namespace.uids.len(), namespace.gids.len()), (1, 2));
        assert_eq!(namespace.owners, MountOwners::AsAsked);
        assert!(user(one.clone(), json!([])).is_err());
        assert!(user(one.clone(), json!([{ "containerID": 0, "hostID": 0, "size": 0 }])).is_err());
        assert!(
            user(one.clone(), json!([{ "containerID": 4294967295_u32, "hostID": 0, "size": 2 }])).is_err()
        );
        let refusal = judge(|linux| linux["uidMappings"] = one).unwrap_err();
        assert!(refusal.what.contains("without a user namespace"), "{refusal}");
    }

    #[test]
    fn offsets_are_of_two_clocks_and_of_a_time_namespace_that_is_new() {
        let offsets = |namespace: Value, offsets: Value| {
            judge(|linux| {
                linux["namespaces"].as_array_mut().unwrap().push(namespace);
                linux["timeOffsets"] = offsets;
            })
        };
        let time = json!({ "type": "time" });
        assert!(
            offsets(time.clone(), json!({ "monotonic": { "secs": -5, "nanosecs": 1 }, "boottime": {} }))
                .is_ok()
        );
        assert!(offsets(time.clone(), json!({ "realtime": { "secs": 1 } })).is_err());
        assert!(offsets(time, json!({ "monotonic": { "nanosecs": NANOSECONDS } })).is_err());
        assert!(offsets(json!({ "type": "ipc" }), json!({ "monotonic": { "secs": 1 } })).is_err());
        let joined = json!({ "type": "time", "path": "/proc/1/ns/time" });
        assert!(offsets(joined, json!({ "monotonic": { "secs": 1 } })).is_err());
    }
}
