//! What containers need of policy, gathered by repository: a scope is one, whichever pods run it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bulkhead_model::Digest;

use super::manifest::{Container, Pod};

/// What the images of one repository need.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Name of its section.
    pub(super) section: String,
    /// Which containers run it: `Deployment web, container app`.
    pub(super) containers: BTreeSet<String>,
    pub(super) digests: BTreeSet<Digest>,
    /// Images named without a digest.
    pub(super) unpinned: BTreeSet<String>,
    /// argv of each command, and who runs it.
    pub(super) commands: BTreeMap<Vec<String>, BTreeSet<&'static str>>,
    /// Commands that no pattern means alone.
    pub(super) inexact: BTreeSet<Vec<String>>,
    /// Directory of the host, and whether something writes there.
    pub(super) host_paths: BTreeMap<String, bool>,
    pub(super) ports: BTreeSet<u16>,
    /// Places of the pod's own volumes.
    pub(super) volumes: BTreeSet<String>,
    /// What is refused at the hardened level, whatever the section says.
    pub(super) refused: BTreeSet<String>,
    pub(super) root: bool,
    /// Places outside of volumes that the environment says to write to.
    pub(super) writable: BTreeSet<String>,
    /// Whether a manifest leaves a root file system writable, which it is not here.
    pub(super) wrote_to_root: bool,
}

/// What every container has as a small tmpfs, unless the section says otherwise.
const TMPFS: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// By repository, as a scope spells it.
pub(super) fn needs(pods: &[Pod]) -> Result<BTreeMap<String, Need>, String> {
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    let mut sections = BTreeSet::new();
    for pod in pods {
        for container in pod.spec.init_containers.iter().chain(&pod.spec.containers) {
            let (repository, digest) = image(&container.image)
                .ok_or_else(|| format!("{}: {:?} is no image", pod.origin, container.image))?;
            let need = needs.entry(repository).or_default();
            if need.section.is_empty() {
                need.section = section(&pod.name, &container.name, &mut sections);
            }
            match digest {
                Some(digest) => need.digests.insert(digest),
                None => need.unpinned.insert(container.image.clone()),
            };
            add(need, pod, container)?;
        }
    }
    Ok(needs)
}

fn add(need: &mut Need, pod: &Pod, container: &Container) -> Result<(), String> {
    need.containers.insert(format!("{}, container {}", pod.origin, container.name));
    for (by, words) in container.commands() {
        // The last word of a pattern may be a star, and means any rest.
        if words.last().is_some_and(|word| word == "*") {
            need.inexact.insert(words);
        } else {
            need.commands.entry(words).or_default().insert(by);
        }
    }
    need.ports.extend(container.ports.iter().map(|port| port.container_port));
    for mount in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
        match volume.map(|volume| &volume.host_path) {
            // A StatefulSet's claim templates are volumes as well.
            None | Some(None) => {
                need.volumes.insert(mount.mount_path.clone());
            }
            Some(Some(host)) => {
                let path = host.path.trim_end_matches('/');
                if !plain(path) {
                    return Err(format!(
                        "{}: hostPath {:?} cannot be named in a policy",
                        pod.origin, host.path
                    ));
                }
                *need.host_paths.entry(path.to_owned()).or_default() |= !mount.read_only;
            }
        }
    }
    need.wrote_to_root |= !container.security_context.read_only_root_filesystem;
    for path in container.written() {
        let path = path.trim_end_matches('/');
        if !plain(path) {
            continue;
        }
        let mounts = container.volume_mounts.iter().map(|mount| mount.mount_path.trim_end_matches('/'));
        let below = |mount: &str| Path::new(path).starts_with(mount);
        let kernels = ["/proc", "/sys", "/dev"].into_iter().any(below);
        if !kernels && !mounts.chain(TMPFS).any(below) {
            need.writable.insert(path.to_owned());
        }
    }
    let user = container.security_context.run_as_user.or(pod.spec.security_context.run_as_user);
    need.root |= user == Some(0);
    let spec = &pod.spec;
    let refused = [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
        ("privileged", container.security_context.privileged),
    ];
    need.refused.extend(refused.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name.to_owned()));
    let added = &container.security_context.capabilities.add;
    let beyond = added.iter().filter(|name| *name != "NET_BIND_SERVICE");
    need.refused.extend(beyond.map(|name| format!("capability {}", name.replace(char::is_control, "?"))));
    Ok(())
}

/// Whether policy takes it for a path.
fn plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path[1..].split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// A section's name that no other has: of the pod's and the container's.
fn section(pod: &str, container: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let name: String = match pod == container {
        true => pod.chars().map(plain).collect(),
        false => format!("{pod}-{container}").chars().map(plain).collect(),
    };
    // [confine.default] would hold for every image.
    let first = if name == "default" { "default-1".to_owned() } else { name.clone() };
    let mut free = first;
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// Repository as a scope spells it, with its registry, and digest.
///
/// Source: containerd and the kubelet complete a short name by docker.io and library.
fn image(name: &str) -> Option<(String, Option<Digest>)> {
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse().ok()?)),
        None => (name, None),
    };
    let tag = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    let name = &name[..tag.unwrap_or(name.len())];
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    if !name.split('/').all(plain) {
        return None;
    }
    let registry = name.split_once('/').map(|(first, _)| first);
    let has_registry = registry.is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
    let repository = match (has_registry, registry) {
        (true, _) => name.to_owned(),
        (false, Some(_)) => format!("docker.io/{name}"),
        (false, None) => format!("docker.io/library/{name}"),
    };
    Some((repository, digest))
}
