//! What holds for every request: real ones, edited at random.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::{grant, host, request, spec};
use oci_spec::runtime::{
    Capability, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxPidsBuilder, Mount,
    MountBuilder, PosixRlimitBuilder, PosixRlimitType, Spec, UserBuilder,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// One edit of a request.
#[derive(Clone, Debug)]
enum Edit {
    User(u32, u32, Vec<u32>, Option<u32>),
    Capabilities(Vec<Capability>, Vec<Capability>),
    NoCapabilities,
    NoNewPrivileges(Option<bool>),
    Rlimits(Vec<(PosixRlimitType, u64, u64)>),
    Masked(Option<Vec<&'static str>>),
    ReadOnlyPaths(Option<Vec<&'static str>>),
    ReadOnlyRoot(Option<bool>),
    Propagation(&'static str),
    Pids(Option<i64>),
    OomScore(Option<i32>),
    Cwd(&'static str),
    Environment(Vec<&'static str>),
    Mount(&'static str, &'static str, &'static str, Vec<&'static str>),
    DropMount(usize),
    DropNamespace(usize),
    DeviceRule(bool, Option<LinuxDeviceType>, Option<i64>, Option<i64>),
    Sysctl(&'static str, &'static str),
    Terminal(Option<bool>),
}

const CAPABILITIES: [Capability; 8] = [
    Capability::Chown,
    Capability::NetRaw,
    Capability::NetBindService,
    Capability::Kill,
    Capability::SysAdmin,
    Capability::Bpf,
    Capability::SysPtrace,
    Capability::SysChroot,
];

fn edit() -> impl Strategy<Value = Edit> {
    let id = || prop_oneof![Just(0u32), Just(1000), Just(65532), any::<u32>()];
    let path =
        || select(vec!["/proc/kcore", "/proc/cpuinfo", "/sys/firmware", "/proc/../x", "/", "relative"]);
    let bytes = || prop_oneof![Just(0u64), Just(1), Just(1024), any::<u64>()];
    let kind = select(vec![
        PosixRlimitType::RlimitCore,
        PosixRlimitType::RlimitNofile,
        PosixRlimitType::RlimitRtprio,
        PosixRlimitType::RlimitAs,
    ]);
    let option_text = select(vec![
        "ro",
        "rw",
        "rbind",
        "bind",
        "nosuid",
        "suid",
        "dev",
        "exec",
        "noexec",
        "rshared",
        "rslave",
        "rprivate",
        "size=1m",
        "size=99g",
        "size=50%",
        "mode=4777",
        "nr_inodes=5",
        "hidepid=2",
        "relatime",
        "idmap",
        "strange",
    ]);
    let destination = select(vec![
        "/proc",
        "/dev",
        "/dev/shm",
        "/sys",
        "/sys/fs/cgroup",
        "/tmp",
        "/run",
        "/var",
        "/data",
        "/data/sub",
        "/etc/hosts",
        "/",
        "relative",
        "/a/../b",
        "/dev/null",
        "/dev/.bulkhead-canary",
    ]);
    prop_oneof![
        (id(), id(), vec(id(), 0..4), option::of(0u32..0o1100))
            .prop_map(|(uid, gid, groups, umask)| Edit::User(uid, gid, groups, umask)),
        (vec(select(CAPABILITIES.to_vec()), 0..4), vec(select(CAPABILITIES.to_vec()), 0..2))
            .prop_map(|(bounding, ambient)| Edit::Capabilities(bounding, ambient)),
        Just(Edit::NoCapabilities),
        any::<Option<bool>>().prop_map(Edit::NoNewPrivileges),
        vec((kind, bytes(), bytes()), 0..4).prop_map(Edit::Rlimits),
        option::of(vec(path(), 0..3)).prop_map(Edit::Masked),
        option::of(vec(path(), 0..3)).prop_map(Edit::ReadOnlyPaths),
        any::<Option<bool>>().prop_map(Edit::ReadOnlyRoot),
        select(vec!["", "private", "rslave", "shared", "strange"]).prop_map(Edit::Propagation),
        option::of(prop_oneof![-1i64..20, any::<i64>()]).prop_map(Edit::Pids),
        option::of(-1100i32..1100).prop_map(Edit::OomScore),
        select(vec!["/", "/srv", "", "relative", "/proc/self/fd/7", "/a/../b"]).prop_map(Edit::Cwd),
        vec(select(vec!["PATH=/x", "HOME=/h", "A=b", "=c", "D"]), 0..3).prop_map(Edit::Environment),
        (
            destination,
            select(vec!["bind", "tmpfs", "proc", "sysfs", "cgroup", "overlay", "none"]),
            select(vec![
                "tmpfs",
                "/srv/data",
                "/srv/only",
                "/etc",
                "/srv/../etc",
                "/run/containerd/containerd.sock"
            ]),
            vec(option_text, 0..4),
        )
            .prop_map(|(destination, kind, source, options)| Edit::Mount(
                destination,
                kind,
                source,
                options
            )),
        (0usize..8).prop_map(Edit::DropMount),
        (0usize..6).prop_map(Edit::DropNamespace),
        (
            any::<bool>(),
            option::of(select(vec![LinuxDeviceType::A, LinuxDeviceType::B, LinuxDeviceType::C])),
            option::of(-1i64..6),
            option::of(-1i64..6)
        )
            .prop_map(|(allow, typ, major, minor)| Edit::DeviceRule(allow, typ, major, minor)),
        (select(vec!["net.ipv4.tcp_rmem", "kernel.core_pattern"]), select(vec!["1", "|/x"]))
            .prop_map(|(name, value)| Edit::Sysctl(name, value)),
        any::<Option<bool>>().prop_map(Edit::Terminal),
    ]
}

fn apply(spec: &mut Spec, edit: Edit) {
    let strings = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut process = spec.process().clone().unwrap();
    let mut linux = spec.linux().clone().unwrap();
    match edit {
        Edit::User(uid, gid, groups, umask) => {
            let mut user = UserBuilder::default().uid(uid).gid(gid).additional_gids(groups).build().unwrap();
            user.set_umask(umask);
            process.set_user(user);
        }
        Edit::Capabilities(bounding, ambient) => {
            let mut sets = LinuxCapabilitiesBuilder::default().build().unwrap();
            let set = |list: Vec<Capability>| Some(list.into_iter().collect());
            sets.set_bounding(set(bounding.clone()))
                .set_effective(set(bounding.clone()))
                .set_permitted(set(bounding))
                .set_inheritable(None)
                .set_ambient(set(ambient));
            process.set_capabilities(Some(sets));
        }
        Edit::NoCapabilities => drop(process.set_capabilities(None).clone()),
        Edit::NoNewPrivileges(value) => drop(process.set_no_new_privileges(value).clone()),
        Edit::Rlimits(limits) => {
            let build = |(kind, soft, hard)| {
                PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().unwrap()
            };
            process.set_rlimits(Some(limits.into_iter().map(build).collect()));
        }
        Edit::Masked(paths) => *linux.masked_paths_mut() = paths.map(strings),
        Edit::ReadOnlyPaths(paths) => *linux.readonly_paths_mut() = paths.map(strings),
        Edit::ReadOnlyRoot(value) => drop(spec.root_mut().as_mut().unwrap().set_readonly(value).clone()),
        Edit::Propagation(value) => *linux.rootfs_propagation_mut() = Some(value.to_owned()),
        Edit::Pids(limit) => {
            let pids = limit.map(|limit| LinuxPidsBuilder::default().limit(limit).build().unwrap());
            linux.resources_mut().as_mut().unwrap().set_pids(pids);
        }
        Edit::OomScore(score) => drop(process.set_oom_score_adj(score).clone()),
        Edit::Cwd(cwd) => drop(process.set_cwd(cwd.into()).clone()),
        Edit::Environment(env) => *process.env_mut() = Some(strings(env)),
        Edit::Mount(destination, kind, source, options) => {
            let mount = MountBuilder::default()
                .destination(destination)
                .typ(kind)
                .source(source)
                .options(strings(options))
                .build()
                .unwrap();
            let mounts = spec.mounts_mut().as_mut().unwrap();
            // Half of the time in place of what is there: twice would only be refused.
            if mount.options().as_ref().is_some_and(|options| options.len() % 2 == 0) {
                mounts.retain(|known| known.destination() != mount.destination());
            }
            mounts.push(mount);
        }
        Edit::DropMount(index) => {
            let mounts = spec.mounts_mut().as_mut().unwrap();
            if index < mounts.len() {
                mounts.remove(index);
            }
        }
        Edit::DropNamespace(index) => {
            let namespaces = linux.namespaces_mut().as_mut().unwrap();
            if index < namespaces.len() {
                namespaces.remove(index);
            }
        }
        Edit::DeviceRule(allow, typ, major, minor) => {
            let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).access("rwm").build().unwrap();
            rule.set_typ(typ).set_major(major).set_minor(minor);
            linux.resources_mut().as_mut().unwrap().devices_mut().as_mut().unwrap().push(rule);
        }
        Edit::Sysctl(name, value) => *linux.sysctl_mut() = Some([(name.to_owned(), value.to_owned())].into()),
        Edit::Terminal(value) => drop(process.set_terminal(value).clone()),
    }
    spec.set_process(Some(process)).set_linux(Some(linux));
}

fn asked() -> impl Strategy<Value = Spec> {
    let name = select(vec!["ctr-1.6-user", "ctr-1.6-root", "ctr-1.6-terminal"]);
    (name, vec(edit(), 0..4)).prop_map(|(name, edits)| {
        let mut spec = spec(name);
        edits.into_iter().for_each(|edit| apply(&mut spec, edit));
        spec
    })
}

fn policy() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "user = { force = 65532 }",
        "root = \"writable\"\nuser = { force = 1 }",
        "host_paths = [{ path = \"/srv/data\", access = \"read-write\" }, { path = \"/srv\", access = \"read-only\" }]",
        "tmpfs = []\nwritable = [\"/var/lib/app\", \"/tmp\"]\ntmpfs_bytes_max = 4096\ntmpfs_inodes_max = 10\npids_max = 5",
    ])
}

fn has(mount: &Mount, option: &str) -> bool {
    mount.options().as_ref().is_some_and(|options| options.iter().any(|known| known == option))
}

fn lists(paths: &Option<Vec<String>>) -> &[String] {
    paths.as_deref().unwrap_or_default()
}

/// What is true of every plan, whatever was asked for.
fn is_hardened(asked: &Spec, planned: &Spec) {
    let (process, linux) = (planned.process().as_ref().unwrap(), planned.linux().as_ref().unwrap());
    let (asked_process, asked_linux) = (asked.process().as_ref().unwrap(), asked.linux().as_ref().unwrap());

    let sets = process.capabilities().as_ref().unwrap();
    for set in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()] {
        assert!(set.as_ref().unwrap().is_empty());
    }
    assert_eq!(process.no_new_privileges(), Some(true));
    let user = process.user();
    let groups = user.additional_gids().as_ref().unwrap();
    assert!(user.uid() != 0 && user.gid() != 0 && !groups.contains(&0) && !groups.is_empty());
    let asked_umask = asked_process.user().umask().unwrap_or(0);
    assert_eq!(user.umask().unwrap() & (asked_umask | 0o022), asked_umask | 0o022);

    for limit in asked_process.rlimits().iter().flatten() {
        let kept = process.rlimits().as_ref().unwrap().iter().find(|kept| kept.typ() == limit.typ()).unwrap();
        // 1 is stricter than 0 for core dumps alone: it stops pipes as well.
        if limit.typ() != PosixRlimitType::RlimitCore {
            assert!(kept.soft() <= limit.soft() && kept.hard() <= limit.hard());
        }
    }
    for (asked, planned) in [
        (asked_linux.masked_paths(), linux.masked_paths()),
        (asked_linux.readonly_paths(), linux.readonly_paths()),
    ] {
        assert!(lists(asked).iter().all(|path| lists(planned).contains(path)));
        assert!(!lists(planned).is_empty());
    }
    assert!(process.oom_score_adj() >= asked_process.oom_score_adj());
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
    assert_eq!(linux.devices(), &None);
    let asked_namespaces = asked_linux.namespaces().as_ref().unwrap();
    let namespaces = linux.namespaces().as_ref().unwrap();
    assert!(asked_namespaces.iter().all(|namespace| namespaces.contains(namespace)));
    assert!(namespaces.len() >= 6 && namespaces.iter().all(|namespace| namespace.path().is_none()));
    let pids = linux.resources().as_ref().unwrap().pids().unwrap().limit();
    let asked_pids = asked_linux.resources().as_ref().unwrap().pids().map(|pids| pids.limit());
    assert!(pids > 0 && asked_pids.filter(|limit| *limit > 0).is_none_or(|limit| pids <= limit));
    if asked.root().as_ref().unwrap().readonly() == Some(true) {
        assert_eq!(planned.root().as_ref().unwrap().readonly(), Some(true));
    }
    mounts_are_hardened(asked, planned);
}

fn mounts_are_hardened(asked: &Spec, planned: &Spec) {
    let mounts = planned.mounts().as_ref().unwrap();
    for mount in mounts {
        assert!(has(mount, "nosuid"), "{mount:?}");
        assert!(has(mount, "noexec") || has(mount, "ro"), "{mount:?}");
        let makes_devices = ["/dev", "/dev/pts"].map(Path::new).contains(&mount.destination().as_path());
        assert!(has(mount, "nodev") || makes_devices, "{mount:?}");
        if has(mount, "rbind") {
            assert!(has(mount, "rnosuid") && has(mount, "rnodev"), "{mount:?}");
            assert_eq!(has(mount, "ro"), has(mount, "rro"), "{mount:?}");
        }
        for loose in ["suid", "dev", "exec", "shared", "rshared", "slave", "rslave", "rw"] {
            assert!(!has(mount, loose), "{mount:?}");
        }
    }
    for asked in asked.mounts().iter().flatten().filter(|mount| has(mount, "ro")) {
        let planned = mounts.iter().find(|mount| mount.destination() == asked.destination());
        // /dev must be written to while it is filled; nobody but root can, and root is nobody here.
        if let Some(planned) = planned.filter(|mount| mount.destination() != Path::new("/dev")) {
            let kernel = ["/proc", "/dev/shm"].map(Path::new).contains(&asked.destination().as_path());
            assert!(has(planned, "ro") || kernel, "{asked:?} became {planned:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plan_adds_no_right_and_is_idempotent(asked in asked(), keys in policy()) {
        let request = request(asked);
        let (grant, host) = (grant(&request, keys), host(&request));
        let Ok(plan) = bulkhead_plan::plan(&request, &grant, &host) else { return Ok(()) };
        is_hardened(&request.spec, plan.spec());

        let mut again = request.clone();
        again.spec = plan.spec().clone();
        let second = bulkhead_plan::plan(&again, &grant, &host).unwrap();
        prop_assert_eq!(second.spec(), plan.spec());
        prop_assert_eq!(second.confine(), plan.confine());
    }
}

#[test]
fn many_of_the_edited_requests_are_planned_and_many_refused() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = (asked(), policy());
    let planned = (0..500)
        .filter(|_| {
            let (spec, keys) = strategy.new_tree(&mut runner).unwrap().current();
            common::plan_of(spec, keys).is_ok()
        })
        .count();
    assert!((50..450).contains(&planned), "{planned} of 500: the property above would say little");
}
