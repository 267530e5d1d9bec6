//! Bind mounts: an allow-list of shapes of the source, tied to this pod or named by policy.
//!
//! Judged by its text here; that no symbolic link leads elsewhere is seen by whoever opens it.

use std::path::{Path, PathBuf};

use bulkhead_model::{ContainerKind, CreateRequest, MountAccess, PathAccess, Refusal, Rule};

use super::{Asked, Context, Mounts, make, path::names_below, record, subpath};
use crate::{
    change::Changes,
    refuse::{refuse, short},
};

/// containerd's own namespace for Kubernetes: its annotations are written by containerd's CRI plugin.
const CRI_NAMESPACE: &str = "k8s.io";

/// The pod's UID. Source: containerd pkg/cri/annotations.
const POD_UID: &str = "io.kubernetes.cri.sandbox-uid";

/// Directory of the CRI plugin below containerd's root and state; 2.x keeps the name.
///
/// Source: containerd plugins/cri/runtime/plugin.go.
const CRI_DIR: &str = "io.containerd.grpc.v1.cri";

/// Volumes that only the kubelet writes: scripts in them may be executed where they are read-only.
const KUBELET_WRITES: [&str; 4] = [
    "kubernetes.io~configmap",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
    "kubernetes.io~secret",
];

/// Volumes that are the pod's own, or come from a storage system. Not here: `local-volume`, which shows a
/// directory of the host.
const VOLUMES: [&str; 10] = [
    "kubernetes.io~cephfs",
    "kubernetes.io~csi",
    "kubernetes.io~empty-dir",
    "kubernetes.io~fc",
    "kubernetes.io~git-repo",
    "kubernetes.io~glusterfs",
    "kubernetes.io~iscsi",
    "kubernetes.io~nfs",
    "kubernetes.io~portworx-volume",
    "kubernetes.io~rbd",
];

/// Whether a mount can be judged only with [`crate::HostFacts::mountinfo`].
#[must_use]
pub fn needs_mountinfo(request: &CreateRequest) -> bool {
    let sources = request.spec.mounts().iter().flatten().filter_map(|mount| mount.source().as_ref());
    sources.flat_map(|source| source.components()).any(|part| part.as_os_str() == "volume-subpaths")
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A file that containerd or the kubelet made for this pod, or a volume: never executable.
    Pod,
    /// A volume that only the kubelet writes: executable where it is read-only.
    Kubelet,
    /// An image that policy names: its layers, and not what lies at the source.
    Image,
    /// A directory that policy names.
    Host(MountAccess),
}

/// Adds a bind mount, if its source is of an allowed shape.
pub(super) fn add(
    asked: &Asked,
    context: &Context<'_>,
    mounts: &mut Mounts,
    changes: &mut Changes,
) -> Result<(), Refusal> {
    asked.options.only(&asked.field, &[])?;
    let source = asked.source.as_deref().ok_or_else(|| refused(asked, "there is no source"))?;
    let kind = judge(source, context).map_err(|why| refused(asked, why))?;
    let options = &asked.options;
    let never_written = matches!(kind, Source::Image | Source::Host(MountAccess::ReadOnly));
    let read_only = options.read_only || never_written;
    let named = context.confinement.executable.contains(&asked.destination) && kind != Source::Image;
    let executable = (named || kind == Source::Kubelet && read_only) && !options.no_exec;
    if read_only != options.read_only {
        record(
            changes,
            &asked.destination,
            "read-only",
            "it is an image, or policy names its source as read-only",
        );
    }
    if named && executable {
        record(changes, &asked.destination, "executable", "policy names it in `executable`");
    } else if !executable && !options.no_exec {
        record(changes, &asked.destination, "noexec", "what is not of the image is not run");
    }
    if options.slave || options.loosened {
        let what = "private, nosuid, nodev";
        record(changes, &asked.destination, what, "later mounts, devices and set-uid files stay out");
    }
    let mut list = match options.recursive {
        true => vec!["rbind", "rprivate"],
        false => vec!["bind", "private"],
    };
    list.extend(["nosuid", "nodev"]);
    list.extend((!executable).then_some("noexec"));
    list.extend(read_only.then_some("ro"));
    if options.recursive {
        // The plain flags hold for the topmost mount alone.
        list.extend(["rnosuid", "rnodev"]);
        list.extend((!executable).then_some("rnoexec"));
        list.extend(read_only.then_some("rro"));
    }
    list.extend(options.no_symlinks.then_some("rnosymfollow"));
    list.extend(options.access_time);
    let access = match (read_only, executable) {
        (true, true) => PathAccess::ReadExecute,
        (true, false) => PathAccess::Read,
        (false, true) => PathAccess::ReadWriteExecute,
        (false, false) => PathAccess::ReadWrite,
    };
    mounts.add(make(&asked.destination, "bind", source, &list)?, access);
    Ok(())
}

