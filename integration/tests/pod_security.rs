//! What Pod Security "restricted" would not have, sent as a static pod arrives: through CRI, with no admission controller
//! before it. And what a pod that meets it is given: its own volumes, groups, a name for its uid, places to write.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, Entry, Image, Layer, Pod, Pods, Refused, Release, UID, namespaces,
    until,
};
use k8s_cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, NamespaceMode, SecurityProfile,
    security_profile::ProfileType,
};

/// What the kubelet sends where procMount is `Default`.
///
/// Source: `defaultMaskedPaths` and `defaultReadonlyPaths`, kubernetes pkg/securitycontext/util.go.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container as the kubelet sends one of a pod that meets "restricted".
fn restricted(name: &str, command: &[&str]) -> ContainerOptions {
    let mut options = ContainerOptions::restricted(name, ALLOWED, command);
    options.security.masked_paths = MASKED.map(str::to_owned).to_vec();
    options.security.readonly_paths = READ_ONLY.map(str::to_owned).to_vec();
    options
}

/// The refusal that creating or starting a container ends with: its rule, and its line.
fn refused(pods: &Pods, pod: &Pod, options: &ContainerOptions) -> (String, String) {
    let error = pods.create(pod, options).and_then(|id| pods.start(&id)).unwrap_err().to_string();
    let refused = Refused::read(&error).unwrap_or_else(|_| panic!("{}: {error}", options.name));
    // The client shows the text with its quotes escaped.
    (refused.rule().to_owned(), refused.line().replace('\\', ""))
}

fn capabilities(add: &[&str], drop: &[&str]) -> Option<Capability> {
    let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    Some(Capability { add_capabilities: owned(add), drop_capabilities: owned(drop), ..Capability::default() })
}

#[test]
fn every_control_of_restricted_is_refused_by_its_name_and_a_pod_that_meets_them_runs() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    bench.allow("pod_security = \"restricted\"\nexec = [\"*\"]").unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "static").unwrap();
    let fine = pods.launch(&pod, &restricted("fine", &["/bin/probe", "true"])).unwrap();
    assert_eq!(pods.wait(&fine).unwrap(), 0);

    type Edit = fn(&mut LinuxContainerSecurityContext);
    let controls: [(&str, &str, &str, Edit); 8] = [
        ("added", "capabilities", "CAP_SYS_ADMIN", |s| {
            s.capabilities = capabilities(&["SYS_ADMIN"], &["ALL"])
        }),
        ("kept", "capabilities", "\"Capabilities\"", |s| s.capabilities = None),
        ("root", "user", "\"Running as Non-root\"", |s| s.run_as_user = Some(Int64Value { value: 0 })),
        ("group", "user", "gid 0", |s| s.run_as_group = Some(Int64Value { value: 0 })),
        ("groups", "user", "additionalGids", |s| s.supplemental_groups = vec![0, 2000]),
        ("gains", "capabilities", "\"Privilege Escalation\"", |s| s.no_new_privs = false),
        ("seccomp", "seccomp", "\"Seccomp\"", |s| {
            s.seccomp = Some(SecurityProfile {
                profile_type: ProfileType::Unconfined.into(),
                ..SecurityProfile::default()
            });
        }),
        ("proc", "spec", "\"/proc Mount Type\"", |s| s.masked_paths = Vec::new()),
    ];
    for (name, rule, text, edit) in controls {
        let mut options = restricted(name, &["/bin/probe", "true"]);
        edit(&mut options.security);
        let (found, line) = refused(&pods, &pod, &options);
        assert_eq!(found, rule, "{name}: {line}");
        assert!(line.contains(text), "{name}: {line}");
    }
    let mut host_path = restricted("host-path", &["/bin/probe", "true"]);
    host_path.mounts.push(("/etc".into(), "/host".to_owned(), true));
    let (rule, line) = refused(&pods, &pod, &host_path);
    assert!(rule == "mounts" && line.contains("/etc on /host"), "{line}");
    pods.remove_pod(&pod).unwrap();

    for (name, field) in [("pid", "hostPID"), ("ipc", "hostIPC"), ("net", "hostNetwork")] {
        let mut host = namespaces();
        let mode = match name {
            "pid" => &mut host.pid,
            "ipc" => &mut host.ipc,
            _ => &mut host.network,
        };
        *mode = NamespaceMode::Node.into();
        let error = pods.run_in("bulkhead", "team-a", name, host).unwrap_err().to_string();
        let refused = Refused::read(&error).unwrap();
        assert!(refused.rule() == "namespaces" && refused.line().contains(field), "{error}");
    }
    bench.assert_nothing_left();
}

