//! Mounts, each yes beside its no.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use bulkhead_model::{ContainerKind, HostPath, MountAccess};

use super::*;
use crate::example;

mod sources;

const UID: &str = "0d2f1c5e-7a51-4a0e-9d8c-3f1f6f0b9a11";

/// A container `c1` in the pod [`UID`] with the sandbox `s1`.
fn in_pod() -> CreateRequest {
    let mut request = example::request();
    request.tenant = example::tenant("k8s.io");
    request.kind = ContainerKind::InSandbox { sandbox: "s1".parse().unwrap() };
    let uid = ("io.kubernetes.cri.sandbox-uid".to_owned(), UID.to_owned());
    request.spec.set_annotations(Some(HashMap::from([uid])));
    request
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    make(Path::new(destination), kind, Path::new(source), options).unwrap()
}

fn bind(source: &str) -> Mount {
    mount("/data", "bind", source, &["rbind", "rw"])
}

struct Run {
    request: CreateRequest,
    confinement: Confinement,
    host: HostFacts,
    image_volumes: Vec<ImageVolume>,
}

impl Run {
    fn new(request: CreateRequest) -> Self {
        let (confinement, host) = (example::confinement(), example::host());
        Self { request, confinement, host, image_volumes: Vec::new() }
    }

    fn host_path(mut self, path: &str, access: MountAccess) -> Self {
        self.confinement.host_paths.insert(HostPath { path: path.into(), access });
        self
    }

    fn all(&self, asked: &[Mount]) -> Result<(Mounts, usize), Refusal> {
        let context = Context {
            image_volumes: &self.image_volumes,
            user_namespace: None,
            request: &self.request,
            confinement: &self.confinement,
            host: &self.host,
            uid: 1000,
            gid: 1000,
            init: self.confinement.init,
        };
        let mut changes = Changes::default();
        let mounts = harden(Some(&asked.to_vec()), &context, &mut changes)?;
        Ok((mounts, changes.into_vec().len()))
    }

    /// The one mount that was asked for, as text, and its rule.
    fn one(&self, asked: &Mount) -> Result<(String, Option<PathAccess>), Refusal> {
        let (mounts, _) = self.all(std::slice::from_ref(asked))?;
        let at = path::normal(asked.destination()).unwrap();
        let made = mounts.list.iter().find(|mount| *mount.destination() == at).unwrap();
        let rule = mounts.rules.iter().find(|rule| rule.path == at).map(|rule| rule.access);
        Ok((made.options().as_ref().unwrap().join(","), rule))
    }
}

#[test]
fn containerds_default_mounts_are_kept_in_their_places_and_limited() {
    let asked = example::spec().mounts().clone().unwrap();
    let (mounts, _) = Run::new(example::request()).all(&asked).unwrap();
    let places: Vec<_> = mounts.list.iter().map(|mount| mount.destination().to_string_lossy()).collect();
    assert_eq!(
        places,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/shm",
            "/dev/mqueue",
            "/sys",
            "/run",
            "/tmp",
            "/var/tmp",
            "/dev/.bulkhead-canary"
        ]
    );
    for mount in &mounts.list {
        let options = mount.options().as_ref().unwrap();
        assert!(options.contains(&"nosuid".to_owned()), "{mount:?}");
        assert!(options.contains(&"noexec".to_owned()), "{mount:?}");
        let devices = ["/dev", "/dev/pts"].map(Path::new).contains(&mount.destination().as_path());
        assert_ne!(options.contains(&"nodev".to_owned()), devices, "{mount:?}");
        if mount.typ().as_deref() == Some("tmpfs") {
            assert!(options.iter().any(|option| option.starts_with("size=")), "{mount:?}");
            assert!(options.iter().any(|option| option.starts_with("nr_inodes=")), "{mount:?}");
        }
    }
}

#[test]
fn kernel_mounts_that_are_left_out_are_filled_in() {
    let (mounts, _) = Run::new(example::request()).all(&[]).unwrap();
    for needed in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/sys", CANARY] {
        assert!(mounts.list.iter().any(|mount| mount.destination() == Path::new(needed)), "{needed}");
    }
}

#[test]
fn there_is_no_rule_for_dev_as_a_whole_nor_for_the_canary() {
    let (mounts, _) = Run::new(example::request()).all(&[]).unwrap();
    let canary = Path::new(CANARY);
    assert!(mounts.list.iter().any(|mount| mount.destination() == canary));
    assert!(!mounts.rules.iter().any(|rule| canary.starts_with(&rule.path)));
    assert!(mounts.rules.iter().any(|rule| rule.path == Path::new("/dev/pts")));
}

