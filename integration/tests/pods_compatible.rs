//! What a pod may ask through CRI, asked under runc and under Bulkhead at the compatible level, in the same run: what is seen
//! from inside is the same. The list is that of the CRI's own validation: namespaces, users, privilege, files, seccomp,
//! kernel parameters, limits.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{cell::Cell, collections::HashMap, fs, time::Duration};

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, Pod, Pods, Refused, Release, heard, namespaces, runcs, until,
};
use k8s_cri::v1::{
    Capability, ContainerConfig, Device, DnsConfig, Int64Value, LinuxContainerResources,
    LinuxContainerSecurityContext, Mount, MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig,
    SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};

const COMPATIBLE: &str = "level = \"compatible\"\nnamespaces = [\"team-a\"]\nexec = [\"*\"]";

const HANDLERS: [&str; 2] = ["runc", "bulkhead"];

struct Node {
    bench: Bench,
    pods: Pods,
}

impl Node {
    fn start() -> Self {
        let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
        bench.allow_pods(COMPATIBLE).unwrap();
        let pods = bench.daemon.pods().unwrap();
        Self { bench, pods }
    }

    /// What a script prints as a container of this pod, with its exit code at the end.
    fn said(&self, pod: &Pod, name: &str, script: &str, edit: impl FnOnce(&mut ContainerConfig)) -> String {
        // Of two streams nobody could tell which line was first.
        let script = format!("exec 2>&1; {script}\necho end $?");
        let options = container(name, &["/bin/sh", "-c", &script]);
        let id = self.pods.create_with(pod, &options, edit).unwrap();
        self.pods.start(&id).unwrap();
        let code = self.pods.wait(&id).unwrap();
        format!("{}exit {code}\n", self.pods.output(pod, name).unwrap())
    }

    /// What a script prints in a pod of its own is the same under both runtimes; that.
    #[track_caller]
    fn same(
        &self,
        name: &str,
        script: &str,
        of_pod: impl Fn(&mut PodSandboxConfig),
        of_container: impl Fn(&mut ContainerConfig),
    ) -> String {
        let made = Cell::new(0);
        let said = |handler: &str| {
            made.set(made.get() + 1);
            let name = format!("{name}-{handler}{}", made.get());
            let pod = self.pods.run_with(handler, "team-a", &name, |config| {
                // What differs by name is made the same.
                config.hostname = "pod".to_owned();
                of_pod(config);
            });
            let pod = pod.unwrap();
            let said = self.said(&pod, "main", script, &of_container);
            self.pods.remove_pod(&pod).unwrap();
            said
        };
        let ours = said("bulkhead");
        assert_eq!(ours, runcs(&ours, || said("runc")), "{name}: {script}");
        // Whole: its last line, or who was killed says nothing more.
        let mut last = ours.lines().rev();
        let (exit, end) = (last.next().unwrap(), last.next().unwrap_or_default());
        assert!(end.starts_with("end ") || exit > "exit 128", "{name}: {ours}");
        ours
    }

    fn end(self) {
        drop(self.pods);
        self.bench.assert_nothing_left();
    }
}

/// A container as CRI's validation makes it: root, with the runtime's default capabilities.
fn container(name: &str, command: &[&str]) -> ContainerOptions {
    let options = ContainerOptions::restricted(name, ALLOWED, command);
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(namespaces()),
        run_as_user: Some(Int64Value { value: 0 }),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerOptions { security, ..options }
}

fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

fn make_privileged(config: &mut PodSandboxConfig) {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
}

fn share(config: &mut PodSandboxConfig, namespaces: NamespaceOption) {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(namespaces);
}

fn mount(host: &std::path::Path, at: &str) -> Mount {
    Mount { host_path: host.display().to_string(), container_path: at.to_owned(), ..Mount::default() }
}

fn profile(kind: ProfileType, path: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: kind.into(), localhost_ref: path.to_owned() })
}

