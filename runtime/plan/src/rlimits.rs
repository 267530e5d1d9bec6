//! `process.rlimits`: what one process may use.
//!
//! Invariant: every limit is at most what was asked for and what the host's hard limits allow, and
//! RLIMIT_CORE is 1. With 0 the kernel still runs a core_pattern that is a pipe, on the host, on an
//! attacker's bytes; with 1 it writes neither file nor pipe.
//!
//! Current limit: a process may lower its own RLIMIT_CORE from 1 to 0; keeping it from that is the seccomp
//! baseline's job. A core_pattern that names a socket (Linux 6.16) asks for no limit at all.

use bulkhead_model::Refusal;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::{
    change::{Changes, Section},
    facts::{HardLimits, SysResource},
    limits::at_most,
    refuse::nothing_left,
};

/// Core size limit, in bytes, that stops dumps to files and to pipes alike.
///
/// Source: `do_coredump`, fs/coredump.c: "RLIMIT_CORE set to 1, Aborting core"; 1 is below `min_coredump` too.
const CORE_BYTES: u64 = 1;

/// Open files where the request says nothing, soft and hard.
///
/// Source: systemd's DefaultLimitNOFILE=1024:524288, which containerd 2 runs with.
const NOFILE: (u64, u64) = (1024, 524_288);

/// All kinds there are, so that a list is never longer.
const KINDS: usize = 16;

