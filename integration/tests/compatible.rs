//! The compatible level: what a request asks for is granted as runc would grant it, side by side with runc; and the
//! same request without that level is refused.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command, time::Duration};

use bulkhead_integration::{
    Answers, BULKHEAD, Bench, Cri, Image, Output, RUNC, Refused, Release, on_each_containerd, run, until,
};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde_json::{Value, json};

/// An image whose user is root.
const ROOT: &str = "registry.test/team-a/root:1";

/// A section that grants the level to every tenant.
const COMPATIBLE: &str = "level = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]";

/// One at the hardened level.
const HARDENED: &str = "exec = [\"*\"]";

/// A daemon with [`ROOT`], and the policy for it.
struct Infra {
    bench: Bench,
    digest: String,
}

impl Infra {
    fn start(release: Release) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let digest = bench.daemon.import(&Image::busybox(ROOT, "0:0").unwrap()).unwrap().manifest;
        Self { bench, digest }
    }

    fn allow(&self, lines: &str) {
        self.bench.allow_digests(&[&self.digest], lines).unwrap();
    }

    fn run(&self, runtime: &str, options: &[&str], command: &[&str]) -> Output {
        let id = self.bench.daemon.id("run");
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(options);
        args.extend([ROOT, &id]);
        args.extend(command);
        self.bench.daemon.ctr(&args).unwrap()
    }

    /// What the probe says as the first process.
    fn facts(&self, runtime: &str, options: &[&str]) -> Answers {
        let said = || self.run(runtime, options, &["/bin/probe", "facts"]).success().unwrap().stdout;
        // runc's shim loses what so short a run printed when the machine is busy, once in some hundred runs: it is asked
        // again. Ours is not.
        let tries = if runtime == RUNC { 5 } else { 1 };
        let lines = (0..tries).map(|_| said()).find(|lines| !lines.is_empty()).unwrap_or_default();
        Answers::read(&lines).unwrap()
    }

    /// Starts a shell script whose spec was changed; its id.
    fn start_script(&self, runtime: &str, name: &str, script: &str, edit: impl FnOnce(&mut Value)) -> String {
        // `ctr` would take a -c for its own.
        let id = self.bench.create_container(runtime, ROOT, name, &["/bin/true"]).unwrap();
        let with_script = |spec: &mut Value| {
            spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
            edit(spec);
        };
        self.bench.daemon.edit_spec(&id, with_script).unwrap();
        id
    }

    /// Runs it to its end.
    fn script(&self, runtime: &str, script: &str, edit: impl FnOnce(&mut Value)) -> Output {
        let id = self.start_script(runtime, "script", script, edit);
        let output = self.bench.start_container(&id).unwrap();
        drop(self.bench.daemon.ctr(&["task", "delete", "-f", &id]));
        self.bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        output
    }

    /// Runs it in the background.
    fn background(&self, runtime: &str, name: &str, script: &str, edit: impl FnOnce(&mut Value)) -> String {
        let id = self.start_script(runtime, name, script, edit);
        self.bench.daemon.ctr(&["task", "start", "-d", &id]).unwrap().success().unwrap();
        id
    }

    /// A command in the daemon's mount namespace, which is the node's to its containers.
    fn on_node(&self, command: &[&str]) -> Output {
        let mut line = Command::new("nsenter");
        line.arg(format!("--mount=/proc/{}/ns/mnt", self.bench.daemon.pid())).arg("--").args(command);
        run(&mut line, Duration::from_secs(10)).unwrap()
    }
}

/// What both runtimes print is the same, and is not nothing.
#[track_caller]
fn same(infra: &Infra, script: &str, edit: impl Fn(&mut Value)) -> String {
    let runc = infra.script(RUNC, script, &edit).success().unwrap();
    let ours = infra.script(BULKHEAD, script, &edit).success().unwrap();
    assert_eq!(ours.stdout, runc.stdout, "{script}");
    assert!(!ours.stdout.trim().is_empty(), "{script}");
    ours.stdout
}

fn push(spec: &mut Value, list: &str, entry: Value) {
    let list = spec.pointer_mut(list).unwrap();
    match list.as_array_mut() {
        Some(entries) => entries.push(entry),
        None => *list = json!([entry]),
    }
}

fn bind(spec: &mut Value, source: &Path, at: &str, options: &[&str]) {
    push(spec, "/mounts", json!({ "type": "bind", "source": source, "destination": at, "options": options }));
}