#[test]
fn no_path_of_the_node_is_a_volume_by_whatever_name_and_links_lead_nowhere() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "paths").unwrap();
    let (here, volumes) = bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir").unwrap();
    symlink("/etc", here.join("link")).unwrap();
    fs::create_dir(here.join("real")).unwrap();
    symlink("/etc", here.join("real/inner")).unwrap();
    let socket = bench.daemon.socket();
    let mut sources: Vec<String> = [
        "/",
        "/etc",
        "/proc",
        "/sys",
        "/run",
        "/var/lib/kubelet",
        "/var/lib/kubelet/pods",
        "/run/containerd/containerd.sock",
        "/var/run/docker.sock",
        "/run/crio/crio.sock",
    ]
    .map(str::to_owned)
    .to_vec();
    sources.push(socket.display().to_string());
    sources.push(volumes.parent().unwrap().display().to_string());
    for (number, source) in sources.iter().enumerate() {
        let mut thief = restricted(&format!("t{number}"), &["/bin/probe", "true"]);
        thief.mounts.push((source.into(), "/stolen".to_owned(), true));
        // containerd itself has no word for a source that is not there.
        let error = pods.create(&pod, &thief).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        match Refused::read(&error) {
            Ok(refused) => assert_eq!(refused.rule(), "mounts", "{source}: {error}"),
            Err(_) => assert!(!fs::exists(source).unwrap(), "{source}: {error}"),
        }
    }
    for (number, source) in ["link", "real/inner"].iter().enumerate() {
        let mut thief = restricted(&format!("l{number}"), &["/bin/cat", "/stolen/hostname"]);
        thief.mounts.push((volumes.join(source), "/stolen".to_owned(), true));
        // containerd follows the link of a source itself, so that what arrives is /etc; else the shim does not.
        let error = pods.create(&pod, &thief).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        assert!(error.contains("bulkhead refused") || error.contains("symbolic link"), "{source}: {error}");
    }
    pods.remove_pod(&pod).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn volumes_are_looked_for_where_policy_says_the_kubelet_keeps_them() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let file = bench.daemon.bulkhead_root().join("etc/bulkhead/policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "root").unwrap();
    let (_, volume) = bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir/work").unwrap();
    let user = |name: &str| {
        let mut user = restricted(name, &["/bin/probe", "true"]);
        user.mounts.push((volume.clone(), "/work".to_owned(), false));
        user
    };
    let there = pods.launch(&pod, &user("there")).unwrap();
    assert_eq!(pods.wait(&there).unwrap(), 0);
    let elsewhere = policy.replace("version = 1\n", "version = 1\nkubelet_root = \"/srv/kubelet\"\n");
    bench.daemon.policy(&elsewhere).unwrap();
    assert_eq!(refused(&pods, &pod, &user("elsewhere")).0, "mounts");
    pods.remove_pod(&pod).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn configmap_that_the_kubelet_changes_is_seen_and_groups_of_the_pod_can_write_its_volumes() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "live").unwrap();
    let (map_here, map) = bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~configmap/conf").unwrap();
    let (group_here, group) =
        bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir/group").unwrap();
    // As the kubelet's atomic writer does.
    for (dir, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(map_here.join(dir)).unwrap();
        fs::write(map_here.join(dir).join("key"), text).unwrap();
    }
    symlink("..1", map_here.join("..data")).unwrap();
    symlink("..data/key", map_here.join("key")).unwrap();
    // And as it does for fsGroup: 2000.
    std::os::unix::fs::chown(&group_here, Some(0), Some(2000)).unwrap();
    fs::set_permissions(&group_here, fs::Permissions::from_mode(0o2775)).unwrap();

    let mut reader = restricted("reader", &["/bin/probe", "pause"]);
    reader.security.supplemental_groups = vec![2000];
    reader.mounts.push((map, "/conf".to_owned(), true));
    reader.mounts.push((group, "/group".to_owned(), false));
    let reader = pods.launch(&pod, &reader).unwrap();
    let run = |script: &str| pods.exec(&reader, &["/bin/sh", "-c", script]).unwrap().stdout;
    assert_eq!(run("cat /conf/key"), "one");
    symlink("..2", map_here.join("..data_tmp")).unwrap();
    fs::rename(map_here.join("..data_tmp"), map_here.join("..data")).unwrap();
    until("the new text", Duration::from_secs(60), || Ok(run("cat /conf/key") == "two")).unwrap();
    assert_eq!(run("echo x >/group/f && stat -c %g /group/f"), "2000\n");
    pods.remove_pod(&pod).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn programs_find_their_directories_below_run_a_name_for_their_uid_and_code_where_policy_names_the_place() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let mut image = Image::busybox("registry.test/team-a/app:1", &UID.to_string()).unwrap();
    let layer = Layer::of(&[
        Entry::Dir("run/app", 0o2770),
        Entry::File("run/app/seed", 0o640, b"from the image\n"),
        Entry::Dir("var/lib/app", 0o700),
        Entry::File("var/lib/app/data", 0o600, b"data\n"),
    ]);
    image = image.with(layer.unwrap());
    let digests = bench.daemon.import_in("k8s.io", &image).unwrap();
    let keys = "writable = [\"/var/lib/app\"]\nexecutable = [\"/tmp\"]\nexec = [\"*\"]";
    bench.allow_digests(&[&digests.manifest], keys).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let pod = pods.run("bulkhead", "team-a", "app").unwrap();
    let mut app = ContainerOptions::restricted("app", &image.name, &["/bin/probe", "pause"]);
    app.security.run_as_user = Some(Int64Value { value: 40_001 });
    app.security.run_as_group = Some(Int64Value { value: 40_002 });
    let app = pods.launch(&pod, &app).unwrap();
    let run = |script: &str| pods.exec(&app, &["/bin/sh", "-c", script]).unwrap().stdout;
    assert_eq!(run("stat -c '%a %u %g' /run/app /run/app/seed"), "2770 40001 40002\n640 40001 40002\n");
    assert_eq!(run("cat /run/app/seed && echo x >/run/app/pid && cat /run/app/pid"), "from the image\nx\n");
    assert_eq!(run("stat -c '%a %u' /var/lib/app; cat /var/lib/app/data"), "700 40001\ndata\n");
    assert_eq!(run("id -un; id -gn; echo $HOME"), "user-40001\ngroup-40002\n/tmp\n");
    assert_eq!(run("head -n 1 /etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    assert_eq!(run("echo x >>/etc/passwd || echo refused"), "refused\n");
    let dropped = "cp /bin/busybox $d/true && $d/true && echo ran || echo not";
    assert_eq!(run(&format!("d=/tmp; {dropped}")), "ran\n");
    assert_eq!(run(&format!("d=/var/tmp; {dropped}")), "not\n");
    pods.remove_pod(&pod).unwrap();
    bench.assert_nothing_left();
}