#[test]
fn namespaces_of_the_node_of_the_pod_and_of_a_target_are_joined_as_under_runc() {
    let node = Node::start();
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    for (name, option) in [
        ("pid", NamespaceOption { pid: NamespaceMode::Node.into(), ..namespaces() }),
        ("ipc", NamespaceOption { ipc: NamespaceMode::Node.into(), ..namespaces() }),
        ("net", NamespaceOption { network: NamespaceMode::Node.into(), ..namespaces() }),
    ] {
        let script = format!("readlink /proc/self/ns/{name}");
        let said = node.same(
            &format!("host-{name}"),
            &script,
            |pod| {
                share(pod, option.clone());
                if name == "net" {
                    // As the kubelet has it: the node's network is under the node's name.
                    pod.hostname = String::new();
                }
            },
            |config| security(config).namespace_options = Some(option.clone()),
        );
        if name == "pid" {
            assert_eq!(said, format!("{}\nend 0\nexit 0\n", own.display()));
        }
    }
    let shared = NamespaceOption { pid: NamespaceMode::Pod.into(), ..namespaces() };
    let first = "tr '\\0' ' ' </proc/1/cmdline; echo";
    let of_pod = node.same(
        "pod-pid",
        first,
        |pod| share(pod, shared.clone()),
        |config| security(config).namespace_options = Some(shared.clone()),
    );
    assert!(!of_pod.starts_with("/bin/sh"), "{of_pod}");
    let alone = node.same("own-pid", first, |_| {}, |_| {});
    assert!(alone.starts_with("/bin/sh"), "{alone}");

    // What `kubectl debug --target` asks.
    for handler in HANDLERS {
        let pod = node.pods.run(handler, "team-a", &format!("target-{handler}")).unwrap();
        let target = node.pods.launch(&pod, &container("target", &["/bin/probe", "pause"])).unwrap();
        let of_target =
            NamespaceOption { pid: NamespaceMode::Target.into(), target_id: target.clone(), ..namespaces() };
        let made = Cell::new(0);
        let said = heard(handler, || {
            made.set(made.get() + 1);
            let said = node.said(&pod, &format!("debug{}", made.get()), first, |config| {
                security(config).namespace_options = Some(of_target.clone())
            });
            Ok(said.strip_suffix("exit 0\n").unwrap_or(&said).to_owned())
        });
        let said = said.unwrap();
        assert!(said.starts_with("/bin/probe pause"), "{handler}: {said}");
        let said = heard(handler, || Ok(node.pods.exec(&target, &["/bin/echo", "lives"])?.stdout));
        assert_eq!(said.unwrap(), "lives\n", "{handler}");
        node.pods.remove_pod(&pod).unwrap();
    }
    node.end();
}

#[test]
fn users_and_groups_are_those_of_the_request_as_under_runc() {
    let node = Node::start();
    let who = "id; grep -E '^(Uid|Gid|Groups):' /proc/self/status";
    let uid = |value| Some(Int64Value { value });
    node.same("root", who, |_| {}, |_| {});
    node.same("user", who, |_| {}, |config| security(config).run_as_user = uid(1001));
    node.same(
        "group",
        who,
        |_| {},
        |config| (security(config).run_as_user, security(config).run_as_group) = (uid(1001), uid(1002)),
    );
    node.same(
        "name",
        who,
        |_| {},
        |config| {
            security(config).run_as_user = None;
            security(config).run_as_username = "root".to_owned();
        },
    );
    for policy in [SupplementalGroupsPolicy::Merge, SupplementalGroupsPolicy::Strict] {
        let said = node.same(
            &format!("groups-{}", policy as i32),
            who,
            |_| {},
            |config| {
                security(config).supplemental_groups = vec![1234, 5678];
                security(config).supplemental_groups_policy = policy.into();
            },
        );
        assert!(said.contains("1234") && said.contains("5678"), "{said}");
    }
    node.end();
}

