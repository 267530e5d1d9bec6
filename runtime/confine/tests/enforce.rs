//! Enforcement on the real kernel, in forked children. Needs root.

#![allow(clippy::unwrap_used)]

mod child;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Instant,
};

use bulkhead_confine::{ConfineError, ConfineSpec, Prepared, check_status, landlock_abi};
use bulkhead_model::{HardenedSpec, ImageAccess, MemfdRule, PathAccess, TcpRule};
use bulkhead_profiles::Action;
use child::{End, Flaw, enter, in_child, roots, spec};

/// For specs that tell nobody.
fn nobody(_: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
    unreachable!("no listener was asked for")
}

fn errno(result: io::Result<impl Sized>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.raw_os_error().map_or(error.to_string(), |errno| match errno {
            libc::EACCES => "EACCES".to_owned(),
            libc::EPERM => "EPERM".to_owned(),
            libc::ENOSYS => "ENOSYS".to_owned(),
            libc::EROFS => "EROFS".to_owned(),
            libc::ECONNREFUSED => "ECONNREFUSED".to_owned(),
            other => format!("errno {other}"),
        }),
    }
}

fn confine(spec: &HardenedSpec) {
    Prepared::new(&ConfineSpec::Hardened(spec.clone()), &roots()).unwrap().enforce(nobody).unwrap();
}

/// The error of a container that is not as its spec says, from either step.
fn error(flaw: Flaw, change: impl FnOnce(&mut HardenedSpec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    let spec = ConfineSpec::Hardened(spec);
    let end = in_child(|| {
        enter(flaw);
        let whole = |error: ConfineError| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        };
        Prepared::new(&spec, &roots())
            .and_then(|prepared| prepared.enforce(nobody))
            .map_or_else(whole, |()| "confined".to_owned())
    });
    match end {
        End::Returned(said) => said,
        End::Killed(signal) => panic!("killed by {signal}"),
    }
}

fn syscall(number: libc::c_long, args: [libc::c_long; 3]) -> io::Result<libc::c_long> {
    // SAFETY: the callers pass integers or null pointers, which the kernel checks; none of the calls writes to
    // memory of ours or ends the process.
    let done = unsafe { libc::syscall(number, args[0], args[1], args[2], 0, 0, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

#[test]
fn container_as_planned_is_confined_and_its_server_sees_it() {
    assert_eq!(error(Flaw::None, |_| {}), "confined");
    let spec = spec();
    let said = in_child(|| {
        enter(Flaw::None);
        confine(&spec);
        let text = fs::read_to_string("/proc/self/status").unwrap();
        check_status(&ConfineSpec::Hardened(spec.clone()), &text)
            .map_or_else(|difference| difference.to_string(), |()| "as planned".to_owned())
    });
    assert_eq!(said, End::said("as planned"));
}

#[test]
fn canary_opens_before_and_gives_eacces_after() {
    let said = in_child(|| {
        enter(Flaw::None);
        let before = errno(File::open("/.canary"));
        confine(&spec());
        format!("{before} {}", errno(File::open("/.canary")))
    });
    assert_eq!(said, End::said("ok EACCES"));
}

#[test]
fn each_path_has_the_rights_of_its_rule_and_no_others() {
    let said = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        let write = |path| errno(fs::write(path, "x"));
        [
            errno(fs::read("/var/lib/state")),
            errno(fs::read("/top")),
            errno(fs::read_dir("/")),
            write("/tmp/file"),
            write("/link/other"),
            errno(fs::rename("/tmp/file", "/tmp/renamed")),
            write("/var/tmp/file"),
            // 0666 on a writable mount, but outside of the ruleset.
            write("/open/file"),
            errno(File::open("/open/file")),
        ]
        .join(" ")
    });
    assert_eq!(said, End::said("ok ok ok ok ok ok ok EACCES EACCES"));
}

#[test]
fn program_of_the_image_runs_and_one_dropped_into_a_writable_mount_does_not() {
    let attempt = || {
        let mut results = vec![errno(Command::new("/usr/bin/busybox").arg("true").status())];
        for dropped in ["/tmp/dropped", "/var/tmp/dropped"] {
            fs::copy("/usr/bin/busybox", dropped).unwrap();
            fs::set_permissions(dropped, Permissions::from_mode(0o755)).unwrap();
            results.push(errno(Command::new(dropped).arg("true").status()));
        }
        results.join(" ")
    };
    let unconfined = in_child(|| {
        enter(Flaw::None);
        attempt()
    });
    assert_eq!(unconfined, End::said("ok ok ok"), "the mounts allow execution: the attack works");
    let confined = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        attempt()
    });
    assert_eq!(confined, End::said("ok EACCES EACCES"));
}

