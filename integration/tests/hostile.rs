//! Images and specs that are made to attack the runtime itself, not the kernel: links where it mounts, programs
//! that are the runtime, sources that a tenant chose.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use bulkhead_integration::{
    ALLOWED, Answers, BULKHEAD, Bench, Cri, Entry, Image, Layer, Output, RUNC, Release, heard,
};
use serde_json::{Value, json};

/// An allowed image with one more layer, run once.
fn run_image(bench: &Bench, runtime: &str, name: &str, entries: &[Entry<'_>], command: &[&str]) -> Output {
    let reference = format!("registry.test/team-a/{name}:1");
    let image = Image::busybox(&reference, "65532:65532").unwrap().with(Layer::of(entries).unwrap());
    let digests = bench.daemon.import(&image).unwrap();
    bench.allow_digests(&[&digests.manifest], "").unwrap();
    let id = bench.daemon.id(&format!("{name}-{}", if runtime == RUNC { "runc" } else { "bulkhead" }));
    let mut args = vec!["run", "--rm", "--runtime", runtime, &reference, &id];
    args.extend(command);
    let output = bench.daemon.ctr(&args).unwrap();
    // `ctr` leaves a task that was created and did not start.
    if !output.ok() {
        drop(bench.daemon.ctr(&["task", "delete", "-f", &id]));
        drop(bench.daemon.ctr(&["container", "delete", &id]));
    }
    output
}

/// A container of [`ALLOWED`] whose spec was changed, run once.
fn run_spec(bench: &Bench, runtime: &str, name: &str, edit: impl FnOnce(&mut Value)) -> Output {
    let id = bench.create_container(runtime, ALLOWED, name, &["/bin/true"]).unwrap();
    bench.daemon.edit_spec(&id, edit).unwrap();
    let output = bench.start_container(&id).unwrap();
    drop(bench.daemon.ctr(&["task", "delete", "-f", &id]));
    drop(bench.daemon.ctr(&["container", "delete", &id]));
    output
}

fn names(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn an_image_whose_dev_is_a_link_writes_into_no_directory_of_the_host() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let victim = bench.daemon.dir().join("victim");
    fs::create_dir(&victim).unwrap();
    let target = victim.to_str().unwrap();
    // The image has the same directory, so that the mount finds it.
    let inside = target.trim_start_matches('/');
    let mut entries: Vec<Entry<'_>> =
        inside.match_indices('/').map(|(at, _)| Entry::Dir(&inside[..at], 0o755)).collect();
    entries.extend([Entry::Dir(inside, 0o755), Entry::Symlink("dev", target)]);

    run_image(&bench, RUNC, "devlink", &entries, &["/bin/true"]);
    let made = names(&victim);
    for entry in fs::read_dir(&victim).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    assert!(made > 0, "runc 1.1 makes links there: the attack is a real one");

    let output = run_image(&bench, BULKHEAD, "devlink", &entries, &["/bin/true"]);
    assert!(!output.ok() && output.stderr.contains("symbolic link at /dev"), "{output:?}");
    assert_eq!(names(&victim), 0);
    bench.assert_nothing_left();
}

#[test]
fn a_link_of_the_image_leads_no_mount_to_the_root_or_over_the_kernels_files_and_elsewhere_it_may() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    for (name, link, to, said) in [
        ("proclink", "proc", "/tmp", "symbolic link at /proc"),
        ("syslink", "sys", "/etc", "symbolic link at /sys"),
        ("tmproot", "tmp", "../../..", "lead the mount on /tmp to /"),
        ("tmpproc", "tmp", "/proc", "lead the mount on /tmp to /proc"),
        ("tmpfd", "tmp", "/proc/self/fd/5", "lead the mount on /tmp to /proc"),
        ("tmploop", "tmp", "tmp", "on the way to the mount on /tmp"),
    ] {
        let output = run_image(&bench, BULKHEAD, name, &[Entry::Symlink(link, to)], &["/bin/true"]);
        assert!(!output.ok() && output.stderr.contains(said), "{name}: {output:?}");
    }
    for (name, link, to) in
        [("tmpetc", "tmp", "/etc"), ("varrun", "var/run", "/run"), ("runtmp", "run", "/tmp")]
    {
        let output = run_image(&bench, BULKHEAD, name, &[Entry::Symlink(link, to)], &["/bin/true"]);
        assert!(output.ok(), "{name}: {output:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_script_whose_interpreter_is_the_runtime_does_not_run_and_another_does() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let script = [Entry::File("bin/evil", 0o755, b"#!/proc/self/exe\n")];
    let output = run_image(&bench, BULKHEAD, "script", &script, &["/bin/evil"]);
    assert!(!output.ok() && output.stderr.contains("permission denied"), "{output:?}");
    let script = [Entry::File("bin/good", 0o755, b"#!/bin/sh\necho ran\n")];
    assert_eq!(run_image(&bench, BULKHEAD, "good", &script, &["/bin/good"]).stdout, "ran\n");
    bench.assert_nothing_left();
}

/// A directory that policy names and in which a tenant may write: links there are the tenant's.
#[test]
fn a_link_in_a_directory_that_policy_names_leads_no_mount_out_of_it() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let data = bench.daemon.dir().join("data");
    let secret = bench.daemon.dir().join("secret");
    fs::create_dir_all(data.join("inside")).unwrap();
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "of the host\n").unwrap();
    fs::write(data.join("inside/key"), "of the tenant\n").unwrap();
    symlink(&secret, data.join("out")).unwrap();
    symlink("/", data.join("root")).unwrap();
    bench.allow(&format!("host_paths = [{{ path = {data:?}, access = \"read-write\" }}]")).unwrap();
    let bind = |at: &str, source: &Path| json!({"destination": at, "type": "bind", "source": source, "options": ["rbind", "rw"]});
    let run = |runtime: &str, name: &str, mounts: Vec<Value>| {
        run_spec(&bench, runtime, name, |spec| {
            spec["process"]["args"] = json!(["/bin/cat", "/mnt/key"]);
            spec["mounts"].as_array_mut().unwrap().extend(mounts);
        })
    };
    let runc = || Ok(run(RUNC, "out-runc", vec![bind("/mnt", &data.join("out"))]).success()?.stdout);
    assert_eq!(heard(RUNC, runc).unwrap(), "of the host\n");
    let output = run(BULKHEAD, "out", vec![bind("/mnt", &data.join("out"))]);
    assert!(output.stdout.is_empty() && output.stderr.contains("symbolic link below"), "{output:?}");
    assert_eq!(run(BULKHEAD, "inside", vec![bind("/mnt", &data.join("inside"))]).stdout, "of the tenant\n");

    // A second mount through a link inside of the first.
    let nested = vec![bind("/mnt", &data.join("inside")), bind("/data", &data), bind("/data/root", &data)];
    let output = run(BULKHEAD, "nested", nested);
    assert!(output.stdout.is_empty() && output.stderr.contains("symbolic link on the way"), "{output:?}");
    let nested = vec![bind("/mnt", &data.join("inside")), bind("/data", &data), bind("/data/inside", &data)];
    assert_eq!(run(BULKHEAD, "nested-plain", nested).stdout, "of the tenant\n");
    bench.assert_nothing_left();
}

