//! Pods that are made to escape: each is refused by the field that asks for it, on one line, and the pod goes on; or it
//! is held by the confinement as if it had not asked.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, os::unix::fs::symlink};

use bulkhead_integration::{
    ALLOWED, Answers, BULKHEAD, Bench, ContainerOptions, Cri, Pod, Pods, Refused, Release, on_each_cri,
};
use k8s_cri::v1::{
    Capability, ContainerConfig, Device, Int64Value, LinuxContainerSecurityContext, Mount, MountPropagation,
};
use serde_json::{Value, json};

type Edit = fn(&mut ContainerConfig);

fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn mount(host: &str, at: &str) -> Mount {
    Mount { host_path: host.to_owned(), container_path: at.to_owned(), ..Mount::default() }
}

/// What is asked for, the rule that refuses it, and the field or source that the refusal names.
const ESCAPES: &[(&str, Edit, &str, &str)] = &[
    ("root", |c| c.mounts.push(mount("/", "/host")), "mounts", "/ on /host"),
    ("etc", |c| c.mounts.push(mount("/etc", "/host")), "mounts", "/etc on /host"),
    ("dots", |c| c.mounts.push(mount("/tmp/../etc", "/host")), "mounts", "/etc"),
    ("kubelet", |c| c.mounts.push(mount("/var/lib/kubelet", "/host")), "mounts", "/var/lib/kubelet"),
    ("over-proc", |c| c.mounts.push(mount("/etc", "/proc")), "mounts", "/proc"),
    ("over-proc-sys", |c| c.mounts.push(mount("/etc", "/proc/sys")), "mounts", "/proc/sys"),
    ("over-dev", |c| c.mounts.push(mount("/etc", "/dev")), "mounts", "/dev"),
    ("over-sys", |c| c.mounts.push(mount("/etc", "/sys")), "mounts", "/sys"),
    ("over-our-tmpfs", |c| c.mounts.push(mount("/etc", "/tmp")), "mounts", "/etc on /tmp"),
    (
        "over-our-canary",
        |c| c.mounts.push(mount("/etc/hosts", "/dev/.bulkhead-canary")),
        "mounts",
        "/dev/.bulkhead-canary",
    ),
    (
        "over-our-init",
        |c| c.mounts.push(mount("/etc/hosts", "/dev/.bulkhead-init")),
        "mounts",
        "/dev/.bulkhead-init",
    ),
    ("group-of-root", |c| security(c).supplemental_groups = vec![0], "user", "process.user.additionalGids"),
    ("added", |c| security(c).capabilities = added(&["SYS_PTRACE"], &[]), "capabilities", "CAP_SYS_PTRACE"),
    ("all", |c| security(c).capabilities = added(&["ALL"], &[]), "capabilities", "process.capabilities"),
    (
        "device",
        |c| {
            let at = "/dev/kmsg".to_owned();
            c.devices =
                vec![Device { container_path: at.clone(), host_path: at, permissions: "rw".to_owned() }];
        },
        "devices",
        "/dev/kmsg",
    ),
];

fn added(add: &[&str], ambient: &[&str]) -> Option<Capability> {
    let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    Some(Capability {
        add_capabilities: owned(add),
        add_ambient_capabilities: owned(ambient),
        ..Capability::default()
    })
}

fn answer(pods: &Pods, pod: &Pod, name: &str, edit: Edit) -> Result<String, String> {
    let options = ContainerOptions::restricted(name, ALLOWED, &["/bin/probe", "true"]);
    let made = pods.create_with(pod, &options, edit).and_then(|id| pods.start(&id).map(|()| id));
    made.map_err(|error| error.to_string().replace('\\', ""))
}

on_each_cri! {
    fn pod_that_is_made_to_escape_is_refused_by_the_field_that_asks_for_it_and_leaves_nothing(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "escapes").unwrap();
        for (name, edit, rule, says) in ESCAPES {
            let error = answer(&pods, &pod, name, *edit).expect_err(name);
            let refused = Refused::read(&error).unwrap_or_else(|_| panic!("{name}: {error}"));
            assert!(refused.rule() == *rule, "{name}: {error}");
            assert!(refused.line().contains(says), "{name}: {says} is not named: {error}");
        }
        // containerd itself answers these, or the shim does.
        for (name, edit) in [
            ("negative-uid", (|c| security(c).run_as_user = Some(Int64Value { value: -1 })) as Edit),
            ("huge-uid", |c| security(c).run_as_user = Some(Int64Value { value: u32::MAX.into() })),
            ("privileged", |c| security(c).privileged = true),
            ("shared", |c| c.mounts.push(Mount { propagation: MountPropagation::PropagationBidirectional.into(), ..mount("/etc", "/host") })),
            ("twice", |c| c.mounts.extend([mount("/etc", "/host"), mount("/etc", "/host")])),
        ] {
            assert!(answer(&pods, &pod, name, edit).is_err(), "{name}");
        }
        let fine = answer(&pods, &pod, "fine", |_| {}).unwrap();
        assert_eq!(pods.wait(&fine).unwrap(), 0);
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }
}