#[test]
fn proc_may_be_tightened_but_not_opened() {
    let run = Run::new(example::request());
    let proc = |option| mount("/proc", "proc", "proc", &[option]);
    assert!(run.one(&proc("hidepid=2")).unwrap().0.contains("hidepid=2"));
    assert!(run.one(&proc("hidepid=0")).is_err());
    assert!(run.one(&proc("gid=0")).is_err());
}

#[test]
fn writable_sysfs_and_cgroups_become_read_only() {
    let run = Run::new(example::request());
    let (options, rule) = run.one(&mount("/sys", "sysfs", "sysfs", &["rw"])).unwrap();
    assert!(options.ends_with("ro"), "{options}");
    assert_eq!(rule, Some(PathAccess::Read));
    let (options, rule) = run.one(&mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"])).unwrap();
    assert!(options.contains("rro"), "{options}");
    assert_eq!(rule, Some(PathAccess::Read));
}

#[test]
fn cgroups_are_left_out_where_there_is_no_view_of_them() {
    let mut run = Run::new(example::request());
    let asked = [mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])];
    let there = |run: &Run| {
        let (mounts, _) = run.all(&asked).unwrap();
        mounts.list.iter().any(|mount| mount.destination() == Path::new("/sys/fs/cgroup"))
    };
    assert!(there(&run));
    run.host.cgroup_view = None;
    assert!(!there(&run));
}

#[test]
fn destination_over_the_kernels_places_is_refused() {
    let run = Run::new(example::request()).host_path("/srv", MountAccess::ReadWrite);
    for destination in [
        "/",
        "/proc",
        "/proc/self",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/pts",
        "/dev/null",
        "/dev/.bulkhead-canary",
        "/data/../proc",
        "data",
    ] {
        let asked = mount(destination, "bind", "/srv/data", &["rbind"]);
        assert!(run.all(&[asked]).is_err(), "{destination} was accepted");
    }
    for destination in ["/data", "/dev/shm", "/dev/termination-log", "/process", "//data//x/"] {
        let asked = mount(destination, "bind", "/srv/data", &["rbind"]);
        assert!(run.all(&[asked]).is_ok(), "{destination} was refused");
    }
}

#[test]
fn strange_file_systems_are_refused() {
    let run = Run::new(example::request());
    for kind in ["overlay", "nfs", "debugfs", "proc", "sysfs", "cgroup2", "devtmpfs", "", "none"] {
        assert!(run.all(&[mount("/x", kind, "x", &[])]).is_err(), "{kind} was accepted");
    }
    assert!(run.all(&[mount("/x", "tmpfs", "x", &[])]).is_ok());
}

#[test]
fn destination_twice_or_hidden_by_a_later_one_is_refused() {
    let run = Run::new(example::request());
    let at = |destination| mount(destination, "tmpfs", "tmpfs", &[]);
    assert!(run.all(&[at("/a"), at("/a/b")]).is_ok());
    assert!(run.all(&[at("/a"), at("/ab")]).is_ok());
    assert!(run.all(&[at("/a/b"), at("/a")]).is_err());
    assert!(run.all(&[at("/a"), at("//a/.")]).is_err());
}

#[test]
fn shm_of_a_pod_takes_the_place_of_containerds_default_and_only_in_this_order() {
    let run = Run::new(example::request()).host_path("/srv", MountAccess::ReadWrite);
    let default = mount("/dev/shm", "tmpfs", "shm", &["size=65536k"]);
    let pods = mount("/dev/shm", "bind", "/srv/shm", &["rbind", "ro"]);
    let (mounts, _) = run.all(&[default.clone(), pods.clone()]).unwrap();
    let made: Vec<_> =
        mounts.list.iter().filter(|made| made.destination() == Path::new("/dev/shm")).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].typ().as_deref(), Some("bind"));
    assert!(run.all(&[pods.clone(), default.clone()]).is_err());
    assert!(run.all(&[default.clone(), default]).is_err());
    assert!(run.all(&[pods.clone(), pods]).is_err());
}

#[test]
fn sandbox_writes_nothing_and_gets_no_tmpfs_of_policy() {
    let count = |kind| {
        let mut request = in_pod();
        request.kind = kind;
        let (mounts, _) = Run::new(request).all(&[]).unwrap();
        mounts.list.iter().filter(|mount| mount.destination() == Path::new("/tmp")).count()
    };
    assert_eq!(count(ContainerKind::Sandbox), 0);
    assert_eq!(count(ContainerKind::Plain), 1);
}