#[test]
fn anything_that_is_not_as_planned_is_an_error() {
    for (flaw, field) in [
        (Flaw::BoundingCapability, "CapBnd is"),
        (Flaw::WritableRoot, "mount flags of / is"),
        (Flaw::SuidRoot, "mount flags of / is"),
        (Flaw::DevRoot, "mount flags of / is"),
        (Flaw::OtherUid, "Uid is"),
        (Flaw::AnotherGroup, "Groups is"),
    ] {
        let said = error(flaw, |_| {});
        assert!(said.starts_with(field), "{said}");
    }
    assert_eq!(error(Flaw::WritableRoot, |spec| spec.root_read_only = false), "confined");
}

#[test]
fn second_thread_is_an_error() {
    let said = in_child(|| {
        enter(Flaw::None);
        let prepared = Prepared::new(&ConfineSpec::Hardened(spec()), &roots()).unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let said = prepared.enforce(nobody).unwrap_err().to_string();
        drop(hold);
        drop(thread);
        said
    });
    assert_eq!(said, End::said("Threads is 2, not 1"));
}

#[test]
fn floor_above_the_kernels_abi_is_an_error_and_at_it_is_not() {
    let kernel = landlock_abi();
    assert_eq!(error(Flaw::None, |spec| spec.landlock.floor_abi = kernel), "confined");
    let said = error(Flaw::None, |spec| spec.landlock.floor_abi = kernel + 1);
    assert_eq!(said, format!("Landlock ABI is {kernel}, {} is needed for the policy's floor", kernel + 1));
}

#[test]
fn canary_that_is_missing_or_within_the_rules_is_an_error() {
    let missing = error(Flaw::None, |spec| spec.landlock.canary = "/nothing".into());
    assert!(missing.starts_with("the canary /nothing cannot be opened before"), "{missing}");
    let reached = error(Flaw::None, |spec| spec.landlock.canary = "/var/lib/state".into());
    assert_eq!(reached, "the canary /var/lib/state gives a file under Landlock, not EACCES");
}

#[test]
fn programs_that_are_missing_empty_or_not_bpf_are_errors() {
    assert!(error(Flaw::None, |spec| spec.seccomp.clear()).contains("has 0 instructions"));
    assert!(error(Flaw::None, |spec| spec.seccomp.push(Vec::new())).contains("program 1 has 0 instructions"));
    let said = error(Flaw::None, |spec| spec.seccomp = vec![vec![0xffff]]);
    assert!(said.starts_with("seccomp program 0 is not accepted"), "{said}");
}

#[test]
fn check_needs_nothing_but_read_after_the_last_program() {
    // read, write and exit_group are allowed, everything else kills.
    let [load, ret, equal] = [0x20_u64, 0x06, 0x15];
    let mut program = vec![load];
    for (number, past) in [(libc::SYS_read, 3_u64), (libc::SYS_write, 2), (libc::SYS_exit_group, 1)] {
        program.push(equal | past << 16 | number.unsigned_abs() << 32);
    }
    program.extend([ret | 0x8000_0000 << 32, ret | 0x7fff_0000 << 32]);
    let said = in_child(|| {
        let mut spec = spec();
        spec.seccomp.push(program);
        enter(Flaw::None);
        let prepared = Prepared::new(&ConfineSpec::Hardened(spec), &roots()).unwrap();
        prepared.enforce(nobody).map_or_else(|error| error.to_string(), |()| "confined".to_owned())
    });
    assert_eq!(said, End::said("confined"));
}

#[test]
fn tcp_connect_none_is_eacces_and_any_is_not() {
    if landlock_abi() < 4 {
        println!("skipped: needs Landlock ABI >= 4");
        return;
    }
    let connect = |rule| {
        in_child(|| {
            let mut spec = spec();
            spec.landlock.tcp_connect = rule;
            enter(Flaw::None);
            confine(&spec);
            // Port 1 of loopback: nobody listens.
            errno(TcpStream::connect(("127.0.0.1", 1)))
        })
    };
    assert_eq!(connect(TcpRule::Any), End::said("ECONNREFUSED"));
    assert_eq!(connect(TcpRule::NONE), End::said("EACCES"));
}