fn refused(asked: &Asked, why: &str) -> Refusal {
    let source = asked.source.as_deref().unwrap_or(Path::new(""));
    refuse(
        Rule::Mounts,
        &asked.field,
        format!("{} on {}", short(&source.to_string_lossy()), short(&asked.destination.to_string_lossy())),
        why,
        "use a volume of the pod (emptyDir, configMap, secret, projected, csi), or name the directory in host_paths \
         of the image's [confine.*] in the node's policy",
    )
}

/// The kind of `source`, or why it is none.
fn judge(source: &Path, context: &Context<'_>) -> Result<Source, &'static str> {
    if context.image_volumes.iter().any(|volume| volume.source == source) {
        return Ok(Source::Image);
    }
    if is_of_containerd(source, context) {
        return Ok(Source::Pod);
    }
    let host = context.host;
    match of_kubelet(source, context) {
        Some(Kubelet::Volume(kind)) => return Ok(kind),
        Some(Kubelet::Subpath) => {
            let table =
                host.mountinfo.as_deref().ok_or("what a subPath shows cannot be told on this host")?;
            return of_subpath(&subpath::origins(table, source), context);
        }
        None => {}
    }
    of_policy(source, context).ok_or("its source is neither this pod's own nor a directory that policy names")
}

/// A subPath shows a part of a volume of this pod, or of a directory that policy names: by one way at least.
fn of_subpath(origins: &[PathBuf], context: &Context<'_>) -> Result<Source, &'static str> {
    let volume = origins.iter().find_map(|origin| match of_kubelet(origin, context) {
        Some(Kubelet::Volume(kind)) => Some(kind),
        Some(Kubelet::Subpath) | None => None,
    });
    volume
        .or_else(|| origins.iter().find_map(|origin| of_policy(origin, context)))
        .ok_or("this subPath shows neither a volume of this pod nor a directory that policy names")
}

/// `sandboxes/<this sandbox>/…` and `containers/<this container>/volumes/…` of containerd's CRI plugin.
fn is_of_containerd(source: &Path, context: &Context<'_>) -> bool {
    let request = context.request;
    if request.tenant.containerd_namespace.as_str() != CRI_NAMESPACE {
        return false;
    }
    let sandbox = match &request.kind {
        ContainerKind::Plain => return false,
        ContainerKind::Sandbox => &request.id,
        ContainerKind::InSandbox { sandbox } => sandbox,
    };
    [&context.host.containerd_root, &context.host.containerd_state].iter().any(|dir| {
        match names_below(source, &dir.join(CRI_DIR)).as_deref() {
            Some(["sandboxes", id, "hostname" | "hosts" | "resolv.conf" | "shm"]) => *id == sandbox.as_str(),
            Some(["containers", id, "volumes", _]) => *id == request.id.as_str(),
            _ => false,
        }
    })
}

/// What the kubelet keeps for a pod.
enum Kubelet {
    Volume(Source),
    Subpath,
}

/// `<kubelet root>/pods/<this pod's UID>/…`.
fn of_kubelet(source: &Path, context: &Context<'_>) -> Option<Kubelet> {
    let uid = pod_uid(context)?;
    let names = names_below(source, &context.host.kubelet_root.join("pods").join(uid))?;
    match names.as_slice() {
        ["etc-hosts"] | ["containers", _, _] => Some(Kubelet::Volume(Source::Pod)),
        ["volumes", kind, _, ..] if KUBELET_WRITES.contains(kind) => Some(Kubelet::Volume(Source::Kubelet)),
        ["volumes", kind, _, ..] if VOLUMES.contains(kind) => Some(Kubelet::Volume(Source::Pod)),
        ["volume-subpaths", _, _, _] => Some(Kubelet::Subpath),
        _ => None,
    }
}

/// The UID that containerd's CRI plugin wrote: one path component, a UUID or a static pod's hash.
fn pod_uid<'a>(context: &Context<'a>) -> Option<&'a str> {
    if context.request.tenant.containerd_namespace.as_str() != CRI_NAMESPACE
        || context.request.kind == ContainerKind::Plain
    {
        return None;
    }
    let uid = context.request.spec.annotations().as_ref()?.get(POD_UID)?;
    let plain = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then_some(uid)
}

/// A directory of the node's policy; the strictest entry that covers it counts.
fn of_policy(source: &Path, context: &Context<'_>) -> Option<Source> {
    let host = context.host;
    // Other tenants' files, and the sockets that rule the node, whatever policy names above or below them.
    let never: [&PathBuf; 3] = [&host.containerd_root, &host.containerd_state, &host.kubelet_root];
    if never.iter().any(|dir| source.starts_with(dir) || dir.starts_with(source)) {
        return None;
    }
    let covering = context.confinement.host_paths.iter().filter(|entry| source.starts_with(&entry.path));
    covering.map(|entry| entry.access).min().map(Source::Host)
}
