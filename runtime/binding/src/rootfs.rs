//! The mounts of the request must be those of the container's snapshot.

use std::path::Path;

use bulkhead_model::{Mount, Refusal, Rule};

use crate::managed::Managed;

const FIX: &str =
    "let containerd make the root from the container's own snapshot (no --rootfs, no mounts of a client)";

const FIX_MANAGED: &str = "use containerd's overlayfs snapshotter, or the erofs one with its own layers alone: without \
                           default_size, dmverity_mode, layer_content_caches or merged layers";

/// What is to be mounted: the mount that containerd said the snapshot has, if it is the request's as well. What is of a
/// kind whose source is not bound to the snapshot chain is refused.
pub(crate) fn check(
    image: &str,
    mounts: &[Mount],
    mount_label: Option<&str>,
    rootfs: &[Mount],
) -> Result<Mount, Refusal> {
    let refused =
        |why: String, fix| Refusal::new(Rule::Rootfs, format!("root file system of image {image}"), why, fix);
    let managed = Managed::of(mounts).map_err(|why| refused(why, FIX_MANAGED))?;
    let handed;
    let wanted = match &managed {
        Some(managed) => {
            handed = managed.handed(rootfs).map_err(|why| refused(why, FIX))?;
            handed.as_slice()
        }
        None => mounts,
    };
    let (wanted, asked) = match (wanted, rootfs, &managed) {
        ([], [], Some(managed)) => {
            let mut overlay = managed.overlay();
            overlay.options.extend(context(mount_label));
            return Ok(overlay);
        }
        ([], _, Some(_)) => {
            let why =
                format!("the request has {} mounts, of its snapshot's none is left for it", rootfs.len());
            return Err(refused(why, FIX));
        }
        ([wanted], [asked], _) => (wanted, asked),
        ([_], _, _) => {
            let why = format!("the request has {} mounts, its snapshot has one", rootfs.len());
            return Err(refused(why, FIX));
        }
        _ => {
            let why =
                format!("its snapshot has {} mounts; exactly one overlay or bind is known", mounts.len());
            return Err(refused(why, FIX));
        }
    };
    if !matches!(wanted.kind.as_str(), "overlay" | "bind") || wanted.target != Path::new("") {
        let why = format!(
            "its snapshot is a mount of type {:?} on {:?}; only one overlay or bind on the root is known",
            wanted.kind, wanted.target
        );
        return Err(refused(why, "use containerd's overlayfs or native snapshotter"));
    }
    if let Some(what) = difference(wanted, mount_label, asked) {
        let why = format!("the request's {what} is not that of the container's snapshot");
        return Err(refused(why, FIX));
    }
    let Some(managed) = managed else { return Ok(asked.clone()) };
    let mut overlay = managed.overlay();
    // What the request has beyond the snapshot's is its label.
    overlay.options.extend(asked.options.iter().skip(overlay.options.len()).cloned());
    Ok(overlay)
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
    let labelled: Vec<String> = options.iter().cloned().chain(context(mount_label)).collect();
    if asked.options == *options || asked.options == labelled {
        return None;
    }
    Some("list of mount options")
}

/// What a label of the spec adds to the options of a mount.
///
/// Source: `NewTask`, containerd container.go: label.FormatMountLabel("", spec.Linux.MountLabel) is appended.
fn context(mount_label: Option<&str>) -> Option<String> {
    mount_label.filter(|label| !label.is_empty()).map(|label| format!("context=\"{label}\""))
}