#[test]
fn capabilities_privilege_and_no_new_privs_are_those_of_the_request_as_under_runc() {
    let node = Node::start();
    let has = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (name, add, drop) in [
        ("add", &["NET_ADMIN"][..], &[][..]),
        ("all", &["ALL"], &[]),
        ("drop", &[], &["CHOWN"]),
        ("none", &[], &["ALL"]),
        ("one", &["NET_BIND_SERVICE"], &["ALL"]),
    ] {
        let capabilities = Capability {
            add_capabilities: words(add),
            drop_capabilities: words(drop),
            ..Capability::default()
        };
        let edit = |config: &mut ContainerConfig| security(config).capabilities = Some(capabilities.clone());
        node.same(&format!("cap-{name}"), has, |_| {}, edit);
    }
    node.same("nnp", has, |_| {}, |config| security(config).no_new_privs = true);
    let privileged = format!(
        "{has}; touch /sys/x 2>&1; ls /dev | grep -vE '^(pts|shm|mqueue|core|fd|std.*|ptmx)$' | sort | head -40; \
         mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/self/mountinfo; \
         grep -E ' /(sys|proc|sys/fs/cgroup/[a-z,]*) ' /proc/self/mountinfo | cut -d' ' -f5,6 | sort"
    );
    node.same("privileged", &privileged, make_privileged, |config| security(config).privileged = true);
    node.same("unprivileged", &privileged, |_| {}, |_| {});
    node.end();
}

#[test]
fn files_mounts_and_devices_are_those_of_the_request_as_under_runc() {
    let node = Node::start();
    let root =
        "touch /written && echo written; cut -d' ' -f5,6 /proc/self/mountinfo | grep '^/ ' | cut -d, -f1";
    node.same("writable", root, |_| {}, |_| {});
    node.same("read-only", root, |_| {}, |config| security(config).readonly_rootfs = true);

    let covered = "cat /proc/version >/dev/null && wc -c </proc/version; echo 1 >/proc/sys/kernel/domainname; \
                   ls /var | wc -l; echo x >/etc/passwd; wc -c </proc/kcore; ls /proc/acpi | wc -l";
    node.same(
        "paths",
        covered,
        |_| {},
        |config| {
            security(config).masked_paths = ["/proc/version", "/var"].map(str::to_owned).to_vec();
            security(config).readonly_paths = ["/etc", "/proc/sys"].map(str::to_owned).to_vec();
        },
    );
    node.same("usual-paths", covered, |_| {}, |_| {});

    let dir = node.bench.daemon.dir().join("host");
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::write(dir.join("file"), "of the node\n").unwrap();
    std::os::unix::fs::symlink(&dir, node.bench.daemon.dir().join("link")).unwrap();
    let seen = "cat /data/file; echo more >>/data/grown; grep ' /data' /proc/self/mountinfo | cut -d' ' -f5,6,7 | \
                sed -E 's/(master|shared):[0-9]+/\\1/g'";
    for propagation in [
        MountPropagation::PropagationPrivate,
        MountPropagation::PropagationHostToContainer,
        MountPropagation::PropagationBidirectional,
    ] {
        for readonly in [false, true] {
            let name = format!("mount-{}-{readonly}", propagation as i32);
            node.same(&name, seen, make_privileged, |config| {
                let propagation = propagation.into();
                config.mounts.push(Mount { readonly, propagation, ..mount(&dir, "/data") });
                // What shares with the node is a privileged container's alone, says the kubelet.
                security(config).privileged = true;
            });
        }
    }
    let link = node.bench.daemon.dir().join("link");
    node.same("link", seen, |_| {}, |config| config.mounts.push(mount(&link, "/data")));

    let devices = "ls -l /dev/other | cut -c1-10; head -c 4 /dev/other | wc -c; echo x >/dev/other; echo $?";
    for permissions in ["r", "rw", "rwm"] {
        let device = Device {
            container_path: "/dev/other".to_owned(),
            host_path: "/dev/zero".to_owned(),
            permissions: permissions.to_owned(),
        };
        node.same(
            &format!("device-{permissions}"),
            devices,
            |_| {},
            |config| config.devices.push(device.clone()),
        );
    }
    node.end();
}

