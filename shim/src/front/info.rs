//! `-info`: what this runtime can do, in the words of the OCI runtime spec's features document.
//!
//! containerd asks before it starts anything. Without features it takes a runtime for one that can nothing, and
//! 2.4 then refuses id-mapped mounts.

use std::io::{self, Write};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField, well_known_types::any::Any};
use serde_json::json;

use super::{FrontError, RUNTIME_NAME};

/// The type under which containerd registered the features document.
///
/// Source: typeurl.Register of features.Features, containerd pkg/oci or client.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Writes the message to standard output.
pub(crate) fn info() -> Result<(), FrontError> {
    let bytes = message().write_to_bytes()?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(FrontError::io("write(2)", "standard output"))
}

fn message() -> RuntimeInfo {
    let mut version = RuntimeVersion::new();
    version.version = env!("CARGO_PKG_VERSION").to_owned();
    let mut features = Any::new();
    features.type_url = FEATURES_TYPE.to_owned();
    features.value = features_document().to_string().into_bytes();
    let mut info = RuntimeInfo::new();
    info.name = RUNTIME_NAME.to_owned();
    info.version = MessageField::some(version);
    info.features = MessageField::some(features);
    info
}

/// Only what a container can be granted is claimed.
///
/// Source: OCI runtime spec 1.2, features.md.
fn features_document() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "mountOptions": [
            "async", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "noatime", "nodev", "nodiratime",
            "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "rdev", "relatime",
            "remount", "rexec", "rnodev", "rnoexec", "rnosuid", "rnosymfollow", "ro", "rprivate", "rro", "rrw",
            "rslave", "rsuid", "rw", "slave", "strictatime", "suid", "sync",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": [],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"],
                "operators": [
                    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                    "SCMP_CMP_MASKED_EQ",
                ],
                "archs": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn features_are_there_and_parse_as_the_oci_document() {
        let info = RuntimeInfo::parse_from_bytes(&message().write_to_bytes().unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.features.type_url.as_str()), (RUNTIME_NAME, FEATURES_TYPE));
        let features: oci_spec::runtime::Features = serde_json::from_slice(&info.features.value).unwrap();
        assert_eq!(features.oci_version_max(), "1.2.1");
        // By this word containerd tells the kubelet that a read-only mount is read-only all the way down.
        // By these containerd gives a pod of hostUsers: false to this runtime.
        let linux = features.linux().as_ref().unwrap();
        assert!(linux.namespaces().as_ref().unwrap().contains(&oci_spec::runtime::LinuxNamespaceType::User));
        assert!(features_document()["linux"]["mountExtensions"]["idmap"]["enabled"].as_bool().unwrap());
        assert!(features.mount_options().as_ref().unwrap().contains(&"rro".to_owned()));
    }
}