/// Kind, options and propagation of every mount, in order; what differs from run to run is left out, and the root,
/// which no mount of the node's is above here.
const MOUNTS: &str = "sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ //; s/(shared|master):[0-9]+/\\1/g; s#^/[^ ]* #X #; \
    s/sysfs sysfs r[ow]/sysfs/' /proc/self/mountinfo | grep -vE ' (/|/dev/console) ' | sort";

on_each_containerd! {
    fn root_with_its_capabilities_runs_as_under_runc_and_is_refused_without_the_level(release) {
        let infra = Infra::start(release);
        infra.allow(HARDENED);
        assert_eq!(Refused::of(infra.run(BULKHEAD, &[], &["/bin/true"])).unwrap().rule(), "user");
        infra.allow(COMPATIBLE);
        for options in [&[][..], &["--privileged"], &["--net-host"]] {
            let (runc, ours) = (infra.facts(RUNC, options), infra.facts(BULKHEAD, options));
            for name in [
                "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
                "Seccomp_filters", "Max core file size", "Max open files", "Max processes", "env HOME", "env PATH", "dev",
                "cwd", "fds",
            ] {
                assert_eq!(ours.get(name), runc.get(name), "{options:?}: {name}");
            }
            let mounts = |answers: &Answers| -> Vec<(String, String)> {
                let own = |(at, how): (&str, &str)| (at.to_owned(), how.split(' ').next().unwrap().to_owned());
                answers.all("mount ").map(own).collect()
            };
            assert_eq!(mounts(&ours), mounts(&runc), "{options:?}");
        }
        infra.bench.assert_nothing_left();
    }

    fn what_a_spec_asks_of_its_process_is_what_it_has_as_under_runc(release) {
        let infra = Infra::start(release);
        infra.allow(COMPATIBLE);
        let script = "grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Umask)' /proc/self/status | grep -v Seccomp_filters; \
            grep -E 'open files|core|stack|pending' /proc/self/limits; cat /proc/self/oom_score_adj; hostname; pwd; \
            cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; ls -la /proc/kcore | cut -c1; env | sort; \
            ls /sys/firmware | wc -l; for n in net pid ipc uts mnt cgroup; do test -e /proc/self/ns/$n && echo $n; done";
        let edits: [fn(&mut Value); 6] = [
            |_| {},
            |spec| {
                spec["process"]["noNewPrivileges"] = json!(true);
                spec["process"]["user"] = json!({ "uid": 1234, "gid": 99, "additionalGids": [7, 5, 2000], "umask": 7 });
                let two = json!(["CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
                spec["process"]["capabilities"] = json!({
                    "bounding": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_SETUID"],
                    "permitted": two, "effective": ["CAP_CHOWN"], "inheritable": two, "ambient": ["CAP_CHOWN"],
                });
            },
            |spec| {
                spec["process"]["noNewPrivileges"] = json!(false);
                spec["process"]["rlimits"] = json!([
                    { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 600 },
                    { "type": "RLIMIT_CORE", "soft": 0, "hard": 4096 },
                ]);
                spec["process"]["oomScoreAdj"] = json!(300);
                spec["hostname"] = json!("infra-1");
                spec["process"]["cwd"] = json!("/var/made/here");
                spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096" });
                spec["process"]["capabilities"] = Value::Null;
            },
            |spec| {
                spec["linux"]["maskedPaths"] = json!([]);
                spec["linux"]["readonlyPaths"] = json!([]);
                spec["root"]["readonly"] = json!(true);
            },
            |spec| {
                let host = ["network", "ipc", "uts", "pid"];
                let list = spec["linux"]["namespaces"].as_array_mut().unwrap();
                list.retain(|namespace| !host.iter().any(|host| namespace["type"] == *host));
                spec.as_object_mut().unwrap().remove("hostname");
            },
            |spec| {
                spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
                });
                spec["process"]["args"] = json!(["/bin/sh", "-c", "mkdir /x 2>&1; grep Seccomp: /proc/self/status"]);
            },
        ];
        for edit in edits {
            same(&infra, script, edit);
        }
        infra.bench.assert_nothing_left();
    }

    fn mounts_are_made_as_asked_and_follow_or_share_as_under_runc(release) {
        let infra = Infra::start(release);
        infra.allow(COMPATIBLE);
        let dir = infra.bench.daemon.dir().join("volume");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "text\n").unwrap();
        let edits: [&dyn Fn(&mut Value); 6] = [
            &|spec| bind(spec, &dir, "/data", &["rbind", "rprivate", "ro"]),
            &|spec| bind(spec, &dir.join("file"), "/etc/one", &["bind", "rslave", "nosuid", "noexec"]),
            &|spec| {
                bind(spec, &dir, "/data", &["rbind", "rshared"]);
                spec["linux"]["rootfsPropagation"] = json!("rshared");
            },
            &|spec| bind(spec, &dir, "/data", &["rbind", "rslave"]),
            &|spec| push(spec, "/mounts", json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/t",
                "options": ["nosuid", "size=1m", "mode=0711", "uid=5"] })),
            &|spec| push(spec, "/mounts", json!({ "type": "cgroup", "source": "cgroup", "destination": "/sys/fs/cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] })),
        ];
        for (number, edit) in edits.iter().enumerate() {
            let script = if number == 5 { "ls /sys/fs/cgroup | sort | grep -E '^(memory|pids|cpu)$'; touch /sys/fs/cgroup/memory/tasks 2>&1; true" } else { MOUNTS };
            let found = same(&infra, script, |spec| {
                edit(spec);
                // Which of runc's own devices are mounts differs from version to version.
                spec["linux"]["maskedPaths"] = json!([]);
            });
            assert!(number == 5 || found.contains("/data") || found.contains("/etc/one") || found.contains(" /t "), "{found}");
        }
        infra.bench.assert_nothing_left();
    }
}