#[test]
fn more_than_128_mounts_are_refused() {
    let run = Run::new(example::request());
    let many =
        |count| (0..count).map(|n| mount(&format!("/m{n}"), "tmpfs", "tmpfs", &[])).collect::<Vec<_>>();
    assert!(run.all(&many(MOUNTS_MAX)).is_ok());
    assert!(run.all(&many(MOUNTS_MAX + 1)).is_err());
}

#[test]
fn tmpfs_of_a_request_is_limited_and_never_executable() {
    let run = Run::new(example::request());
    let (options, rule) = run.one(&mount("/x", "tmpfs", "tmpfs", &["exec", "suid", "mode=6777"])).unwrap();
    assert_eq!(options, "nosuid,nodev,noexec,mode=0777,size=67108864,nr_inodes=16384");
    assert_eq!(rule, Some(PathAccess::ReadWrite));
    for (asked, size) in
        [("size=1m", "size=1048576,"), ("size=99g", "size=67108864,"), ("size=0", "size=67108864,")]
    {
        assert!(run.one(&mount("/x", "tmpfs", "tmpfs", &[asked])).unwrap().0.contains(size), "{asked}");
    }
    assert!(run.one(&mount("/x", "tmpfs", "tmpfs", &["ro"])).unwrap().0.contains(",ro,"));
}

#[test]
fn policys_tmpfs_gives_way_to_what_the_request_mounts_there() {
    let run = Run::new(example::request()).host_path("/srv", MountAccess::ReadWrite);
    let count = |asked: &[Mount], at: &str| {
        let (mounts, _) = run.all(asked).unwrap();
        mounts.list.iter().filter(|mount| mount.destination() == Path::new(at)).count()
    };
    assert_eq!(count(&[], "/tmp"), 1);
    let bind = |at| mount(at, "bind", "/srv/data", &["rbind"]);
    assert_eq!(count(&[bind("/tmp")], "/tmp"), 1);
    assert_eq!(count(&[bind("/var")], "/var/tmp"), 0, "it would be hidden");
    assert_eq!(count(&[bind("/run/lock")], "/run"), 1, "it comes first");
}

#[test]
fn read_only_tmpfs_of_a_request_stays_read_only_where_policy_has_one() {
    let run = Run::new(example::request());
    let (options, _) = run.one(&mount("/run", "tmpfs", "tmpfs", &["ro"])).unwrap();
    assert!(options.contains(",ro,"), "{options}");
    let (options, _) = run.one(&mount("/run", "tmpfs", "tmpfs", &["mode=755", "size=1m"])).unwrap();
    assert_eq!(options, "nosuid,nodev,noexec,mode=1777,size=1048576,nr_inodes=16384");
}

#[test]
fn writable_directory_of_policy_belongs_to_the_containers_user() {
    let mut run = Run::new(example::request());
    run.confinement.writable.insert("/var/lib/app".into());
    let (mounts, _) = run.all(&[]).unwrap();
    let made = mounts.list.iter().find(|mount| mount.destination() == Path::new("/var/lib/app")).unwrap();
    assert!(made.options().as_ref().unwrap().join(",").contains("mode=0755,uid=1000,gid=1000"));
}

#[test]
fn place_that_policy_names_is_executable_and_no_other() {
    let mut run = Run::new(example::request()).host_path("/srv", MountAccess::ReadWrite);
    run.confinement.executable = ["/tmp", "/data"].map(Into::into).into();
    let (mounts, _) = run.all(&[mount("/data", "bind", "/srv/data", &["rbind"])]).unwrap();
    let of = |place: &str| {
        let made = mounts.list.iter().find(|mount| mount.destination() == Path::new(place)).unwrap();
        let rule = mounts.rules.iter().find(|rule| rule.path == Path::new(place)).unwrap();
        (made.options().as_ref().unwrap().iter().any(|option| option.contains("noexec")), rule.access)
    };
    assert_eq!(of("/tmp"), (false, PathAccess::ReadWriteExecute));
    assert_eq!(of("/data"), (false, PathAccess::ReadWriteExecute));
    assert_eq!(of("/run"), (true, PathAccess::ReadWrite));
    for (options, access) in
        [(&["rbind", "noexec"][..], PathAccess::ReadWrite), (&["rbind", "ro"], PathAccess::ReadExecute)]
    {
        assert_eq!(run.one(&mount("/data", "bind", "/srv/data", options)).unwrap().1, Some(access));
    }
}