/// The limits as they are to be set.
pub(crate) fn harden(
    asked: Option<&Vec<PosixRlimit>>,
    hard_limits: &HardLimits,
    sys_resource: SysResource,
    changes: &mut Changes,
) -> Result<Vec<PosixRlimit>, Refusal> {
    let asked = asked.map(Vec::as_slice).unwrap_or_default();
    at_most("process.rlimits", asked.len(), KINDS, "limits")?;
    let mut limits: Vec<PosixRlimit> = Vec::with_capacity(asked.len() + 2);
    for limit in asked {
        let (kind, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        nothing_left("process.rlimits", limit, &blank(kind, soft, hard))?;
        if limits.iter().any(|earlier| earlier.typ() == kind) {
            return Err(twice(kind));
        }
        let (soft, hard) = judge(kind, soft, hard, changes);
        limits.push(make(kind, soft, hard)?);
    }
    for (kind, (soft, hard)) in
        [(PosixRlimitType::RlimitCore, (CORE_BYTES, CORE_BYTES)), (PosixRlimitType::RlimitNofile, NOFILE)]
    {
        if !limits.iter().any(|limit| limit.typ() == kind) {
            let reason = "without it the process would have the runtime's own limit";
            changes.record(Section::Rlimits, format!("{kind}: {soft}:{hard}"), reason);
            limits.push(make(kind, soft, hard)?);
        }
    }
    limits.iter().map(|limit| clamp(limit, hard_limits, sys_resource, changes)).collect()
}

fn judge(kind: PosixRlimitType, soft: u64, hard: u64, changes: &mut Changes) -> (u64, u64) {
    let (to, reason) = match kind {
        PosixRlimitType::RlimitCore => {
            ((CORE_BYTES, CORE_BYTES), "no core dump, not even to a core_pattern that is a pipe")
        }
        PosixRlimitType::RlimitNice | PosixRlimitType::RlimitRtprio => {
            ((0, 0), "a tenant does not outrun its neighbours by priority")
        }
        PosixRlimitType::RlimitCpu
        | PosixRlimitType::RlimitFsize
        | PosixRlimitType::RlimitData
        | PosixRlimitType::RlimitStack
        | PosixRlimitType::RlimitRss
        | PosixRlimitType::RlimitNproc
        | PosixRlimitType::RlimitNofile
        | PosixRlimitType::RlimitMemlock
        | PosixRlimitType::RlimitAs
        | PosixRlimitType::RlimitLocks
        | PosixRlimitType::RlimitSigpending
        | PosixRlimitType::RlimitMsgqueue
        | PosixRlimitType::RlimitRttime => ((soft.min(hard), hard), "a soft limit is at most the hard one"),
    };
    if to != (soft, hard) {
        changes.record(Section::Rlimits, format!("{kind}: {soft}:{hard} becomes {}:{}", to.0, to.1), reason);
    }
    to
}

/// Lowers a limit to what this host can set.
fn clamp(
    limit: &PosixRlimit,
    hard_limits: &HardLimits,
    sys_resource: SysResource,
    changes: &mut Changes,
) -> Result<PosixRlimit, Refusal> {
    let ceiling = match sys_resource {
        SysResource::Held => u64::MAX,
        SysResource::Missing => hard_limits.get(limit.typ()).unwrap_or(u64::MAX),
    };
    if limit.hard() > ceiling {
        let what = format!("{}: {} becomes {ceiling}", limit.typ(), limit.hard());
        changes.record(Section::Rlimits, what, "the runtime lacks CAP_SYS_RESOURCE to raise its hard limit");
    }
    make(limit.typ(), limit.soft().min(ceiling), limit.hard().min(ceiling))
}

fn make(kind: PosixRlimitType, soft: u64, hard: u64) -> Result<PosixRlimit, Refusal> {
    PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().map_err(|_| twice(kind))
}

fn blank(kind: PosixRlimitType, soft: u64, hard: u64) -> String {
    format!(r#"{{"type":"{kind}","soft":{soft},"hard":{hard}}}"#)
}

fn twice(kind: PosixRlimitType) -> Refusal {
    crate::refuse::refuse(
        bulkhead_model::Rule::Spec,
        "process.rlimits",
        format!("{kind} twice"),
        "which of them holds is not defined",
        "set it once",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn limit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
        make(kind, soft, hard).unwrap()
    }

    fn run(asked: &[PosixRlimit], sys_resource: SysResource) -> (Vec<(String, u64, u64)>, usize) {
        let host =
            HardLimits::parse("Max open files            1024                 20000                files\n");
        let mut changes = Changes::default();
        let limits = harden(Some(&asked.to_vec()), &host, sys_resource, &mut changes).unwrap();
        let text = limits.iter().map(|l| (l.typ().to_string(), l.soft(), l.hard())).collect();
        (text, changes.into_vec().len())
    }

    #[test]
    fn core_dumps_are_off_for_pipes_too_whatever_the_request_says() {
        for asked in [
            vec![],
            vec![limit(PosixRlimitType::RlimitCore, 0, 0)],
            vec![limit(PosixRlimitType::RlimitCore, u64::MAX, u64::MAX)],
        ] {
            let (limits, _) = run(&asked, SysResource::Held);
            assert!(limits.contains(&("RLIMIT_CORE".to_owned(), 1, 1)), "{limits:?}");
        }
    }

    #[test]
    fn open_files_are_filled_in_and_a_limit_of_the_request_stays() {
        let (limits, _) = run(&[], SysResource::Held);
        assert!(limits.contains(&("RLIMIT_NOFILE".to_owned(), 1024, 524_288)));
        let (limits, _) = run(&[limit(PosixRlimitType::RlimitNofile, 1024, 1024)], SysResource::Held);
        assert!(limits.contains(&("RLIMIT_NOFILE".to_owned(), 1024, 1024)));
    }

    #[test]
    fn limit_above_the_hosts_is_clamped_only_without_the_capability_and_recorded() {
        let asked =
            [limit(PosixRlimitType::RlimitNofile, 30_000, 40_000), limit(PosixRlimitType::RlimitCore, 1, 1)];
        let (limits, changes) = run(&asked, SysResource::Missing);
        assert_eq!((limits[0].1, limits[0].2, changes), (20_000, 20_000, 1));
        let (limits, changes) = run(&asked, SysResource::Held);
        assert_eq!((limits[0].1, limits[0].2, changes), (30_000, 40_000, 0));
    }

    #[test]
    fn same_limit_twice_is_refused_and_real_time_priority_is_taken_away() {
        let twice = vec![limit(PosixRlimitType::RlimitAs, 1, 1); 2];
        let host = HardLimits::default();
        assert!(harden(Some(&twice), &host, SysResource::Held, &mut Changes::default()).is_err());
        let (limits, _) = run(&[limit(PosixRlimitType::RlimitRtprio, 99, 99)], SysResource::Held);
        assert!(limits.contains(&("RLIMIT_RTPRIO".to_owned(), 0, 0)));
    }
}