#[test]
fn requests_that_reach_for_the_host_are_refused_by_the_field() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let cases = [
        ("/linux/cgroupsPath", json!("/../../../x"), "cgroup path"),
        ("/linux/mountLabel", json!("system_u:object_r:x"), "linux.mountLabel"),
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
        ("/process/cwd", json!("/proc/self/fd/7"), "process.cwd"),
        (
            "/process/user",
            json!({"uid": 65532, "gid": 65532, "additionalGids": [0]}),
            "process.user.additionalGids",
        ),
        ("/process/env", json!(["A=\u{0}b"]), "process.env"),
        ("/linux/sysctl", json!({"net/../../kernel.core_pattern": "|/bin/sh"}), "linux.sysctl"),
        ("/root", json!({"path": "../../..", "readonly": false}), "root.path"),
        ("/hooks", json!({"prestart": [{"path": "/bin/sh"}]}), "hooks.prestart"),
        ("/linux/maskedPaths", json!(["/dev/.bulkhead-canary"]), "canary"),
        ("/hostname", json!("a\nb"), "hostname"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_KILL"}), "its seccomp profile"),
    ];
    for (index, (field, value, said)) in cases.into_iter().enumerate() {
        let output = run_spec(&bench, BULKHEAD, &format!("f{index}"), |spec| {
            let (parent, name) = field.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[name] = value;
        });
        assert!(!output.ok() && output.stderr.contains(said), "{field}: {output:?}");
    }
    // Emptied lists and loose ids are filled in.
    let output = run_spec(&bench, BULKHEAD, "loose", |spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["process"]["user"] = json!({"uid": 65532, "gid": 65532, "umask": 0});
        spec["process"]["args"] =
            json!(["/bin/sh", "-c", "umask; cat /proc/keys; echo > /proc/sys/kernel/hostname"]);
    });
    assert!(output.stdout.starts_with("0022\n") && output.stdout.lines().count() == 1, "{output:?}");
    bench.assert_nothing_left();
}