#[test]
fn executable_of_the_runtime_cannot_be_written_through_a_process_that_waits_to_be_roots() {
    let infra = Infra::start(Release::System);
    let tasks = infra.bench.daemon.tasks().unwrap();
    // While anybody runs the file, the kernel says ETXTBSY before it looks at the mount: so the mount is asked.
    let is_read_only = |name: &str| {
        let id = infra.bench.create_container(BULKHEAD, ROOT, name, &["/bin/true"]).unwrap();
        let pid = tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
        let executable = format!("/proc/{pid}/exe");
        assert!(fs::OpenOptions::new().write(true).open(&executable).is_err());
        let flags = statvfs(executable.as_str()).unwrap().flags();
        infra.bench.remove(&id).unwrap();
        flags.contains(FsFlags::ST_RDONLY)
    };
    // The file itself: what keeps a hardened container from it is that it has no root.
    infra.allow("user = { force = 65532 }");
    assert!(!is_read_only("plain"));
    infra.allow(COMPATIBLE);
    assert!(is_read_only("sealed"));
    infra.bench.assert_nothing_left();
}

#[test]
fn exec_has_what_init_has_as_under_runc_and_is_refused_once_policy_takes_the_level_back() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    let privileged = |spec: &mut Value| {
        spec["process"]["noNewPrivileges"] = json!(false);
        for set in ["bounding", "permitted", "effective"] {
            push(spec, &format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
        }
    };
    let mut said = Vec::new();
    for runtime in [RUNC, BULKHEAD] {
        let id = infra.background(runtime, "exec", "sleep 600", privileged);
        let answers = infra.bench.probe_exec(&id, &["facts"]).unwrap();
        let facts =
            ["Uid", "Groups", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp", "fds", "cwd"];
        said.push(facts.map(|name| format!("{name} {}", answers.get(name))));
        if runtime == BULKHEAD {
            infra.allow(HARDENED);
            let refused = Refused::of(infra.bench.exec(&id, &["/bin/true"]).unwrap()).unwrap();
            assert!(
                refused.rule() == "policy" && refused.line().contains("level compatible"),
                "{}",
                refused.line()
            );
        }
        infra.bench.remove(&id).unwrap();
    }
    assert_eq!(said[1], said[0]);
    assert!(said[0].iter().any(|fact| fact.starts_with("CapEff 00000000a82425fb")), "{said:?}");
    infra.bench.assert_nothing_left();
}

#[test]
fn tenant_neither_gets_the_level_by_its_own_file_nor_where_the_node_names_others() {
    let infra = Infra::start(Release::System);
    let tenant = infra.bench.daemon.tag().to_owned();
    let node = |namespace: &str| {
        infra.allow(
            &COMPATIBLE.replace('*', namespace).replace(&format!("exec = [\"{namespace}\"]"), HARDENED),
        )
    };
    let run = || infra.run(BULKHEAD, &["--privileged"], &["/bin/true"]);
    node(&tenant);
    run().success().unwrap();
    node("kube-system");
    assert_eq!(Refused::of(run()).unwrap().rule(), "devices");

    let scope = "version = 1\n[image]\n\"registry.test/team-a/*\" = { confine = \"mine\" }\n[confine.mine]\n";
    infra.bench.daemon.tenant_policy(&tenant, &format!("{scope}{COMPATIBLE}")).unwrap();
    let refused = Refused::of(run()).unwrap();
    assert_eq!(refused.rule(), "policy");
    assert!(
        refused.line().contains("line 5, column 9: `level` is \"compatible\" in a tenant's file"),
        "{}",
        refused.line()
    );
    // And takes it back where it writes anything stricter.
    node(&tenant);
    infra.bench.daemon.tenant_policy(&tenant, scope).unwrap();
    run().success().unwrap();
    infra.bench.daemon.tenant_policy(&tenant, &format!("{scope}root = \"read-only\"")).unwrap();
    Refused::of(run()).unwrap();
    infra.bench.assert_nothing_left();
}

#[test]
fn property_of_a_systemd_scope_is_nothing_to_another_group_as_under_runc() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(COMPATIBLE);
    same(&infra, "echo ran", |spec| {
        spec["annotations"]["org.systemd.property.TimeoutStopUSec"] = json!("uint64 5000000");
    });
    infra.bench.assert_nothing_left();
}