#[test]
fn dangerous_calls_work_before_and_are_denied_after() {
    let calls: [(libc::c_long, [libc::c_long; 3], &str); 8] = [
        (libc::SYS_memfd_create, [c"x".as_ptr() as libc::c_long, 0, 0], "ENOSYS"),
        (libc::SYS_socket, [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0], "errno 97"),
        (libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 262], "errno 93"),
        (
            libc::SYS_socket,
            [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), libc::NETLINK_GENERIC.into()],
            "errno 93",
        ),
        (libc::SYS_keyctl, [0, -3, 0], "EPERM"),
        (libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE.into(), 0, 0], "EPERM"),
        (libc::SYS_ptrace, [0, 0, 0], "EPERM"),
        (libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0], "EPERM"),
    ];
    for (number, args, wanted) in calls {
        let before = in_child(|| {
            // Not in a chroot: the kernel makes no user namespace there.
            nix::unistd::setresuid(child::UID.into(), child::UID.into(), child::UID.into()).unwrap();
            errno(syscall(number, args))
        });
        assert!(matches!(before, End::Returned(_)), "{number} {args:?}: {before:?}");
        if before != End::said("ok") {
            println!("skipped: needs a kernel that has syscall {number} {args:?} ({before:?})");
            continue;
        }
        let after = in_child(|| {
            enter(Flaw::None);
            confine(&spec());
            errno(syscall(number, args))
        });
        assert_eq!(after, End::said(wanted), "{number} {args:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn entry_by_int_0x80_works_before_and_kills_after() {
    let getpid = || {
        let pid: u64;
        // SAFETY: 20 is getpid of the 32-bit table: it takes no argument, touches no memory, returns in rax.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20_u64 => pid) };
        (pid == u64::from(std::process::id())).to_string()
    };
    if in_child(getpid) != End::said("true") {
        println!("skipped: needs a kernel with 32-bit entry");
        return;
    }
    let after = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        getpid()
    });
    assert_eq!(after, End::Killed(libc::SIGSYS));
}

#[test]
fn every_denied_row_is_denied_by_the_kernel_with_its_errno() {
    let said = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        let mut tried = 0;
        for row in bulkhead_profiles::rows() {
            let Action::Errno(wanted) = row.then else { continue };
            // The kernel lets uprobe(2) past every filter.
            if !row.args.is_empty() || row.syscall == "uprobe" {
                continue;
            }
            // Arguments that no allowing row of the same call takes.
            let found = syscall(row.number.into(), [0x7777_7777; 3]).map_err(|error| error.raw_os_error());
            if found != Err(Some(wanted.into())) {
                return format!("{}: {found:?}, not {wanted}", row.syscall);
            }
            tried += 1;
        }
        format!("more than 80: {}", tried > 80)
    });
    assert_eq!(said, End::said("more than 80: true"));
}

#[test]
fn shell_with_pipes_links_and_signals_runs_confined() {
    let script = "cd /tmp && mkdir a && echo one > a/f && ln -s a b && cat b/f | /usr/bin/busybox tr o 0 && \
        (sleep 9 & kill $! && wait $! || true) && ls / > /tmp/l && rm -r a b l && echo done";
    let said = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        let output = Command::new("/usr/bin/busybox")
            .args(["sh", "-ec", script])
            .stdin(Stdio::piped())
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    // How the shell tells of the signal depends on when it learns of it.
    assert!(matches!(&said, End::Returned(said) if said.starts_with("0ne\ndone\n")), "{said:?}");
}

#[test]
fn never_legitimate_call_kills() {
    let after = in_child(|| {
        enter(Flaw::None);
        confine(&spec());
        errno(syscall(libc::SYS_delete_module, [0, 0, 0]))
    });
    assert_eq!(after, End::Killed(libc::SIGSYS));
}

#[test]
fn memfd_goes_where_policy_grants_it() {
    let said = in_child(|| {
        let mut spec = spec();
        spec.seccomp = vec![bulkhead_profiles::program(MemfdRule::Allowed, None).unwrap()];
        enter(Flaw::None);
        confine(&spec);
        errno(syscall(libc::SYS_memfd_create, [c"x".as_ptr() as libc::c_long, 0, 0]))
    });
    assert_eq!(said, End::said("ok"));
}

#[test]
fn read_only_root_stays_so_for_the_image_even_where_landlock_would_let_it() {
    let said = in_child(|| {
        let mut spec = spec();
        spec.landlock.image = ImageAccess::Whole(PathAccess::ReadWriteExecute);
        enter(Flaw::None);
        confine(&spec);
        errno(OpenOptions::new().create(true).append(true).open("/var/lib/new"))
    });
    assert_eq!(said, End::said("EROFS"));
}

#[test]
fn cost_of_preparing_and_enforcing_is_shown() {
    let said = in_child(|| {
        enter(Flaw::None);
        let started = Instant::now();
        let prepared = Prepared::new(&ConfineSpec::Hardened(spec()), &roots()).unwrap();
        let prepared_after = started.elapsed();
        let started = Instant::now();
        prepared.enforce(nobody).unwrap();
        format!("prepare {prepared_after:?}, enforce {:?}", started.elapsed())
    });
    println!("{said:?}");
    assert!(matches!(said, End::Returned(said) if said.starts_with("prepare")));
}
