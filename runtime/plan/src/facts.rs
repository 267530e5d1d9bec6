//! What a plan must know of the host: read by others, handed in.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use bulkhead_model::{GeneratedProfile, UserNamespace};
use oci_spec::runtime::PosixRlimitType;

/// Facts about this host and this pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// containerd's `root`: `/var/lib/containerd`.
    pub containerd_root: PathBuf,
    /// containerd's `state`: `/run/containerd`.
    pub containerd_state: PathBuf,
    /// The kubelet's `--root-dir`: `/var/lib/kubelet`.
    pub kubelet_root: PathBuf,
    /// The pod that the container is to be part of, where it runs already.
    pub pod: Option<PodFacts>,
    /// Landlock ABI of the kernel; 0 where it has none.
    pub landlock_abi: u8,
    /// Hard resource limits of the server.
    pub hard_limits: HardLimits,
    /// Whether the server may raise hard limits and lower OOM scores.
    pub sys_resource: SysResource,
    /// The server's own oom_score_adj: without CAP_SYS_RESOURCE nothing lower can be set.
    pub oom_score_adj: i32,
    /// A regular file of the host that the container sees as [`CANARY`](crate::CANARY), below no Landlock rule.
    pub canary_source: PathBuf,
    /// A program of the host that the container sees as [`INIT`](crate::INIT), where policy asks for it.
    pub init_source: PathBuf,
    /// VOLUMEs that the image declares, as it spells them.
    pub volumes: BTreeSet<String>,
    /// A host directory that shows the container's own cgroups and nothing else.
    pub cgroup_view: Option<PathBuf>,
    /// A range of ids that is this container's own, where [`ranges_needed`](crate::ranges_needed) asks for one.
    pub id_range: Option<u16>,
    /// Which modules that label processes the kernel has switched on.
    pub modules: SecurityModules,
    /// `/proc/self/mountinfo` of the server; needed where [`needs_mountinfo`](crate::needs_mountinfo) says so.
    pub mountinfo: Option<String>,
    /// The profile of the container's commands, where policy wants one and there is one.
    pub profile: Option<Arc<GeneratedProfile>>,
    /// TCP ports that the image's config EXPOSEs.
    pub exposed: BTreeSet<u16>,
}

/// What the server knows of the pod that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Process id of the sandbox container's init.
    pub sandbox_pid: u32,
    /// The network namespace that the sandbox was made in, if by a path.
    pub network_namespace: Option<PathBuf>,
    /// The user namespace that the sandbox is in; the node's own if none.
    pub user_namespace: Option<UserNamespace>,
    /// Process ids of the init processes of this pod's containers that run.
    pub init_pids: BTreeSet<u32>,
}

/// Security modules of the kernel that a request may name labels of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

/// Whether CAP_SYS_RESOURCE is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysResource {
    /// Yes.
    Held,
    /// No: limits can only be lowered.
    Missing,
}

/// Hard resource limits of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardLimits(Vec<(PosixRlimitType, u64)>);

/// Rows of `/proc/PID/limits`.
///
/// Source: `lnames`, fs/proc/base.c.
const ROWS: [(&str, PosixRlimitType); 16] = [
    ("Max cpu time", PosixRlimitType::RlimitCpu),
    ("Max file size", PosixRlimitType::RlimitFsize),
    ("Max data size", PosixRlimitType::RlimitData),
    ("Max stack size", PosixRlimitType::RlimitStack),
    ("Max core file size", PosixRlimitType::RlimitCore),
    ("Max resident set", PosixRlimitType::RlimitRss),
    ("Max processes", PosixRlimitType::RlimitNproc),
    ("Max open files", PosixRlimitType::RlimitNofile),
    ("Max locked memory", PosixRlimitType::RlimitMemlock),
    ("Max address space", PosixRlimitType::RlimitAs),
    ("Max file locks", PosixRlimitType::RlimitLocks),
    ("Max pending signals", PosixRlimitType::RlimitSigpending),
    ("Max msgqueue size", PosixRlimitType::RlimitMsgqueue),
    ("Max nice priority", PosixRlimitType::RlimitNice),
    ("Max realtime priority", PosixRlimitType::RlimitRtprio),
    ("Max realtime timeout", PosixRlimitType::RlimitRttime),
];

impl HardLimits {
    /// Reads the text of `/proc/PID/limits`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let (name, kind) = ROWS.iter().find(|(name, _)| line.starts_with(name))?;
            let hard = line.strip_prefix(name)?.split_whitespace().nth(1)?;
            let hard = if hard == "unlimited" { u64::MAX } else { hard.parse().ok()? };
            Some((*kind, hard))
        });
        Self(rows.collect())
    }

    /// The hard limit of `kind`, where it is known.
    #[must_use]
    pub fn get(&self, kind: PosixRlimitType) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, hard)| *hard)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hard_limits_are_read_from_what_the_kernel_prints() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max core file size        0                    unlimited            bytes     \n\
                    Max open files            1024                 20000                files     \n\
                    Max nice priority         0                    0                    \n";
        let limits = HardLimits::parse(text);
        assert_eq!(limits.get(PosixRlimitType::RlimitNofile), Some(20000));
        assert_eq!(limits.get(PosixRlimitType::RlimitCore), Some(u64::MAX));
        assert_eq!(limits.get(PosixRlimitType::RlimitNice), Some(0));
        assert_eq!(limits.get(PosixRlimitType::RlimitAs), None);
    }
}