#[test]
fn label_of_a_module_that_the_kernel_has_not_is_refused_by_name_at_both_levels() {
    let infra = Infra::start(Release::System);
    let has = |path: &str| Path::new(path).exists();
    for level in [COMPATIBLE, "user = { force = 65532 }"] {
        infra.allow(level);
        infra.script(BULKHEAD, "true", |_| {}).success().unwrap();
        for (module, edit) in [
            (
                "AppArmor",
                (|spec| spec["process"]["apparmorProfile"] = json!("cri-containerd.apparmor.d"))
                    as fn(&mut Value),
            ),
            ("SELinux", |spec| {
                spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2")
            }),
            ("SELinux", |spec| {
                spec["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2")
            }),
        ] {
            if has("/sys/fs/selinux/status") || has("/sys/module/apparmor/parameters/enabled") {
                continue;
            }
            let refused = Refused::of(infra.script(BULKHEAD, "true", edit)).unwrap();
            assert!(refused.line().contains(module) && refused.rule() == "spec", "{}", refused.line());
        }
    }
    infra.bench.assert_nothing_left();
}

#[test]
fn mounts_of_the_node_appear_in_a_container_that_follows_and_a_containers_on_a_node_that_shares() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    for runtime in [RUNC, BULKHEAD] {
        for (propagation, follows, shares) in
            [("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
        {
            let dir = infra.bench.daemon.dir().join(format!("volume-{propagation}-{}", runtime.len()));
            fs::create_dir_all(dir.join("down")).unwrap();
            fs::create_dir_all(dir.join("up")).unwrap();
            let script =
                "mount -t tmpfs tmpfs /data/up && touch /data/up/made && echo ready > /data/ready; sleep 600";
            let id = infra.background(runtime, "propagation", script, |spec| {
                spec["linux"]["maskedPaths"] = json!([]);
                bind(spec, &dir, "/data", &["rbind", propagation]);
                spec["linux"]["rootfsPropagation"] =
                    json!(if propagation == "rprivate" { "rslave" } else { propagation });
                for set in ["bounding", "permitted", "effective"] {
                    push(spec, &format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
                }
            });
            // Session keyring of the container's own, named as runc names it; an exec joins the same.
            until("the container's mount", Duration::from_secs(20), || Ok(dir.join("ready").exists()))
                .unwrap();
            let down = dir.join("down").display().to_string();
            infra.on_node(&["mount", "-t", "tmpfs", "tmpfs", &down]).success().unwrap();
            infra.on_node(&["touch", &format!("{down}/made")]).success().unwrap();
            let seen = infra.bench.exec(&id, &["/bin/ls", "/data/down"]).unwrap().success().unwrap().stdout;
            assert_eq!(seen.contains("made"), follows, "{runtime} {propagation}");
            let keys = infra.bench.exec(&id, &["/bin/cat", "/proc/keys"]).unwrap().success().unwrap().stdout;
            assert!(keys.contains(&format!("_ses.{id}: ")), "{runtime}: {keys}");
            let up = dir.join("up/made").display().to_string();
            assert_eq!(infra.on_node(&["ls", &up]).ok(), shares, "{runtime} {propagation}");
            infra.bench.remove(&id).unwrap();
            infra.on_node(&["umount", &down]).success().unwrap();
            if shares {
                infra.on_node(&["umount", &dir.join("up").display().to_string()]).success().unwrap();
            }
        }
    }
    infra.bench.assert_nothing_left();
}

/// Found by integration/attacks (a mount below a shared volume), which left mounts on the node.
#[test]
fn what_a_request_mounts_below_a_volume_is_the_containers_alone_and_what_it_writes_there_is_the_volumes() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    for (runtime, options) in
        [(RUNC, ["rbind", "rw"]), (BULKHEAD, ["rbind", "rw"]), (BULKHEAD, ["rbind", "private"])]
    {
        let (volume, below) =
            (infra.bench.daemon.dir().join("volume"), infra.bench.daemon.dir().join("below"));
        fs::create_dir_all(volume.join("below")).unwrap();
        fs::create_dir_all(&below).unwrap();
        let script = "echo text > /data/below/file && echo ready > /data/ready; sleep 600";
        let id = infra.background(runtime, "below", script, |spec| {
            bind(spec, &volume, "/data", &options);
            bind(spec, &below, "/data/below", &options);
        });
        until("the container's files", Duration::from_secs(20), || Ok(volume.join("ready").exists()))
            .unwrap();
        let seen = |path: &Path| infra.on_node(&["ls", &path.display().to_string()]).ok();
        assert!(seen(&below.join("file")), "{runtime} {options:?}");
        assert!(
            !seen(&volume.join("below/file")),
            "{runtime} {options:?}: the node has the container's mount"
        );
        infra.bench.remove(&id).unwrap();
        for file in [below.join("file"), volume.join("ready")] {
            fs::remove_file(file).unwrap();
        }
    }
    infra.bench.assert_nothing_left();
}

#[test]
fn node_root_dev_and_sys_are_seen_with_what_is_mounted_below_and_the_node_keeps_its_own() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    let dir = infra.bench.daemon.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "text\n").unwrap();
    let before = node();
    let script = "cat /host/mnt/file; ls /dev | sort | md5sum; ls -d /sys/fs/cgroup/pids/tasks /host/sys/fs/cgroup/pids/tasks; \
        ls /dev/shm/file; for at in /host /host/mnt /dev /dev/shm /sys /sys/fs/cgroup/pids; do \
        grep -q \" $at \" /proc/self/mountinfo && echo $at; done; echo text > /dev/null && cat /etc/hostname; ls /sys/firmware | wc -l";
    let edit = |spec: &mut Value| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !["/dev", "/sys"].iter().any(|at| mount["destination"] == *at));
        bind(spec, Path::new("/"), "/host", &["rbind", "rslave", "ro"]);
        bind(spec, &dir, "/host/mnt", &["rbind", "rprivate"]);
        bind(spec, Path::new("/sys"), "/sys", &["rbind", "rprivate"]);
        bind(spec, Path::new("/dev"), "/dev", &["rbind", "rprivate"]);
        bind(spec, &dir, "/dev/shm", &["bind", "rprivate"]);
        spec["linux"]["maskedPaths"] = json!(["/sys/firmware"]);
        spec["root"]["readonly"] = json!(true);
    };
    println!("{}", same(&infra, script, edit));
    assert_eq!(node(), before);
    infra.bench.assert_nothing_left();
}

/// What libcontainer would have changed of the node: its own links and devices in /dev, groups of its own naming.
fn node() -> Vec<String> {
    let groups = fs::read_dir("/sys/fs/cgroup/pids").into_iter().flatten().flatten();
    let groups = groups.map(|group| group.file_name().to_string_lossy().into_owned());
    let made = ["ptmx", "fd", "core", "kcore", "null", "console"].map(|name| {
        let found = fs::symlink_metadata(format!("/dev/{name}"));
        format!("{name} {:?}", found.map(|found| (found.file_type(), found.rdev(), found.mtime())).ok())
    });
    made.into_iter().chain(groups.filter(|name| name.starts_with(":youki:"))).collect()
}