#[test]
fn seccomp_profiles_of_the_node_and_of_the_runtime_hold_as_under_runc() {
    let node = Node::start();
    let path = node.bench.daemon.dir().join("no-sethostname.json");
    let rules = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"sethostname\",\"mkdir\",\"mkdirat\"],\
                 \"action\":\"SCMP_ACT_ERRNO\"}]}";
    fs::write(&path, rules).unwrap();
    let tried =
        "grep -E '^Seccomp:' /proc/self/status; hostname other; mkdir /made; unshare -U true; echo $?";
    for (name, kind, file) in [
        ("unconfined", ProfileType::Unconfined, ""),
        ("default", ProfileType::RuntimeDefault, ""),
        ("localhost", ProfileType::Localhost, path.to_str().unwrap()),
    ] {
        for admin in [false, true] {
            let said = node.same(
                &format!("seccomp-{name}-{admin}"),
                tried,
                |_| {},
                |config| {
                    let security = security(config);
                    security.seccomp = profile(kind, file);
                    if admin {
                        let add_capabilities = vec!["SYS_ADMIN".to_owned()];
                        security.capabilities =
                            Some(Capability { add_capabilities, ..Capability::default() });
                    }
                },
            );
            assert_eq!(said.starts_with("Seccomp:\t0"), name == "unconfined", "{said}");
        }
    }
    node.end();
}

#[test]
fn kernel_parameters_names_and_resolvers_of_a_pod_are_those_of_the_request_as_under_runc() {
    let node = Node::start();
    let sysctls = [
        ("kernel.shm_rmid_forced", "1"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("fs.mqueue.msg_max", "100"),
    ];
    let said = node.same(
        "sysctls",
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/fs/mqueue/msg_max; \
         hostname; cat /etc/hostname /etc/resolv.conf; ls /proc/sys/net/ipv4/conf",
        |pod| {
            let sysctls = sysctls.map(|(key, value)| (key.to_owned(), value.to_owned()));
            pod.linux.get_or_insert_default().sysctls = HashMap::from(sysctls);
            pod.dns_config = Some(DnsConfig {
                servers: vec!["10.10.10.10".to_owned()],
                searches: vec!["cluster.test".to_owned()],
                options: vec!["ndots:8".to_owned()],
            });
        },
        |_| {},
    );
    assert!(said.starts_with("1\n0\n100\npod\n") && said.contains("nameserver 10.10.10.10"), "{said}");
    node.end();
}

#[test]
fn limits_end_as_under_runc_and_are_seen_from_inside() {
    let node = Node::start();
    let limited = |config: &mut ContainerConfig| {
        let resources = resources(config);
        resources.memory_limit_in_bytes = 32 << 20;
        (resources.cpu_period, resources.cpu_quota, resources.cpu_shares) = (100_000, 50_000, 512);
        resources.cpuset_cpus = "0".to_owned();
        resources.oom_score_adj = 500;
    };
    let seen = "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status; \
                cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares \
                /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory.max 2>/dev/null; true";
    let said = node.same("limits", seen, |_| {}, limited);
    assert!(said.starts_with("500\n") && said.contains("Cpus_allowed_list:\t0\n"), "{said}");
    // tail(1) keeps the line that never ends.
    let said = node.same("memory", "tail /dev/zero; echo tail $?", |_| {}, limited);
    assert!(said.contains("137"), "{said}");
    node.end();
}

#[test]
fn what_the_level_grants_is_refused_where_the_node_names_another_tenant() {
    let node = Node::start();
    let pod = node.pods.run_with("bulkhead", "team-b", "other", |_| {});
    let pod = pod.unwrap();
    let refused = |name: &str, edit: &dyn Fn(&mut ContainerConfig)| {
        let options = container(name, &["/bin/true"]);
        let done = node.pods.create_with(&pod, &options, edit).and_then(|id| node.pods.start(&id));
        let error = done.unwrap_err().to_string();
        Refused::read(&error).unwrap_or_else(|_| panic!("{name}: {error}"));
    };
    refused("root", &|_| {});
    let unprivileged = |config: &mut ContainerConfig| {
        *security(config) = ContainerOptions::restricted("x", ALLOWED, &[]).security;
    };
    refused("host", &|config| {
        unprivileged(config);
        config.mounts.push(mount(std::path::Path::new("/etc"), "/data"));
    });
    let options = ContainerOptions::restricted("fine", ALLOWED, &["/bin/true"]);
    let fine = node.pods.launch(&pod, &options).unwrap();
    assert_eq!(node.pods.wait(&fine).unwrap(), 0);
    node.pods.remove_pod(&pod).unwrap();
    until("no pods", Duration::from_secs(60), || Ok(node.pods.count()? == 0)).unwrap();
    node.end();
}
