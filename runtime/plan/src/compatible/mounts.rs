//! `mounts` as they are asked for: every type, every source, every option that can be kept to.

use std::path::{Component, Path};

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::Mount;

use crate::{
    change::{Changes, Section},
    facts::HostFacts,
    limits::{PATH_BYTES_MAX, at_most, no_nul},
    refuse::{absent, refuse, short},
};

/// Most mounts. A privileged pod of a storage driver has some 40.
const MOUNTS_MAX: usize = 1024;

/// The mounts, in the order of the request.
pub(super) fn as_asked(
    asked: &[Mount],
    host: &HostFacts,
    changes: &mut Changes,
) -> Result<Vec<Mount>, Refusal> {
    at_most("mounts", asked.len(), MOUNTS_MAX, "mounts")?;
    let covered = covered_shm(asked);
    let mut mounts = Vec::with_capacity(asked.len());
    for (index, mount) in asked.iter().enumerate() {
        judge(index, mount)?;
        if Some(index) == covered {
            record(changes, mount, "left out", "a later mount of the request covers it");
        } else if mount.typ().as_deref() == Some("cgroup") || mount.typ().as_deref() == Some("cgroup2") {
            mounts.extend(control_groups(mount, host, changes));
        } else {
            mounts.push(with_source(mount));
        }
    }
    Ok(mounts)
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
    absent(&format!("{field}.uidMappings (id-mapped mount)"), mount.uid_mappings())?;
    absent(&format!("{field}.gidMappings (id-mapped mount)"), mount.gid_mappings())?;
    for option in mount.options().iter().flatten() {
        no_nul(&field, option)?;
        let why = match option.as_str() {
            "idmap" | "ridmap" => "id-mapped mounts are not built yet",
            "tmpcopyup" => "tmpfs with copy-up is not built yet",
            _ => continue,
        };
        return Err(refuse(Rule::Mounts, &format!("{field}.options"), option, why, "leave the option out"));
    }
    Ok(())
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
