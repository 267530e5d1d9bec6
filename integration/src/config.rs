//! The configuration of a private containerd, in the form that each version reads.

use std::path::Path;

use crate::RUNC;

/// Where a private containerd keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) cni: &'a str,
    /// The sandbox image, and where an image of pods comes from: local only.
    pub(crate) pause: &'a str,
    /// More CRI handlers: runc's shim with another runtime binary.
    pub(crate) handlers: &'a [(&'a str, &'a Path)],
    /// More CRI handlers: of runc's type, with the shim at a path.
    pub(crate) shims: &'a [(&'a str, &'a Path)],
    /// The handler of pods that name none.
    pub(crate) default: &'a str,
}

/// Whether the CRI plugin is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cri {
    /// Pods are possible.
    On,
    /// `ctr` alone; starts faster.
    Off,
}

/// config.toml for containerd `version`.
pub(crate) fn config(version: (u32, u32), cri: Cri, places: &Places<'_>) -> String {
    let dir = places.dir.display();
    let modern = version.0 >= 2;
    let (form, cri_plugins) = if modern {
        (
            3,
            ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
                .as_slice(),
        )
    } else {
        (2, ["io.containerd.grpc.v1.cri"].as_slice())
    };
    let mut disabled: Vec<&str> = vec![
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.zfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.aufs",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.internal.v1.tracing",
        "io.containerd.tracing.processor.v1.otlp",
    ];
    if cri == Cri::Off {
        disabled.extend(cri_plugins);
    }
    let disabled = disabled.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "version = {form}\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\nimports = []\n\
         disabled_plugins = [{disabled}]\n\
         [grpc]\n  address = \"{dir}/c.sock\"\n[debug]\n  level = \"info\"\n\
         [plugins.\"io.containerd.nri.v1.nri\"]\n  disable = true\n"
    );
    if version < (1, 7) {
        // NRI is not there yet, and an unknown plugin's section is an error nowhere; leave it out all the same.
        text = text.replace("[plugins.\"io.containerd.nri.v1.nri\"]\n  disable = true\n", "");
    }
    if cri == Cri::On {
        text += &if modern { cri_modern(places) } else { cri_classic(places) };
        let plugin = if modern { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
        text.extend(places.handlers.iter().map(|(name, binary)| handler(plugin, name, binary)));
        text.extend(places.shims.iter().map(|(name, shim)| handler_by_path(plugin, name, shim)));
    }
    text
}

/// A handler of runc's shim with another runtime binary.
fn handler(plugin: &str, name: &str, binary: &Path) -> String {
    let table = format!("plugins.{plugin:?}.containerd.runtimes.{name}");
    format!("[{table}]\n  runtime_type = {RUNC:?}\n[{table}.options]\n  BinaryName = {binary:?}\n")
}

/// A handler of runc's type with another shim: containerd 2.1 asks no other type what it can do.
///
/// Source: `introspectRuntimeFeatures`, containerd internal/cri/server/service.go.
fn handler_by_path(plugin: &str, name: &str, shim: &Path) -> String {
    let table = format!("plugins.{plugin:?}.containerd.runtimes.{name}");
    format!("[{table}]\n  runtime_type = {RUNC:?}\n  runtime_path = {shim:?}\n")
}

fn cri_classic(places: &Places<'_>) -> String {
    let Places { dir, cni, pause, handlers: _, shims: _, default } = places;
    let dir = dir.display();
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "[{cri}]\n  sandbox_image = \"{pause}\"\n  restrict_oom_score_adj = true\n  disable_apparmor = true\n  \
         netns_mounts_under_state_dir = true\n  stream_server_address = \"127.0.0.1\"\n  stream_server_port = \"0\"\n\
         [{cri}.cni]\n  bin_dir = \"{cni}\"\n  conf_dir = \"{dir}/cni\"\n\
         [{cri}.containerd]\n  snapshotter = \"overlayfs\"\n  default_runtime_name = \"{default}\"\n\
         [{cri}.containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [{cri}.containerd.runtimes.bulkhead]\n  runtime_type = \"io.containerd.bulkhead.v2\"\n"
    )
}

fn cri_modern(places: &Places<'_>) -> String {
    let Places { dir, cni, pause, handlers: _, shims: _, default } = places;
    let dir = dir.display();
    let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
    let images = "plugins.\"io.containerd.cri.v1.images\"";
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\n  stream_server_address = \"127.0.0.1\"\n  \
         stream_server_port = \"0\"\n\
         [{images}]\n  snapshotter = \"overlayfs\"\n[{images}.pinned_images]\n  sandbox = \"{pause}\"\n\
         [{runtime}]\n  restrict_oom_score_adj = true\n  disable_apparmor = true\n  \
         netns_mounts_under_state_dir = true\n\
         [{runtime}.cni]\n  bin_dirs = [\"{cni}\"]\n  conf_dir = \"{dir}/cni\"\n\
         [{runtime}.containerd]\n  default_runtime_name = \"{default}\"\n\
         [{runtime}.containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [{runtime}.containerd.runtimes.bulkhead]\n  runtime_type = \"io.containerd.bulkhead.v2\"\n"
    )
}

/// A network per pod that leaves nothing on the host but one end of a veth pair, which goes with the pod.
/// `number` keeps the addresses of daemons that run at the same time apart.
pub(crate) fn network(dir: &Path, number: u32) -> String {
    let subnet = format!("10.{}.{}.0/24", 200 + number / 256 % 50, number % 256);
    let ipam = serde_json::json!({
        "type": "host-local",
        "dataDir": dir.join("ipam"),
        "ranges": [[{ "subnet": subnet }]],
    });
    let ptp = serde_json::json!({ "type": "ptp", "ipMasq": false, "ipam": ipam });
    serde_json::json!({ "cniVersion": "0.4.0", "name": "bulkhead-test", "plugins": [ptp] }).to_string()
}

/// A bridge for all pods, as most nodes have it: in a network namespace of the daemon's own, with which it goes.
pub(crate) fn bridge(dir: &Path) -> String {
    let ipam = serde_json::json!({
        "type": "host-local",
        "dataDir": dir.join("ipam"),
        "ranges": [[{ "subnet": "10.252.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let bridge = serde_json::json!({ "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
        "ipam": ipam });
    serde_json::json!({ "cniVersion": "0.4.0", "name": "bulkhead-node", "plugins": [bridge] }).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn configuration_of_each_version_is_toml_of_its_own_form() {
        let places = Places {
            dir: Path::new("/x"),
            cni: "/usr/lib/cni",
            pause: "registry.test/pause:1",
            handlers: &[("crun", Path::new("/usr/bin/crun"))],
            shims: &[("by-path", Path::new("/usr/bin/shim"))],
            default: "bulkhead",
        };
        for (version, form) in [((1, 6), 2), ((1, 7), 2), ((2, 1), 3)] {
            for cri in [Cri::On, Cri::Off] {
                let text = config(version, cri, &places);
                let table: toml::Table = text.parse().unwrap();
                assert_eq!(table["version"].as_integer(), Some(form));
                assert_eq!(text.contains("runtimes.bulkhead"), cri == Cri::On);
                assert_eq!(text.contains("default_runtime_name = \"bulkhead\""), cri == Cri::On);
                assert_eq!(text.contains("runtime_path = \"/usr/bin/shim\""), cri == Cri::On);
                assert_eq!(text.contains("BinaryName = \"/usr/bin/crun\""), cri == Cri::On);
            }
        }
    }
}
