//! The kubelet, and what it would otherwise change of the machine: kernel settings, /var/log, control groups.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::{Containerd, HarnessError, Result};
use serde_json::json;

use crate::{control_plane::FEATURES, network::ADDRESS, program::Program};

/// The node's name: what the API server dials for logs and exec.
pub(crate) const NODE: &str = "localhost";

/// What a kubelet wants the kernel's settings to be, and writes where they are not. It finds them so in its own mount
/// namespace: those of the machine stay as they are.
///
/// Source: `setupKernelTunables`, kubernetes pkg/kubelet/cm/container_manager_linux.go; its values, pkg/util/sysctl.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Mounts of its own but for those below /var/lib/kubelet, which containerd must see.
const WORLD: &str = "mount --make-private / && mount --make-private /proc && mount -t tmpfs log /var/log && \
    for file in \"$0\"/*; do name=${file##*/} && \
        mount --bind \"$file\" \"/proc/sys/$(echo \"$name\" | tr . /)\" || exit 1; done && exec \"$@\"";

/// Where static pods are put.
pub(crate) fn static_pods(daemon: &Containerd) -> PathBuf {
    daemon.dir().join("static")
}

/// Starts it; again, where one has been before.
pub(crate) fn start(daemon: &Containerd, kubeconfig: &Path) -> Result<Program> {
    let dir = daemon.dir();
    let settings = dir.join("settings");
    for place in [&settings, &static_pods(daemon), &dir.join("pod-logs"), &dir.join("plugins")] {
        fs::create_dir_all(place).map_err(HarnessError::at("create", place))?;
    }
    for (name, value) in SETTINGS {
        let path = settings.join(name.replace('/', "."));
        fs::write(&path, format!("{value}\n")).map_err(HarnessError::at("write", path))?;
    }
    make_groups(daemon.tag())?;
    let config = dir.join("kubelet.json");
    fs::write(&config, configuration(daemon)).map_err(HarnessError::at("write", &config))?;
    let words = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--node-ip={ADDRESS}"),
        format!("--hostname-override={NODE}"),
        "--v=2".to_owned(),
    ];
    let settings = settings.display().to_string();
    let own = ["unshare", "--mount", "--propagation", "unchanged", "--", "sh", "-c", WORLD, &settings];
    let by = [&["setpriv", "--pdeathsig", "KILL", "--"][..], &own].concat();
    Program::start_by(daemon, "kubelet", &by, &words)
}

/// The control group in each hierarchy below which all pods of this node are.
fn make_groups(tag: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).map_err(HarnessError::at("read", root))?;
    let mut hierarchies: Vec<PathBuf> = below.flatten().map(|entry| entry.path()).collect();
    match root.join("cgroup.controllers").exists() {
        true => hierarchies = vec![root.to_owned()],
        false => hierarchies.retain(|path| path.join("cgroup.procs").exists() && !path.is_symlink()),
    }
    for hierarchy in hierarchies {
        let group = hierarchy.join(tag);
        fs::create_dir_all(&group).map_err(HarnessError::at("create", &group))?;
        // On v1 a new cpuset is empty, and takes no process.
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if let (Ok(value), true) = (fs::read(hierarchy.join(name)), hierarchy.ends_with("cpuset")) {
                let file = group.join(name);
                fs::write(&file, value).map_err(HarnessError::at("write", file))?;
            }
        }
    }
    Ok(())
}

fn configuration(daemon: &Containerd) -> String {
    let dir = daemon.dir();
    let (name, value) = FEATURES.split_once('=').unwrap_or((FEATURES, "true"));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{}", daemon.socket().display()),
        "staticPodPath": static_pods(daemon),
        "podLogsDir": dir.join("pod-logs"),
        "volumePluginDir": dir.join("plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", daemon.tag()),
        "clusterDNS": ["10.251.0.10"],
        "resolvConf": "",
        // What a machine of CI may lack: systemd's slices, control groups of version 2, CAP_SYS_RESOURCE, room on the disk.
        "failCgroupV1": false,
        "failSwapOn": false,
        "maxOpenFiles": 20_000,
        "oomScoreAdj": 0,
        "evictionHard": { "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
        "imageGCHighThresholdPercent": 100,
        // How long it may take until a changed configmap is in a volume.
        "syncFrequency": "5s",
        "fileCheckFrequency": "2s",
        "featureGates": { name: value == "true" },
    })
    .to_string()
}
