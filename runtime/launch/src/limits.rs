//! What a host without CAP_SYS_RESOURCE cannot raise is clamped to what it can.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::LaunchError;

/// The limits, none above this process's own hard limit unless it may raise it.
pub(crate) fn clamp(rlimits: &[PosixRlimit]) -> Result<Vec<PosixRlimit>, LaunchError> {
    if may_raise()? {
        return Ok(rlimits.to_vec());
    }
    rlimits
        .iter()
        .map(|limit| {
            let Some(resource) = resource(limit.typ()) else { return Ok(*limit) };
            let (_, hard_max) =
                getrlimit(resource).map_err(LaunchError::io("getrlimit(2)", format!("{resource:?}")))?;
            PosixRlimitBuilder::default()
                .typ(limit.typ())
                .hard(limit.hard().min(hard_max))
                .soft(limit.soft().min(hard_max))
                .build()
                .map_err(|_| LaunchError::Plan("process.rlimits"))
        })
        .collect()
}

/// Whether this process has CAP_SYS_RESOURCE.
fn may_raise() -> Result<bool, LaunchError> {
    /// Source: `CAP_SYS_RESOURCE`, include/uapi/linux/capability.h.
    const CAP_SYS_RESOURCE: u32 = 24;
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(LaunchError::io("read(2)", path))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or(LaunchError::Plan("/proc/self/status has no CapEff"))?;
    Ok(effective & (1 << CAP_SYS_RESOURCE) != 0)
}

/// None where lowering needs no care and raising is not limited by a hard limit of ours that we can read.
fn resource(kind: PosixRlimitType) -> Option<Resource> {
    Some(match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
        #[allow(unreachable_patterns)]
        _ => return None,
    })
}

/// Sets the worker's oom_score_adj, which every process of the job inherits. A value below what this host
/// lets us set is clamped to where we are; everything else is an error.
pub(crate) fn set_oom_score(wanted: i32) -> Result<(), LaunchError> {
    let path = "/proc/self/oom_score_adj";
    match fs::write(path, wanted.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(wanted, "oom_score_adj cannot be lowered without CAP_SYS_RESOURCE: left as it is");
            Ok(())
        }
        other => other.map_err(LaunchError::io("write(2)", path)),
    }
}
