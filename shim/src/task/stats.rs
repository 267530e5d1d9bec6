//! Stats in containerd's messages: `io.containerd.cgroups.v1.Metrics` or `.v2.Metrics`.
//!
//! Invariant: pure. What the kernel did not offer is left out.
//!
//! Source of what goes where: containerd's cgroups library, with which runc's shim fills them: cgroup1/*.go,
//! cgroup2/manager.go. Both leave `network` and v1's `cgroup_stats` empty.

mod v1;
mod v2;

use bulkhead_cgroup::{Stats, Version};
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use super::{TaskError, service};

/// The message of this host's version, packed.
pub(crate) fn any(version: Version, stats: &Stats) -> Result<Any, TaskError> {
    match version {
        Version::V1 | Version::Hybrid => {
            service::any("io.containerd.cgroups.v1.Metrics", &v1::metrics(stats))
        }
        Version::V2 => service::any("io.containerd.cgroups.v2.Metrics", &v2::metrics(stats)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_cgroup::{CpuStats, MemoryStats, MemoryUse};
    use containerd_shim_protos::{
        cgroups::metrics as proto_v1, cgroups_v2::metrics as proto_v2, protobuf::Message,
    };

    fn stats() -> Stats {
        Stats {
            memory: Some(MemoryStats {
                memory: MemoryUse { usage: 4096, ..MemoryUse::default() },
                rows: vec![("total_inactive_file".into(), 7), ("anon".into(), 8)],
                ..MemoryStats::default()
            }),
            cpu: Some(CpuStats { total_ns: 5_000, ..CpuStats::default() }),
            ..Stats::default()
        }
    }

    #[test]
    fn v1_host_answers_in_nanoseconds_under_the_v1_name() {
        let any = any(Version::Hybrid, &stats()).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = proto_v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage.total, metrics.memory.total_inactive_file), (5_000, 7));
        assert!(metrics.pids.is_none(), "what the kernel did not offer was invented");
    }

    #[test]
    fn v2_host_answers_in_microseconds_under_the_v2_name() {
        let any = any(Version::V2, &stats()).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = proto_v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage_usec, metrics.memory.anon), (5, 8));
        assert!(metrics.rdma.is_none(), "what the kernel did not offer was invented");
    }
}
