//! What is counted and told: field by field as by runc's shim.

use std::{collections::BTreeMap, fs};

use bulkhead_integration::{BULKHEAD, Bench, Cri, RUNC, on_each_containerd, until};
use serde_json::{Value, json};

use super::{WITHIN, groups, resources, start};

/// The message as ctr prints it: the path of each field that is not zero.
fn metrics(bench: &Bench, id: &str) -> BTreeMap<String, f64> {
    let printed = bench.daemon.ctr(&["task", "metrics", "--format", "json", id]).unwrap().success().unwrap();
    let mut found = BTreeMap::new();
    flat("", &serde_json::from_str(&printed.stdout).unwrap(), &mut found);
    found
}

fn flat(at: &str, value: &Value, into: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| flat(&format!("{at}.{name}"), value, into)),
        Value::Array(list) => {
            // Rows of devices and of page sizes are in no order; those of CPUs are added up.
            for value in list {
                let name = value.get("pagesize").or(value.get("op")).and_then(Value::as_str).unwrap_or("");
                flat(&format!("{at}[{name}]"), value, into);
            }
        }
        Value::Number(number) => *into.entry(at.to_owned()).or_default() += number.as_f64().unwrap(),
        _ => {}
    }
}

/// What comes and goes in two runs of the same program: the page cache, the scheduler's moments, pressure, and what
/// v2's library does not read any more (it names rows that Linux 5.9 split).
fn varies(field: &str) -> bool {
    const NOISE: [&str; 18] = [
        // Counted in ticks of 10 ms.
        ".cpu.usage.kernel",
        ".cpu.usage.user",
        "cache",
        "dirty",
        "writeback",
        "_file",
        "file_",
        ".file",
        "mapped",
        "maj",
        "active_anon",
        "throttl",
        "psi",
        "workingset",
        "unevictable",
        "burst",
        // Whether the kernel had a huge page at hand.
        "rss_huge",
        "thp",
    ];
    NOISE.iter().any(|noise| field.to_lowercase().contains(noise))
        || field.starts_with(".blkio")
        || field.starts_with(".io")
}

on_each_containerd! {
    fn metrics_are_those_of_runcs_shim_field_by_field(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let asked = json!({
            "memory": { "limit": 64 << 20, "swap": 96 << 20 },
            "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 77 },
        });
        let work = "a=$(head -c 3000000 /dev/zero | tr '\\0' x); echo ready; while :; do sleep 600; done";
        let run = |runtime| {
            let id = start(&bench, runtime, "metrics", &["/bin/sh", "-c", work], |spec| resources(spec, &asked));
            let tasks = bench.daemon.tasks().unwrap();
            // The shell has its string, and waits.
            until("the work to be done", WITHIN, || Ok(tasks.pids(&id)? == 2 && sleeps(&bench, &id))).unwrap();
            let found = metrics(&bench, &id);
            bench.remove(&id).unwrap();
            found
        };
        let (runc, bulkhead) = (run(RUNC), run(BULKHEAD));
        let mut fields: Vec<&String> = runc.keys().chain(bulkhead.keys()).filter(|field| !varies(field)).collect();
        fields.sort();
        fields.dedup();
        assert!(fields.len() > 12, "{runc:#?}");
        for field in fields {
            let (theirs, ours) = (runc.get(field), bulkhead.get(field));
            let (Some(theirs), Some(ours)) = (theirs, ours) else {
                panic!("{field}: runc's shim says {theirs:?}, Bulkhead {ours:?}\n{runc:#?}\n{bulkhead:#?}");
            };
            if field.contains("limit") || field.starts_with(".pids") {
                assert_eq!(theirs, ours, "{field}");
            }
        }
        // The string is there in both.
        let anonymous = |found: &BTreeMap<String, f64>| found.get(".memory.rss").or(found.get(".memory.anon")).copied();
        for found in [&runc, &bulkhead] {
            assert!(anonymous(found).is_some_and(|bytes| (3e6..2e7).contains(&bytes)), "{found:#?}");
        }
        bench.assert_nothing_left();
    }

    fn kill_for_want_of_memory_is_told_before_the_exit(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let events = bench.daemon.events().unwrap();
        let asked = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
        for runtime in [RUNC, BULKHEAD] {
            // runc's shim looks at the group once its Start is done: one that is killed before is not told of.
            let (hog, tasks) = (if runtime == RUNC { HOG_THAT_WAITS } else { HOG }, bench.daemon.tasks().unwrap());
            let id = start(&bench, runtime, "hog", &["/bin/sh", "-c", hog], |spec| resources(spec, &asked));
            if runtime == RUNC {
                let pid = tasks.state(&id, "").unwrap().pid;
                fs::write(format!("/proc/{pid}/root/tmp/eat"), "").unwrap();
            }
            assert_eq!(tasks.wait(&id).unwrap(), 137);
            events.wait_for(&id, "exit").unwrap();
            events.wait_for(&id, "oom").unwrap();
            let seen = events.of(&id);
            let at = |what: &str| seen.iter().position(|event| event == what).unwrap();
            assert!(at("oom") < at("exit") || runtime == RUNC, "{seen:?}");
            bench.remove(&id).unwrap();
        }
        // One that ends by itself is not said to be killed so.
        let id = start(&bench, BULKHEAD, "frugal", &["/bin/true"], |spec| resources(spec, &asked));
        events.wait_for(&id, "exit").unwrap();
        assert!(!events.of(&id).contains(&"oom".to_owned()));
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}

/// Asks for more memory than it may have, at once or when a file says so.
///
/// Source: `Start`, containerd cmd/containerd-shim-runc-v2/task/service.go.
const HOG: &str = "exec tail /dev/zero";
const HOG_THAT_WAITS: &str = "until [ -e /tmp/eat ]; do sleep 0.1; done; exec tail /dev/zero";

/// Whether a task's second process sleeps: its name, from outside.
fn sleeps(bench: &Bench, id: &str) -> bool {
    let groups = groups(bench, id);
    let dir = groups.get("pids").or(groups.get("")).unwrap();
    let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.lines()
        .any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep"))
}
