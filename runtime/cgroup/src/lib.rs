//! Control groups of one container: created, joined, limited, read, frozen, killed and removed, on cgroup v1,
//! hybrid and v2 alike.
//!
//! Invariant: a limit that was asked for is set or the call fails; nothing is dropped because a controller is
//! missing. Mount points are read once ([`Host::detect`]); after that every call goes straight to its files.
//! Never here: which limits a container gets; that is `bulkhead_plan`.

#![deny(unsafe_code)]

mod cgroup;
mod devices;
mod error;
mod file;
mod host;
mod path;
mod setting;
mod stats;
#[allow(unsafe_code, reason = "bpf(2) lives there, with its reasons")]
mod sys;
mod systemd;
mod tree;
mod v1;
mod v2;

pub use cgroup::{Cgroup, SETTLE_MS_MAX, waits};
pub use error::CgroupError;
pub use host::{Host, Version};
pub use path::CgroupPath;
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryStats, MemoryUse, PidsStats, Pressure,
    PressureShare, RdmaEntry, RdmaStats, Stats,
};
pub use systemd::systemd_runs;
