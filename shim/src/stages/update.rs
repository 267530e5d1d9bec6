//! New limits for a container that runs.
//!
//! Invariant: pure. What is passed on is time, memory and processes, the last within policy; everything else that
//! a cgroup can be told would loosen what the plan tightened, or is unknown.

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::LinuxResources;

/// The limits to set, or a refusal that names the field.
pub(super) fn admit(asked: LinuxResources, pids_max: u32) -> Result<LinuxResources, Refusal> {
    let mut rest = asked.clone();
    let mut limits = LinuxResources::default();
    limits.set_devices(None);
    limits.set_memory(rest.memory_mut().take());
    limits.set_cpu(rest.cpu_mut().take());
    limits.set_pids(rest.pids_mut().take());
    limits.set_hugepage_limits(rest.hugepage_limits_mut().take());
    limits.set_block_io(rest.block_io_mut().take());
    if let Some(pids) = limits.pids()
        && !(1..=i64::from(pids_max)).contains(&pids.limit())
    {
        return Err(refuse(
            "pids.limit",
            format!("policy's pids_max is {pids_max}, asked is {}", pids.limit()),
        ));
    }
    if limits.memory().as_ref().is_some_and(|memory| memory.disable_oom_killer() == Some(true)) {
        return Err(refuse(
            "memory.disableOOMKiller",
            "a container that is never killed stops the node".to_owned(),
        ));
    }
    for (field, is_there) in [
        ("devices", rest.devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ("network", rest.network().is_some()),
        ("rdma", rest.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty())),
        ("unified", rest.unified().as_ref().is_some_and(|unified| !unified.is_empty())),
    ] {
        if is_there {
            return Err(refuse(
                field,
                "an update may change cpu, memory, pids, hugepages and blkio".to_owned(),
            ));
        }
    }
    Ok(limits)
}

fn refuse(field: &str, why: String) -> Refusal {
    let fix = "leave the field out, or create the container anew with it";
    Refusal::new(Rule::Spec, format!("update of linux.resources.{field}"), why, fix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(json: &str) -> Result<LinuxResources, Refusal> {
        admit(serde_json::from_str(json).unwrap(), 100)
    }

    #[test]
    fn memory_and_cpu_are_passed_on() {
        let limits = asked(r#"{"memory":{"limit":1048576},"cpu":{"shares":2}}"#).unwrap();
        assert_eq!(limits.memory().as_ref().unwrap().limit(), Some(1_048_576));
        assert_eq!(limits.cpu().as_ref().unwrap().shares(), Some(2));
        assert!(limits.devices().is_none());
    }

    #[test]
    fn more_processes_than_policy_allows_are_refused() {
        assert!(asked(r#"{"pids":{"limit":100}}"#).is_ok());
        for limit in [101, 0, -1] {
            assert!(asked(&format!(r#"{{"pids":{{"limit":{limit}}}}}"#)).is_err(), "{limit} was passed on");
        }
    }

    #[test]
    fn devices_and_raw_cgroup_files_are_refused_by_name() {
        for (field, json) in [
            ("devices", r#"{"devices":[{"allow":true,"access":"rwm"}]}"#),
            ("unified", r#"{"unified":{"pids.max":"max"}}"#),
            ("memory.disableOOMKiller", r#"{"memory":{"disableOOMKiller":true}}"#),
        ] {
            assert!(asked(json).unwrap_err().what.ends_with(field));
        }
    }
}
