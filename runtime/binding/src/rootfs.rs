//! The mounts of the request must be those of the container's snapshot.

use std::path::Path;

use bulkhead_model::{Mount, Refusal, Rule};

const FIX: &str =
    "let containerd make the root from the container's own snapshot (no --rootfs, no mounts of a client)";

/// Refuses mounts that are not exactly `mounts`, which containerd said the snapshot has, and mounts of a kind
/// whose source is not bound to the snapshot chain.
pub(crate) fn check(
    image: &str,
    mounts: &[Mount],
    mount_label: Option<&str>,
    rootfs: &[Mount],
) -> Result<(), Refusal> {
    let refuse =
        |why: String| Err(Refusal::new(Rule::Rootfs, format!("root file system of image {image}"), why, FIX));
    let [mount] = mounts else {
        return refuse(format!(
            "its snapshot has {} mounts; exactly one overlay or bind is known",
            mounts.len()
        ));
    };
    if !matches!(mount.kind.as_str(), "overlay" | "bind") || mount.target != Path::new("") {
        return Err(Refusal::new(
            Rule::Rootfs,
            format!("root file system of image {image}"),
            format!(
                "its snapshot is a mount of type {:?} on {:?}; only one overlay or bind on the root is known",
                mount.kind, mount.target
            ),
            "use containerd's overlayfs or native snapshotter",
        ));
    }
    let [asked] = rootfs else {
        return refuse(format!("the request has {} mounts, its snapshot has one", rootfs.len()));
    };
    match difference(mount, mount_label, asked) {
        None => Ok(()),
        Some(what) => refuse(format!("the request's {what} is not that of the container's snapshot")),
    }
}

/// What differs between a snapshot's mount and the request's, if anything does.
fn difference(mount: &Mount, mount_label: Option<&str>, asked: &Mount) -> Option<&'static str> {
    let Mount { kind, source, target, options } = mount;
    if *kind != asked.kind {
        return Some("mount type");
    }
    if *source != asked.source {
        return Some("mount source");
    }
    if *target != asked.target {
        return Some("mount target");
    }
    // Source: NewTask, containerd container.go: label.FormatMountLabel("", spec.Linux.MountLabel) is appended.
    let labelled = mount_label
        .filter(|label| !label.is_empty())
        .map(|label| options.iter().cloned().chain([format!("context=\"{label}\"")]).collect::<Vec<_>>());
    if asked.options == *options || labelled.is_some_and(|labelled| asked.options == labelled) {
        return None;
    }
    Some("list of mount options")
}