/// A container's control group is killed and removed with it.
#[test]
fn a_container_gets_no_control_group_in_which_others_live() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let victim = bench.start_task("victim", &["/bin/probe", "pause"]).unwrap();
    let group = format!("/{}/{victim}", bench.daemon.tag());
    for (name, runs) in [(group.clone(), false), (format!("{group}-2"), true)] {
        let output = run_spec(&bench, BULKHEAD, if runs { "own" } else { "shared" }, |spec| {
            assert_eq!(
                spec["linux"]["cgroupsPath"].as_str().unwrap().rsplit_once('/').unwrap().0,
                format!("/{}", bench.daemon.tag())
            );
            spec["linux"]["cgroupsPath"] = json!(name);
        });
        assert_eq!(output.ok(), runs, "{output:?}");
        assert!(runs || output.stderr.contains("linux.cgroupsPath"), "{output:?}");
        assert!(bench.exec(&victim, &["/bin/true"]).unwrap().ok(), "the other container lives");
    }
    bench.remove(&victim).unwrap();
    bench.assert_nothing_left();
}

/// Names that other runtimes, or we, might listen to.
#[test]
fn annotations_that_name_options_of_runtimes_loosen_nothing() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let facts = |name: &str, annotations: Value| {
        let output = run_spec(&bench, BULKHEAD, name, |spec| {
            spec["process"]["args"] = json!(["/bin/probe", "facts"]);
            spec["annotations"] = annotations;
        });
        let answers = Answers::read(&output.success().unwrap().stdout).unwrap();
        ["Uid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters", "dev"]
            .map(|fact| answers.get(fact).to_owned())
    };
    let plain = facts("plain", json!({}));
    assert_eq!((plain[3].as_str(), plain[5].as_str()), ("0000000000000000", "2"));
    let loosening = json!({
        "io.bulkhead.confine": "off", "io.bulkhead.policy.mode": "audit", "bulkhead/level": "compatible",
        "run.oci.seccomp_fail_unknown_syscall": "0", "run.oci.keep_original_groups": "1",
        "io.katacontainers.config.hypervisor.path": "/bin/sh", "io.kubernetes.cri.container-type": "container",
    });
    assert_eq!(facts("loosening", loosening), plain);
    bench.assert_nothing_left();
}

/// /etc/passwd and /etc/group get a line for a uid that the image does not know: by node's root, who reads everything.
#[test]
fn a_link_of_the_image_shows_no_file_of_a_volume_as_its_passwd_and_makes_none_there() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let logs = bench.daemon.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("secure"), "secret of the node\n").unwrap();
    fs::set_permissions(&logs, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(logs.join("secure"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = |name: &str, passwd: &str, group: &str| {
        let reference = format!("registry.test/team-a/{name}:1");
        let entries = [
            Entry::Dir("usr", 0o755),
            Entry::File("usr/users", 0o644, b"own:x:7:7::/:/bin/sh\n"),
            Entry::Symlink("etc/passwd", passwd),
            Entry::Symlink("etc/group", group),
        ];
        let image = Image::busybox(&reference, "40001:40002").unwrap().with(Layer::of(&entries).unwrap());
        let digests = bench.daemon.import(&image).unwrap();
        let keys = format!("host_paths = [{{ path = {logs:?}, access = \"read-write\" }}]");
        bench.allow_digests(&[&digests.manifest], &keys).unwrap();
        let id = bench.create_container(BULKHEAD, &reference, name, &["/bin/true"]).unwrap();
        let bind =
            json!({"destination": "/logs", "type": "bind", "source": logs, "options": ["rbind", "rw"]});
        bench
            .daemon
            .edit_spec(&id, |spec| {
                spec["process"]["args"] =
                    json!(["/bin/sh", "-c", "echo runs; cat /etc/passwd; cat /etc/group; ls /logs"]);
                spec["mounts"].as_array_mut().unwrap().push(bind);
            })
            .unwrap();
        let output = bench.start_container(&id).unwrap();
        drop(bench.daemon.ctr(&["task", "delete", "-f", &id]));
        drop(bench.daemon.ctr(&["container", "delete", &id]));
        output.stdout
    };
    assert_eq!(run("secretlink", "/logs/secure", "/logs/made"), "runs\nsecure\n");
    let kernels = run("kernellink", "/proc/1/environ", "../logs/made");
    assert!(kernels.starts_with("runs\n") && kernels.ends_with("secure\n"), "{kernels}");
    assert_eq!(names(&logs), 1);
    let known = run("ownlink", "../usr/users", "/logs/secure");
    assert!(known.starts_with("runs\nown:x:7:7::/:/bin/sh\nuser-40001:x:40001:40002::/tmp:"), "{known}");
    assert!(known.ends_with("nologin\nsecure\n"), "{known}");
    bench.assert_nothing_left();
}
