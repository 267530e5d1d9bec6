//! A forked child in something like a container: its own mount namespace, a small read-only root, a user.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, Once, PoisonError},
};

use bulkhead_model::{
    Credentials, DeniedCalls, HardenedSpec, ImageAccess, LandlockSpec, MemfdRule, MountRoot, MountRoots,
    PathAccess, PathRule, TcpRule,
};
use caps::CapSet;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Gid, Uid, chdir, chroot, fork, setgroups, setresgid, setresuid},
};

/// The user of the container.
pub(crate) const UID: u32 = 65532;

/// How the child ended: what `body` returned, or the signal that killed it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returned(String),
    Killed(i32),
}

impl End {
    pub(crate) fn said(text: &str) -> Self {
        End::Returned(text.to_owned())
    }
}

/// One child at a time: another test's must not inherit this one's pipe, nor a file that is being written.
static ONE: Mutex<()> = Mutex::new(());
static QUIET: Once = Once::new();

/// Runs `body` in a forked child, which has one thread.
pub(crate) fn in_child(body: impl FnOnce() -> String) -> End {
    QUIET.call_once(|| {
        // Another thread may hold a lock of the usual hook at the time of fork: none of it in the child.
        let (usual, parent) = (std::panic::take_hook(), std::process::id());
        std::panic::set_hook(Box::new(move |info| {
            if std::process::id() == parent {
                usual(info);
            }
        }));
    });
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut from_child, mut to_parent) = std::io::pipe().unwrap();
    // SAFETY: the child runs only `body` and leaves by _exit; glibc keeps malloc usable after fork in a process
    // with threads, and no lock of the test harness is taken in the child.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(from_child);
            // SAFETY: alarm(2) takes a number; a child that hangs dies of SIGALRM and fails its test.
            unsafe { libc::alarm(30) };
            let said = catch_unwind(AssertUnwindSafe(body))
                .unwrap_or_else(|payload| format!("panicked: {:?}", payload.downcast_ref::<String>()));
            let written = to_parent.write_all(said.as_bytes());
            // SAFETY: ends the process; nothing of ours has to run after it.
            unsafe { libc::_exit(i32::from(written.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(to_parent);
            let mut said = String::new();
            from_child.read_to_string(&mut said).unwrap();
            match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, 0) => End::Returned(said),
                WaitStatus::Signaled(_, signal, _) => End::Killed(signal as i32),
                other => panic!("{other:?} after {said:?}"),
            }
        }
    }
}

/// Copies a program that is executed then: who inherited it open for writing would make that ETXTBSY.
pub(crate) fn copy_program(from: &str, to: &Path) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    fs::copy(from, to).unwrap();
}

/// What may differ from a container as it should be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    BoundingCapability,
    WritableRoot,
    SuidRoot,
    DevRoot,
    OtherUid,
    AnotherGroup,
}

/// Makes this process one in a container; to be called in the child.
///
/// ```text
/// /usr/bin/busybox, other  /etc  /proc  /.canary (a mount)  /open (0777, a mount)     no rule for the last two
/// /tmp  /var/tmp  /link -> /tmp                                                tmpfs, exec on purpose
/// ```
pub(crate) fn enter(flaw: Flaw) {
    // In this mount namespace only.
    let dir = Path::new("/tmp");
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    for name in ["usr/bin", "etc", "proc", "open", "tmp", "var/tmp", "var/lib"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    for program in ["/bin/busybox", "/usr/bin/busybox"] {
        if Path::new(program).exists() {
            fs::copy(program, dir.join("usr/bin/busybox")).unwrap();
            fs::copy(program, dir.join("usr/bin/other")).unwrap();
        }
    }
    fs::write(dir.join("var/lib/state"), "state").unwrap();
    fs::write(dir.join("top"), "top").unwrap();
    std::os::unix::fs::symlink("/tmp", dir.join("link")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("etc/root")).unwrap();
    std::os::unix::fs::symlink("/open", dir.join("etc/open")).unwrap();
    fs::write(dir.join(".canary"), "canary").unwrap();
    let at = |name: &str| dir.join(name);
    mount(Some(&at(".canary")), &at(".canary"), none, MsFlags::MS_BIND, none).unwrap();
    mount(Some("/proc"), &at("proc"), none, MsFlags::MS_BIND, none).unwrap();
    for name in ["tmp", "var/tmp", "open"] {
        mount(Some("tmpfs"), &at(name), Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).unwrap();
    }
    let file = File::create(at("open/file")).unwrap();
    file.set_permissions(Permissions::from_mode(0o666)).unwrap();
    chroot(dir).unwrap();
    chdir("/").unwrap();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    flags.set(MsFlags::MS_RDONLY, flaw != Flaw::WritableRoot);
    flags.set(MsFlags::MS_NOSUID, flaw != Flaw::SuidRoot);
    flags.set(MsFlags::MS_NODEV, flaw != Flaw::DevRoot);
    mount(none, "/", none, flags, none).unwrap();

    let mut bounding = caps::read(None, CapSet::Bounding).unwrap();
    if flaw == Flaw::BoundingCapability {
        bounding.remove(&caps::Capability::CAP_CHOWN);
    }
    for capability in bounding {
        caps::drop(None, CapSet::Bounding, capability).unwrap();
    }
    let more = if flaw == Flaw::AnotherGroup { vec![Gid::from_raw(0)] } else { Vec::new() };
    setgroups(&more).unwrap();
    let uid = if flaw == Flaw::OtherUid { UID + 1 } else { UID };
    setresgid(Gid::from_raw(UID), Gid::from_raw(UID), Gid::from_raw(UID)).unwrap();
    setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid)).unwrap();
    caps::clear(None, CapSet::Inheritable).unwrap();
}

/// Where the mounts of [`enter`] are; in the child.
pub(crate) fn roots() -> MountRoots {
    roots_at(&[("/proc", "/proc"), ("/tmp", "/tmp"), ("/var/tmp", "/var/tmp")])
}

/// Destinations, and where they have landed.
pub(crate) fn roots_at(places: &[(&str, &str)]) -> MountRoots {
    let root = |(destination, at): &(&str, &str)| {
        let found = fs::metadata(at).unwrap();
        (destination.into(), MountRoot { at: at.into(), device: found.dev(), inode: found.ino() })
    };
    places.iter().map(root).collect()
}

/// A spec that fits [`enter`].
pub(crate) fn spec() -> HardenedSpec {
    let rule = |path: &str, access| PathRule { path: path.into(), access };
    HardenedSpec {
        credentials: Credentials { uid: UID, gid: UID, groups: Vec::new() },
        root_read_only: true,
        landlock: LandlockSpec {
            floor_abi: 1,
            image: ImageAccess::Whole(PathAccess::ReadExecute),
            paths: vec![
                rule("/proc", PathAccess::Read),
                rule("/tmp", PathAccess::ReadWrite),
                rule("/var/tmp", PathAccess::ReadWrite),
            ],
            tcp_bind: TcpRule::Any,
            tcp_connect: TcpRule::Any,
            scope: Default::default(),
            canary: "/.canary".into(),
        },
        seccomp: vec![bulkhead_profiles::program(MemfdRule::Denied, None).unwrap()],
        denied_calls: DeniedCalls::Unseen,
        selinux_label: None,
        user_namespace: None,
    }
}
