//! What a container of these tests is made from.

use std::path::{Path, PathBuf};

use bulkhead_cgroup::CgroupPath;
use bulkhead_launch::{CreateJob, Stdio};
use bulkhead_model::{
    ConfineSpec, ContainerId, Credentials, DeniedCalls, HardenedSpec, ImageAccess, LandlockSpec, Mount,
    PathAccess, PathRule, TcpRule,
};
use bulkhead_plan::Plan;
use oci_spec::runtime::{LinuxResources, Spec};
use serde_json::{Value, json};

use super::{ALLOW, UID};

/// What a container is made from.
pub struct Container {
    pub id: ContainerId,
    pub task_dir: PathBuf,
    pub layer: PathBuf,
    pub spec: Spec,
    pub confine: HardenedSpec,
    pub rootfs: Vec<Mount>,
    pub cgroup: CgroupPath,
    pub resources: LinuxResources,
    pub(super) execs: u32,
}

impl Container {
    /// What no gate has seen: these tests are about how a plan is carried out.
    pub fn plan(&self) -> Plan {
        let mut spec = self.spec.clone();
        let mut linux = spec.linux().clone().unwrap();
        linux.set_resources(Some(self.resources.clone()));
        spec.set_linux(Some(linux));
        Plan::unjudged(spec, ConfineSpec::Hardened(self.confine.clone()))
    }

    pub fn job<'a>(&'a self, plan: &'a Plan, stdio: &'a Stdio) -> CreateJob<'a> {
        CreateJob {
            id: &self.id,
            task_dir: &self.task_dir,
            plan,
            rootfs: &self.rootfs,
            cgroup: &self.cgroup,
            stdio,
        }
    }
}

pub(super) fn spec(args: &[&str], dir: &Path) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bulkhead",
        "process": {
            "terminal": false,
            "user": { "uid": UID, "gid": UID },
            "args": args,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=1m"]),
            mount("/dev/.bulkhead-canary", "bind", &dir.join("canary").display().to_string(), &["bind", "ro", "nosuid", "nodev", "noexec"]),
        ],
        "linux": {
            "resources": {
                "devices": [
                    { "allow": false, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 1, "minor": 7, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 1, "minor": 8, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 136, "access": "rwm" },
                ],
                "memory": { "limit": 64 << 20 },
                "pids": { "limit": 32 },
                "cpu": { "shares": 512 },
            },
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

pub(super) fn confine(spec: &Spec) -> HardenedSpec {
    let user = spec.process().as_ref().unwrap().user();
    let rule = |path: &str, access| PathRule { path: PathBuf::from(path), access };
    HardenedSpec {
        credentials: Credentials {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
        },
        root_read_only: true,
        landlock: LandlockSpec {
            floor_abi: 1,
            image: ImageAccess::Whole(PathAccess::ReadExecute),
            paths: vec![
                rule("/proc", PathAccess::ReadWrite),
                rule("/sys", PathAccess::Read),
                rule("/tmp", PathAccess::ReadWrite),
                rule("/dev/shm", PathAccess::ReadWrite),
                rule("/dev/pts", PathAccess::Device),
                rule("/dev/null", PathAccess::Device),
                rule("/dev/zero", PathAccess::Device),
                rule("/dev/full", PathAccess::Device),
                rule("/dev/random", PathAccess::Device),
                rule("/dev/urandom", PathAccess::Device),
                rule("/dev/tty", PathAccess::Device),
            ],
            tcp_bind: TcpRule::Any,
            tcp_connect: TcpRule::Any,
            scope: Default::default(),
            canary: PathBuf::from("/dev/.bulkhead-canary"),
        },
        // BPF_RET of SECCOMP_RET_ALLOW.
        seccomp: vec![vec![ALLOW]],
        denied_calls: DeniedCalls::Unseen,
        selinux_label: None,
        user_namespace: None,
    }
}
