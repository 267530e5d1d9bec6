#![allow(clippy::unwrap_used)]
use super::*;

fn files_over(json: &str, in_force: InForce) -> Result<Vec<(String, String)>, CgroupError> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    Ok(settings(&resources, in_force)?.into_iter().map(|s| (s.file, s.value)).collect())
}

fn files(json: &str) -> Result<Vec<(String, String)>, CgroupError> {
    files_over(json, InForce::default())
}

fn one(json: &str) -> (String, String) {
    let mut found = files(json).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn is(file: &str, value: &str) -> (String, String) {
    (file.to_owned(), value.to_owned())
}

#[test]
fn swap_is_counted_alone() {
    let found = files(r#"{"memory":{"limit":100,"swap":150}}"#).unwrap();
    assert_eq!(found, [is("memory.swap.max", "50"), is("memory.max", "100")]);
    let found = files(r#"{"memory":{"limit":100,"swap":100}}"#).unwrap();
    assert_eq!(found[0], is("memory.swap.max", "0"));
    for unlimited in [r#"{"memory":{"limit":-1,"swap":-1}}"#, r#"{"memory":{"limit":-1}}"#] {
        assert_eq!(files(unlimited).unwrap(), [is("memory.swap.max", "max"), is("memory.max", "max")]);
    }
    assert_eq!(one(r#"{"memory":{"reservation":5}}"#), is("memory.low", "5"));
}

#[test]
fn what_an_update_leaves_out_of_a_pair_stays() {
    let in_force = InForce { cpu_quota: Some(50_000), cpu_period: Some(200_000), memory: Some(100) };
    let of = |json| files_over(json, in_force).unwrap();
    assert_eq!(of(r#"{"cpu":{"period":100000}}"#), [is("cpu.max", "50000 100000")]);
    assert_eq!(of(r#"{"cpu":{"quota":70000}}"#), [is("cpu.max", "70000 200000")]);
    assert_eq!(of(r#"{"cpu":{"quota":-1}}"#), [is("cpu.max", "max 200000")]);
    assert_eq!(of(r#"{"memory":{"swap":150}}"#), [is("memory.swap.max", "50")]);
    assert_eq!(files(r#"{"cpu":{"quota":70000}}"#).unwrap(), [is("cpu.max", "70000 100000")]);
    assert_eq!(files(r#"{"cpu":{"period":70000}}"#).unwrap(), [is("cpu.max", "max 70000")]);
}

#[test]
fn limits_in_force_are_read_from_the_group() {
    let dir = tempfile::tempdir().unwrap();
    assert!(InForce::read(dir.path()).unwrap().cpu_period.is_none());
    std::fs::write(dir.path().join("cpu.max"), "max 100000\n").unwrap();
    std::fs::write(dir.path().join("memory.max"), "4096\n").unwrap();
    let found = InForce::read(dir.path()).unwrap();
    assert_eq!((found.cpu_quota, found.cpu_period, found.memory), (None, Some(100_000), Some(4096)));
}

#[test]
fn limits_that_v2_cannot_keep_are_errors() {
    for wrong in [
        r#"{"memory":{"limit":100,"swap":50}}"#,
        r#"{"memory":{"swap":50}}"#,
        r#"{"memory":{"limit":-1,"swap":50}}"#,
        r#"{"memory":{"kernelTCP":1}}"#,
        r#"{"memory":{"swappiness":10}}"#,
        r#"{"memory":{"disableOOMKiller":true}}"#,
        r#"{"cpu":{"realtimeRuntime":1}}"#,
        r#"{"network":{"classID":1}}"#,
    ] {
        assert!(matches!(files(wrong), Err(CgroupError::Unsupported { .. })), "{wrong}");
    }
    // The kernel's to refuse.
    assert_eq!(one(r#"{"memory":{"limit":-5}}"#), is("memory.max", "-5"));
}

#[test]
fn unified_names_files_of_controllers_only_and_may_have_many_lines() {
    let found = files(r#"{"unified":{"memory.high":"1","io.max":"8:0 rbps=1\n8:16 rbps=2"}}"#).unwrap();
    assert_eq!(found, [is("io.max", "8:0 rbps=1"), is("io.max", "8:16 rbps=2"), is("memory.high", "1")]);
    for file in ["cgroup.procs", "../memory.high", "memory", ".", "a/b.c"] {
        assert!(files(&format!(r#"{{"unified":{{"{file}":"1"}}}}"#)).is_err(), "{file} was accepted");
    }
}

#[test]
fn shares_and_weights_span_the_whole_range() {
    let weights = [2, 4, 1024, 2048, 262_143, 262_144, u64::MAX].map(weight_of_shares);
    assert_eq!(weights, [1, 2, 100, 174, 10_000, 10_000, 10_000]);
    assert!((2..262_144).all(|shares| weight_of_shares(shares) <= weight_of_shares(shares + 1)));
    assert_eq!([10, 500, 1000].map(weight_of_block_io), [1, 4950, 10_000]);
}

#[test]
fn idle_group_has_no_weight() {
    assert_eq!(one(r#"{"cpu":{"idle":1,"shares":512}}"#), is("cpu.idle", "1"));
}

#[test]
fn block_io_is_limited_by_device() {
    let found = files(
        r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
    )
    .unwrap();
    assert_eq!(
        found,
        [is("io.bfq.weight", "500"), is("io.max", "8:0 rbps=1000"), is("io.max", "8:0 wiops=max")]
    );
}