/// By another way than CRI has: what a client writes into config.json.
#[test]
fn spec_that_is_made_to_escape_is_refused_by_the_field_that_asks_for_it_and_leaves_nothing() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let data = bench.daemon.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    symlink("/etc", data.join("link")).unwrap();
    bench.allow(&format!("host_paths = [{{ path = {data:?}, access = \"read-write\" }}]")).unwrap();
    let bind = |source: &str, at: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", "rw"] });
    let tmpfs =
        |at: &str| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] });
    let named = data.display().to_string();
    let cases: Vec<(&str, Vec<Value>, Value, &str)> = vec![
        ("mounts", vec![bind(&format!("{named}/../../etc"), "/host")], Value::Null, "mounts"),
        ("mounts", vec![bind(&named, "/data"), bind(&named, "/data")], Value::Null, "it would hide"),
        ("mounts", vec![bind(&named, "/a/b"), bind(&named, "/a")], Value::Null, "it would hide"),
        ("mounts", vec![bind(&named, "/data/../proc")], Value::Null, "destination"),
        ("mounts", vec![tmpfs("/proc/sys")], Value::Null, "/proc/sys"),
        ("mounts", vec![tmpfs("/dev/pts/x")], Value::Null, "/dev/pts/x"),
        (
            "mounts",
            vec![
                json!({ "destination": "/m", "type": "bind", "source": named, "options": ["rbind", "rshared"] }),
            ],
            Value::Null,
            "mounts",
        ),
        (
            "mounts",
            vec![
                json!({ "destination": "/m", "type": "overlay", "source": "overlay", "options": ["lowerdir=/etc"] }),
            ],
            Value::Null,
            "mounts",
        ),
        (
            "capabilities",
            vec![],
            json!({ "process": { "capabilities": { "ambient": ["CAP_SYS_ADMIN"] } } }),
            "process.capabilities.ambient",
        ),
        (
            "user",
            vec![],
            json!({ "process": { "user": { "uid": 1000, "gid": 1000, "additionalGids": [7, 0] } } }),
            "process.user.additionalGids",
        ),
        ("user", vec![], json!({ "process": { "user": { "uid": u32::MAX, "gid": 1000 } } }), "process.user"),
        ("spec", vec![], json!({ "process": { "cwd": "/proc/self/fd/7" } }), "process.cwd"),
        (
            "sysctl",
            vec![],
            json!({ "linux": { "sysctl": { "kernel.shmmax": "1" } } }),
            "linux.sysctl.kernel.shmmax",
        ),
        ("mounts", vec![], json!({ "linux": { "rootfsPropagation": "shared" } }), "linux.rootfsPropagation"),
    ];
    for (number, (rule, mounts, edit, says)) in cases.into_iter().enumerate() {
        let id = bench.create_container(BULKHEAD, ALLOWED, &format!("e{number}"), &["/bin/true"]).unwrap();
        bench
            .daemon
            .edit_spec(&id, |spec| {
                spec["mounts"].as_array_mut().unwrap().extend(mounts.clone());
                merge(spec, &edit);
            })
            .unwrap();
        let refused = Refused::of(bench.start_container(&id).unwrap());
        let refused = refused.unwrap_or_else(|error| panic!("{edit} {mounts:?}: {error}"));
        assert_eq!(refused.rule(), rule, "{edit} {mounts:?}: {}", refused.line());
        assert!(refused.line().contains(says), "{says} is not named: {}", refused.line());
        bench.remove(&id).unwrap();
    }
    bench.assert_nothing_left();
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

/// What is no field of a request's own: annotations and a filter that allows all. They loosen nothing.
#[test]
fn annotations_that_name_our_options_and_a_filter_that_allows_all_leave_a_pod_as_confined_as_any() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "held").unwrap();
    let attempts =
        ["try", "userns", "memfd", "bpf", "ptrace", "keyctl", "write:/open/f", "read:/dev/.bulkhead-canary"];
    let said = |name: &str, edit: &dyn Fn(&mut ContainerConfig)| {
        let mut command = vec!["/bin/probe"];
        command.extend(attempts);
        let options = ContainerOptions::restricted(name, ALLOWED, &command);
        let id = pods.create_with(&pod, &options, edit).unwrap();
        pods.start(&id).unwrap();
        assert_eq!(pods.wait(&id).unwrap(), 0);
        let answers = Answers::read(&pods.output(&pod, name).unwrap()).unwrap();
        attempts[1..].iter().map(|attempt| answers.get(attempt).to_owned()).collect::<Vec<_>>()
    };
    let plain = said("plain", &|_| {});
    assert!(plain.iter().all(|answer| answer != "done"), "{plain:?}");
    let profile = bench.daemon.dir().join("all.json");
    std::fs::write(&profile, json!({ "defaultAction": "SCMP_ACT_ALLOW" }).to_string()).unwrap();
    let annotated = said("annotated", &|config| {
        let names = ["bulkhead/level", "io.bulkhead.confine", "bulkhead.mode", "bulkhead/user"];
        let values = ["compatible", "off", "audit", "0"];
        config.annotations =
            names.map(str::to_owned).into_iter().zip(values.map(str::to_owned)).collect::<HashMap<_, _>>();
    });
    assert_eq!(annotated, plain);
    let wider = said("wider", &|config| {
        security(config).seccomp = Some(k8s_cri::v1::SecurityProfile {
            profile_type: k8s_cri::v1::security_profile::ProfileType::Localhost.into(),
            localhost_ref: profile.display().to_string(),
        });
    });
    assert_eq!(wider, plain);
    pods.remove_pod(&pod).unwrap();
    bench.assert_nothing_left();
}
