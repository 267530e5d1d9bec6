//! What a plan must know of this host and this pod, read once where it cannot change.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use bulkhead_model::{ContainerKind, CreateRequest, Layout, UserNamespace};
use bulkhead_plan::{HardLimits, HostFacts, PodFacts, SecurityModules, SysResource};

use crate::task::TaskError;

/// Bit of CAP_SYS_RESOURCE.
///
/// Source: include/uapi/linux/capability.h.
const CAP_SYS_RESOURCE: u32 = 24;

/// The pod that this server serves, as far as it runs.
pub(crate) struct Pod {
    /// Id of the sandbox.
    pub(crate) sandbox: String,
    /// Pid of its init.
    pub(crate) sandbox_pid: u32,
    /// The network namespace that it was made in, if by a path.
    pub(crate) network_namespace: Option<PathBuf>,
    /// The user namespace that it is in; the node's own if none.
    pub(crate) user_namespace: Option<UserNamespace>,
    /// Pids of all containers' inits.
    pub(crate) init_pids: BTreeSet<u32>,
}

/// What does not change while the server lives.
pub(super) struct Constant {
    landlock_abi: u8,
    hard_limits: HardLimits,
    sys_resource: SysResource,
    oom_score_adj: i32,
    canary_source: PathBuf,
    init_source: PathBuf,
    modules: SecurityModules,
}

impl Constant {
    /// Reads it. What limits can be set is the zygote's to say: its workers set them, and the server has given up the
    /// capability that they keep.
    pub(super) fn read(layout: &Layout, zygote: u32) -> Result<Self, TaskError> {
        let read = |name: &str| {
            let path = format!("/proc/{zygote}/{name}");
            fs::read_to_string(&path).map_err(|error| TaskError::Internal(format!("read(2) {path}: {error}")))
        };
        let sys_resource = sys_resource(&read("status")?);
        let score = read("oom_score_adj")?;
        if sys_resource == SysResource::Missing {
            tracing::warn!(
                oom_score_adj = score.trim(),
                "no CAP_SYS_RESOURCE: resource limits above this host's hard limits and OOM scores below this process's \
                 own are clamped to these (said once)"
            );
        }
        Ok(Self {
            landlock_abi: bulkhead_confine::landlock_abi(),
            hard_limits: HardLimits::parse(&read("limits")?),
            sys_resource,
            oom_score_adj: score
                .trim()
                .parse()
                .map_err(|error| TaskError::Internal(format!("oom_score_adj: {error}")))?,
            canary_source: layout.run_dir().join("canary"),
            init_source: layout.run_dir().join(bulkhead_launch::init_name()),
            modules: modules(Path::new("/sys")),
        })
    }

    /// Adds what this request needs.
    pub(super) fn for_request(
        &self,
        request: &CreateRequest,
        pod: Option<Pod>,
        task_dir: &Path,
        kubelet_root: &Path,
        id_range: Option<u16>,
    ) -> Result<HostFacts, TaskError> {
        let mountinfo = match bulkhead_plan::needs_mountinfo(request) {
            true => Some(
                fs::read_to_string("/proc/self/mountinfo").map_err(|error| TaskError::internal(&error))?,
            ),
            false => None,
        };
        let (containerd_root, containerd_state) = containerd_dirs(&request.bundle)
            .map_err(|error| TaskError::Internal(format!("bundle {}: {error}", request.bundle.display())))?;
        Ok(HostFacts {
            containerd_root,
            containerd_state,
            kubelet_root: kubelet_root.to_owned(),
            pod: pod_of(request, pod),
            landlock_abi: self.landlock_abi,
            hard_limits: self.hard_limits.clone(),
            sys_resource: self.sys_resource,
            oom_score_adj: self.oom_score_adj,
            canary_source: self.canary_source.clone(),
            init_source: self.init_source.clone(),
            volumes: BTreeSet::new(),
            cgroup_view: Some(bulkhead_launch::cgroup_view(task_dir)),
            id_range,
            modules: self.modules,
            mountinfo,
            profile: None,
            exposed: BTreeSet::new(),
        })
    }

    /// The file that no confined process may open.
    pub(super) fn canary(&self) -> &Path {
        &self.canary_source
    }

    /// The small init.
    pub(super) fn init(&self) -> &Path {
        &self.init_source
    }
}

/// The pod, if the container says that it is part of this very one.
fn pod_of(request: &CreateRequest, pod: Option<Pod>) -> Option<PodFacts> {
    let ContainerKind::InSandbox { sandbox } = &request.kind else { return None };
    let Pod { sandbox: served, sandbox_pid, network_namespace, user_namespace, init_pids } = pod?;
    (served == sandbox.as_str()).then_some(PodFacts {
        sandbox_pid,
        network_namespace,
        user_namespace,
        init_pids,
    })
}

/// containerd's `root` and `state`, from where it put this bundle.
///
/// Source: `NewBundle`, containerd core/runtime/v2/bundle.go: `<state>/io.containerd.runtime.v2.task/<ns>/<id>`, and in
/// it `work`, a link to the same below `<root>`.
fn containerd_dirs(bundle: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let above = |path: &Path| {
        path.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| io::Error::other("is too short a path"))
    };
    let work = fs::read_link(bundle.join("work"))?;
    Ok((above(&work)?, above(bundle)?))
}

/// What the kernel has switched on.
///
/// Source: `isEnabled` of containerd pkg/apparmor; `getSelinuxMountPoint` of opencontainers/selinux.
fn modules(sys: &Path) -> SecurityModules {
    let enabled = fs::read_to_string(sys.join("module/apparmor/parameters/enabled"));
    SecurityModules {
        apparmor: enabled.is_ok_and(|text| text.starts_with('Y')),
        selinux: sys.join("fs/selinux/status").exists(),
    }
}

fn sys_resource(status: &str) -> SysResource {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    match bits >> CAP_SYS_RESOURCE & 1 {
        1 => SysResource::Held,
        _ => SysResource::Missing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn containerd_directories_follow_from_the_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("state/io.containerd.runtime.v2.task/ns/c");
        fs::create_dir_all(&bundle).unwrap();
        std::os::unix::fs::symlink("/data/root/io.containerd.runtime.v2.task/ns/c", bundle.join("work"))
            .unwrap();
        let (root, state) = containerd_dirs(&bundle).unwrap();
        assert_eq!((root, state), (PathBuf::from("/data/root"), dir.path().join("state")));
    }

    #[test]
    fn security_modules_are_those_that_are_switched_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(modules(dir.path()), SecurityModules { apparmor: false, selinux: false });
        let parameters = dir.path().join("module/apparmor/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert!(!modules(dir.path()).apparmor);
        fs::write(parameters.join("enabled"), "Y\n").unwrap();
        fs::create_dir_all(dir.path().join("fs/selinux")).unwrap();
        fs::write(dir.path().join("fs/selinux/status"), "").unwrap();
        assert_eq!(modules(dir.path()), SecurityModules { apparmor: true, selinux: true });
    }

    #[test]
    fn sys_resource_is_read_from_the_effective_set() {
        assert_eq!(sys_resource("CapPrm:\t0\nCapEff:\t0000000001000000\n"), SysResource::Held);
        assert_eq!(sys_resource("CapPrm:\t0000000001000000\nCapEff:\t0\n"), SysResource::Missing);
    }
}
