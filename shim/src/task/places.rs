//! What a container could do where, of one that ended badly: its mounts, for `bulkhead explain`.

use std::path::{Path, PathBuf};

use bulkhead_model::{EndedBadly, MountedPlace, PLACES_MAX};
use oci_spec::runtime::Spec;

/// The kernel's own file systems are the same in every container.
const KERNELS: [&str; 3] = ["proc", "sysfs", "cgroup"];

/// The places of a spec that was planned.
pub(super) fn ended_badly(spec: &Spec, status: u32) -> EndedBadly {
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let root =
        MountedPlace { path: PathBuf::from("/"), writable: !read_only, executable: true, tmpfs: false };
    let mounts = spec.mounts().iter().flatten();
    let kind = |mount: &oci_spec::runtime::Mount| mount.typ().clone().unwrap_or_default();
    let mounts = mounts.filter(|mount| !KERNELS.contains(&kind(mount).as_str())).map(|mount| {
        let has = |option: &str| mount.options().iter().flatten().any(|found| found == option);
        MountedPlace {
            path: mount.destination().clone(),
            writable: !has("ro"),
            executable: !has("noexec"),
            tmpfs: kind(mount) == "tmpfs",
        }
    });
    let cwd = spec.process().as_ref().map_or(Path::new("/"), |process| process.cwd());
    EndedBadly {
        status,
        cwd: cwd.to_owned(),
        places: std::iter::once(root).chain(mounts).take(PLACES_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn root_and_mounts_are_told_with_what_they_allow_and_the_kernels_are_not() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.0","root":{"path":"rootfs","readonly":true},
                "process":{"user":{"uid":1,"gid":1},"args":["a"],"cwd":"/srv"},
                "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
                          {"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","noexec"]},
                          {"destination":"/config","type":"bind","source":"/x","options":["rbind","ro"]}]}"#,
        )
        .unwrap();
        let EndedBadly { status, cwd, places } = ended_badly(&spec, 3);
        let seen: Vec<_> =
            places.iter().map(|p| (p.path.to_str().unwrap(), p.writable, p.executable)).collect();
        assert_eq!(seen, [("/", false, true), ("/tmp", true, false), ("/config", false, true)]);
        assert_eq!((status, cwd.to_str().unwrap()), (3, "/srv"));
    }
}
