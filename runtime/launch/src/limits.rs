//! What a host without CAP_SYS_RESOURCE cannot raise is clamped to what it can.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::LaunchError;

/// Hard limits that cannot be raised: none where the process has CAP_SYS_RESOURCE.
///
/// Read before the server confines itself: it is the zygote and its workers that set limits, and they keep what the
/// server gives up.
#[derive(Clone, Debug)]
pub(crate) struct Ceilings(Vec<(PosixRlimitType, u64)>);

impl Ceilings {
    /// Those of this process.
    pub(crate) fn read() -> Result<Self, LaunchError> {
        if may_raise()? {
            return Ok(Self(Vec::new()));
        }
        let hard = |(kind, resource): (PosixRlimitType, Resource)| {
            let (_, hard) =
                getrlimit(resource).map_err(LaunchError::io("getrlimit(2)", format!("{resource:?}")))?;
            Ok((kind, hard))
        };
        RESOURCES.into_iter().map(hard).collect::<Result<_, _>>().map(Self)
    }

    /// The limits, none above these.
    pub(crate) fn clamp(&self, rlimits: &[PosixRlimit]) -> Result<Vec<PosixRlimit>, LaunchError> {
        rlimits
            .iter()
            .map(|limit| {
                let Some((_, most)) = self.0.iter().find(|(kind, _)| *kind == limit.typ()) else {
                    return Ok(*limit);
                };
                PosixRlimitBuilder::default()
                    .typ(limit.typ())
                    .hard(limit.hard().min(*most))
                    .soft(limit.soft().min(*most))
                    .build()
                    .map_err(|_| LaunchError::Plan("process.rlimits"))
            })
            .collect()
    }
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

/// All there are.
const RESOURCES: [(PosixRlimitType, Resource); 16] = [
    (PosixRlimitType::RlimitCpu, Resource::RLIMIT_CPU),
    (PosixRlimitType::RlimitFsize, Resource::RLIMIT_FSIZE),
    (PosixRlimitType::RlimitData, Resource::RLIMIT_DATA),
    (PosixRlimitType::RlimitStack, Resource::RLIMIT_STACK),
    (PosixRlimitType::RlimitCore, Resource::RLIMIT_CORE),
    (PosixRlimitType::RlimitRss, Resource::RLIMIT_RSS),
    (PosixRlimitType::RlimitNproc, Resource::RLIMIT_NPROC),
    (PosixRlimitType::RlimitNofile, Resource::RLIMIT_NOFILE),
    (PosixRlimitType::RlimitMemlock, Resource::RLIMIT_MEMLOCK),
    (PosixRlimitType::RlimitAs, Resource::RLIMIT_AS),
    (PosixRlimitType::RlimitLocks, Resource::RLIMIT_LOCKS),
    (PosixRlimitType::RlimitSigpending, Resource::RLIMIT_SIGPENDING),
    (PosixRlimitType::RlimitMsgqueue, Resource::RLIMIT_MSGQUEUE),
    (PosixRlimitType::RlimitNice, Resource::RLIMIT_NICE),
    (PosixRlimitType::RlimitRtprio, Resource::RLIMIT_RTPRIO),
    (PosixRlimitType::RlimitRttime, Resource::RLIMIT_RTTIME),
];

/// Sets the worker's oom_score_adj, which every process of the job inherits. A value below what this host
/// lets us set is clamped to where we are; everything else is an error.
pub(crate) fn set_oom_score(wanted: i32) -> Result<(), LaunchError> {
    let path = "/proc/self/oom_score_adj";
    match fs::write(path, wanted.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // The server says once that it lacks the capability.
            tracing::debug!(
                wanted,
                "oom_score_adj cannot be lowered without CAP_SYS_RESOURCE: left as it is"
            );
            Ok(())
        }
        other => other.map_err(LaunchError::io("write(2)", path)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_are_clamped_to_the_ceilings_and_left_alone_without_any() {
        let limit = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNofile)
            .soft(30_u64)
            .hard(40_u64)
            .build()
            .unwrap();
        let clamped = Ceilings(vec![(PosixRlimitType::RlimitNofile, 20)]).clamp(&[limit]).unwrap();
        assert_eq!((clamped[0].soft(), clamped[0].hard()), (20, 20));
        let free = Ceilings(Vec::new()).clamp(&[limit]).unwrap();
        assert_eq!((free[0].soft(), free[0].hard()), (30, 40));
    }
}
