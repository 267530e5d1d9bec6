//! `mounts` as they are asked for: every type, every source, every option that can be kept to.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use bulkhead_model::{IdExtent, Ids, Refusal, Rule, UserNamespace};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};

use crate::{
    change::{Changes, Section},
    facts::HostFacts,
    limits::{PATH_BYTES_MAX, at_most, no_nul},
    refuse::{refuse, refuse_unsupported, short},
};

use super::namespaces::extents;

/// Most mounts. A privileged pod of a storage driver has some 40.
const MOUNTS_MAX: usize = 1024;

/// The mounts, in the order of the request.
pub(super) struct AsAsked {
    pub(super) mounts: Vec<Mount>,
    /// Places of tmpfs into which what the image has there is copied.
    pub(super) copied_up: BTreeSet<PathBuf>,
}

/// Judges a list.
pub(super) fn as_asked(
    asked: &[Mount],
    namespace: Option<&UserNamespace>,
    host: &HostFacts,
    changes: &mut Changes,
) -> Result<AsAsked, Refusal> {
    at_most("mounts", asked.len(), MOUNTS_MAX, "mounts")?;
    let covered = covered_shm(asked);
    let mut mounts = Vec::with_capacity(asked.len());
    let mut copied_up = BTreeSet::new();
    for (index, mount) in asked.iter().enumerate() {
        judge(index, mount)?;
        if Some(index) == covered {
            record(changes, mount, "left out", "a later mount of the request covers it");
        } else if mount.typ().as_deref() == Some("cgroup") || mount.typ().as_deref() == Some("cgroup2") {
            mounts.extend(control_groups(mount, host, changes));
        } else {
            let mut mount = with_source(mount);
            id_mapped(index, &mut mount, namespace)?;
            if takes_copy(index, &mut mount)? {
                copied_up.insert(mount.destination().clone());
            }
            mounts.push(mount);
        }
    }
    Ok(AsAsked { mounts, copied_up })
}

/// Whether what the image has at its place is copied into it.
fn takes_copy(index: usize, mount: &mut Mount) -> Result<bool, Refusal> {
    let mut options = mount.options().clone().unwrap_or_default();
    let all = options.len();
    options.retain(|option| option != "tmpcopyup");
    if options.len() == all {
        return Ok(false);
    }
    if mount.typ().as_deref() != Some("tmpfs") {
        let field = format!("mounts[{index}].options");
        let why = "what the image has is copied into a tmpfs, and into nothing else";
        return Err(refuse(Rule::Mounts, &field, "tmpcopyup", why, "leave it out, or mount a tmpfs"));
    }
    mount.set_options(Some(options));
    Ok(true)
}

/// Whose ids it shows: mappings of its own, or those of the container where an option asks for that.
///
/// Source: runc libcontainer/specconv/spec_linux.go, `createLibcontainerMount`, and its validator.
fn id_mapped(index: usize, mount: &mut Mount, namespace: Option<&UserNamespace>) -> Result<(), Refusal> {
    let field = format!("mounts[{index}].uidMappings");
    let own = [mount.uid_mappings(), mount.gid_mappings()].map(|list| list.clone().unwrap_or_default());
    let is_asked = |option: &String| option == "idmap" || option == "ridmap";
    let asked = mount.options().iter().flatten().any(is_asked);
    let wrong = |found: &str, why, fix| Err(refuse(Rule::Mounts, &field, found, why, fix));
    let is_bind = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    match (own.each_ref().map(Vec::is_empty), asked, namespace) {
        ([true, true], false, _) => return Ok(()),
        _ if !is_bind => {
            return wrong(
                "ids of a file system",
                "bind mounts are id-mapped, others are made",
                "leave them out",
            );
        }
        ([true, true], true, None) => {
            return wrong(
                "the container's ids",
                "it has those of the node",
                "name uidMappings and gidMappings",
            );
        }
        ([true, true], true, Some(namespace)) => {
            let [uids, gids] = [Ids::Users, Ids::Groups].map(|which| mappings(namespace.ids(which)));
            let (uids, gids) = (uids?, gids?);
            mount.set_uid_mappings(Some(uids)).set_gid_mappings(Some(gids));
        }
        ([false, false], ..) => {
            extents(&field, &own[0])?;
            extents(&format!("mounts[{index}].gidMappings"), &own[1])?;
        }
        ([true, false] | [false, true], ..) => {
            return wrong("one map of two", "what the other ids are shown as is not defined", "name both");
        }
    }
    Ok(())
}

fn mappings(ids: &[IdExtent]) -> Result<Vec<LinuxIdMapping>, Refusal> {
    let mapping = |ids: &IdExtent| {
        let mapping = LinuxIdMappingBuilder::default().container_id(ids.inside).host_id(ids.outside);
        mapping.size(ids.count).build().map_err(|_| refuse_unsupported("a mapping"))
    };
    ids.iter().map(mapping).collect()
}

fn judge(index: usize, mount: &Mount) -> Result<(), Refusal> {
    let field = format!("mounts[{index}]");
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    for path in [mount.destination().as_path(), source] {
        let text = path.to_string_lossy();
        no_nul(&field, &text)?;
        at_most(&field, text.len(), PATH_BYTES_MAX, "bytes in one path")?;
    }
    let climbs = mount.destination().components().any(|part| part == Component::ParentDir);
    if !mount.destination().is_absolute() || climbs || mount.destination() == Path::new("/") {
        let found = format!("{:?}", short(&mount.destination().to_string_lossy()));
        let why = "a destination is absolute, without \"..\", and not the root";
        return Err(refuse(Rule::Mounts, &format!("{field}.destination"), found, why, "correct the path"));
    }
    mount.options().iter().flatten().try_for_each(|option| no_nul(&field, option))
}

/// containerd 1.6 leaves its default tmpfs in a sandbox's list and binds the pod's own over it.
fn covered_shm(asked: &[Mount]) -> Option<usize> {
    let shm = |mount: &Mount| mount.destination() == Path::new("/dev/shm");
    let first = asked.iter().position(|mount| shm(mount) && mount.typ().as_deref() == Some("tmpfs"))?;
    asked[first + 1..].iter().any(shm).then_some(first)
}

/// libcontainer knows no mount without a source; to the kernel it is but a word in mountinfo.
fn with_source(mount: &Mount) -> Mount {
    let mut mount = mount.clone();
    if mount.source().as_ref().is_none_or(|source| source.as_os_str().is_empty()) {
        let kind = mount.typ().clone().unwrap_or_else(|| "none".to_owned());
        mount.set_source(Some(kind.into()));
    }
    mount
}

/// The container's control groups, as a view that the launch makes: writable where the request has them so.
fn control_groups(mount: &Mount, host: &HostFacts, changes: &mut Changes) -> Option<Mount> {
    let Some(view) = &host.cgroup_view else {
        record(changes, mount, "left out", "there is no view of control groups on this host");
        return None;
    };
    let read_only = mount.options().iter().flatten().any(|option| option == "ro");
    let mut options = vec!["rbind", "rprivate", "nosuid", "nodev", "noexec"];
    options.extend(read_only.then_some(["ro", "rro"]).into_iter().flatten());
    let mut bound = mount.clone();
    bound
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(view.clone()))
        .set_options(Some(options.into_iter().map(str::to_owned).collect()));
    record(changes, mount, "bound from the group that the launch made", "the same groups, by another way");
    Some(bound)
}

fn record(changes: &mut Changes, mount: &Mount, what: &str, reason: &'static str) {
    changes.record(Section::Mounts, format!("{}: {what}", mount.destination().display()), reason);
}
