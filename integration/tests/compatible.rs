//! The compatible level: what a request asks for is granted as runc would grant it, side by side with runc; and the
//! same request without that level is refused.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

use bulkhead_integration::{
    Answers, BULKHEAD, COMPATIBLE, HARDENED, Infra, ROOT, RUNC, Refused, Release, on_each_containerd, push,
    same,
};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde_json::{Value, json};

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
        let answers = infra.bench.probe_exec_under(runtime, &id, &["facts"]).unwrap();
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
