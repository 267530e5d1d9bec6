//! What the written baseline answers, asked of its program as the kernel would run it.

#![allow(clippy::unwrap_used)]

mod interpreter;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::MemfdRule;
use bulkhead_profiles::{
    Action, SECCOMP_INSTRUCTIONS_MAX, Test, Width, answer, program, rows, syscall_name, syscall_number,
};
use interpreter::{Call, run};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

fn errno(errno: i32) -> u32 {
    ERRNO | errno as u32
}

fn ask(memfd: MemfdRule, number: u32, args: [u64; 6]) -> u32 {
    run(&program(memfd, None).unwrap(), &Call { arch: ARCH, number, args }).0
}

fn denied(name: &str, args: [u64; 6]) -> u32 {
    ask(MemfdRule::Denied, syscall_number(name).unwrap(), args)
}

fn code(action: Action) -> u32 {
    match action {
        Action::Allow => ALLOW,
        Action::Errno(errno) => ERRNO | u32::from(errno),
        Action::KillProcess => KILL_PROCESS,
        Action::Log | Action::Told(_) | Action::Trap | Action::KillThread => panic!("no row says {action:?}"),
    }
}

/// Arguments for which the row's conditions hold, with other bits set: not that of MSG_FASTOPEN, which has rows of its own.
fn args_of(row: &bulkhead_profiles::Row) -> [u64; 6] {
    let mut args = [0xffff_ffff_5777_7777; 6];
    for condition in row.args {
        args[usize::from(condition.arg)] = match (condition.width, condition.test) {
            (Width::Bits32, Test::Eq(value)) => value | 0xffff_ffff_0000_0000,
            (Width::Bits32, Test::MaskedEq { mask, value }) => value | !mask,
            // A pointer with nothing in its lower half.
            (Width::Bits64, Test::Ne(0)) => 0x1_0000_0000,
            _ => panic!("no row compares so"),
        };
    }
    args
}

#[test]
fn every_row_is_what_the_kernel_is_told_whatever_the_other_bits_are() {
    for row in rows() {
        let memfd = if row.needs_memfd { MemfdRule::Allowed } else { MemfdRule::Denied };
        assert_eq!(ask(memfd, row.number, args_of(row)), code(row.then), "{row:?}");
    }
}

#[test]
fn every_syscall_of_the_table_is_decided_by_a_row() {
    let decided: BTreeSet<_> = rows().iter().map(|row| row.number).collect();
    for number in 0..600 {
        if let Some(name) = syscall_name(number) {
            assert!(decided.contains(&number), "{name} has no row: decide it");
        }
    }
}

#[test]
fn number_of_no_row_x32_number_and_minus_one_get_enosys() {
    for number in [335 + 65, 600, 0x4000_0000, 0x4000_0000 | 59, 0x4000_0000 | 520, u32::MAX] {
        assert_eq!(ask(MemfdRule::Allowed, number, [0; 6]), errno(libc::ENOSYS), "{number:#x}");
    }
}

#[test]
fn entry_as_another_architecture_kills_even_for_allowed_calls() {
    let program = program(MemfdRule::Allowed, None).unwrap();
    for arch in [0x4000_0003, 0x4000_0028, 0, ARCH ^ 1] {
        for number in [0, 1, 20, 59] {
            assert_eq!(run(&program, &Call { arch, number, args: [0; 6] }).0, KILL_PROCESS);
        }
    }
}

#[test]
fn always_denied_list_is_denied() {
    let dangerous = "init_module finit_module delete_module kexec_load kexec_file_load bpf io_uring_setup \
        io_uring_enter io_uring_register userfaultfd unshare setns clone3 keyctl add_key request_key ptrace \
        process_vm_readv process_vm_writev pidfd_getfd open_by_handle_at name_to_handle_at perf_event_open mount \
        umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr \
        swapon swapoff acct settimeofday clock_settime quotactl quotactl_fd iopl ioperm modify_ldt reboot splice \
        memfd_create memfd_secret";
    for name in dangerous.split_whitespace() {
        let Some(number) = syscall_number(name) else { continue };
        for args in [[0; 6], [u64::MAX; 6], [1; 6]] {
            assert_ne!(ask(MemfdRule::Denied, number, args), ALLOW, "{name}");
        }
    }
    for name in ["io_uring_setup", "clone3", "userfaultfd", "memfd_create"] {
        assert_eq!(denied(name, [0; 6]), errno(libc::ENOSYS), "{name}: a libc must be able to fall back");
    }
}

#[test]
fn memfd_create_is_there_only_where_policy_grants_it() {
    let number = syscall_number("memfd_create").unwrap();
    assert_eq!(ask(MemfdRule::Denied, number, [0; 6]), errno(libc::ENOSYS));
    assert_eq!(ask(MemfdRule::Allowed, number, [0; 6]), ALLOW);
}

#[test]
fn clone_makes_threads_and_children_and_no_namespace() {
    let thread =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    for flags in [thread, libc::SIGCHLD, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD] {
        assert_eq!(denied("clone", [flags as u64, 0, 0, 0, 0, 0]), ALLOW);
    }
    for namespace in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        for high in [0, 0xffff_ffff_0000_0000] {
            let flags = (namespace | libc::SIGCHLD) as u32 as u64 | high;
            assert_eq!(denied("clone", [flags, 0, 0, 0, 0, 0]), errno(libc::EPERM));
        }
    }
}

#[test]
fn sockets_are_unix_tcp_udp_ping_and_route_only() {
    let socket = |family: i32, kind: i32, protocol: i32| {
        denied("socket", [family as u64, kind as u64, protocol as u64, 0, 0, 0])
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, kind, protocol) in [
        (libc::AF_UNIX, libc::SOCK_STREAM, 0),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        (libc::AF_INET, libc::SOCK_STREAM, 0),
        (libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6),
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
    ] {
        assert_eq!(socket(family, kind | flags, protocol), ALLOW, "{family} {kind} {protocol}");
    }
    for (family, kind, protocol, wanted) in [
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP, libc::EPROTONOSUPPORT),
        (libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_SCTP, libc::EPROTONOSUPPORT),
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, libc::EPROTONOSUPPORT),
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP, libc::EPERM),
        (libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW, libc::EPERM),
        (libc::AF_PACKET, libc::SOCK_RAW, 0, libc::EAFNOSUPPORT),
        (libc::AF_PACKET, libc::SOCK_DGRAM, 0, libc::EAFNOSUPPORT),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, libc::EAFNOSUPPORT),
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0, libc::EAFNOSUPPORT),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER, libc::EPROTONOSUPPORT),
    ] {
        assert_eq!(socket(family, kind | flags, protocol), errno(wanted), "{family} {kind} {protocol}");
    }
}

#[test]
fn terminal_injection_is_denied_and_window_size_is_not() {
    for request in [libc::TIOCSTI, libc::TIOCSTI | 1 << 40, libc::TIOCLINUX, 0x5423] {
        assert_eq!(denied("ioctl", [0, request, 0, 0, 0, 0]), errno(libc::EPERM));
    }
    assert_eq!(denied("ioctl", [0, libc::TIOCGWINSZ, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn limit_of_core_dumps_can_be_read_and_is_never_set_while_others_are() {
    const PRETEND: u32 = ERRNO;
    let (core, files) = (u64::from(libc::RLIMIT_CORE), u64::from(libc::RLIMIT_NOFILE));
    for pointer in [1, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
        assert_eq!(denied("prlimit64", [0, core, pointer, 0, 0, 0]), PRETEND, "{pointer:x}");
        assert_eq!(denied("prlimit64", [0, core | 1 << 40, pointer, 0, 0, 0]), PRETEND, "{pointer:x}");
        assert_eq!(denied("prlimit64", [0, files, pointer, 0, 0, 0]), ALLOW, "{pointer:x}");
    }
    assert_eq!(denied("prlimit64", [0, core, 0, 1, 0, 0]), ALLOW);
    assert_eq!(denied("setrlimit", [core, 1, 0, 0, 0, 0]), PRETEND);
    assert_eq!(denied("setrlimit", [files, 1, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn personality_and_device_nodes_are_narrowed() {
    assert_eq!(denied("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(denied("personality", [libc::ADDR_NO_RANDOMIZE as u64, 0, 0, 0, 0, 0]), errno(libc::EPERM));
    assert_eq!(denied("mknodat", [0, 0, u64::from(libc::S_IFIFO | 0o600), 0, 0, 0]), ALLOW);
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        assert_eq!(denied("mknodat", [0, 0, u64::from(kind | 0o600), 0, 0, 0]), errno(libc::EPERM));
    }
}

#[test]
fn what_needs_a_capability_is_denied_by_its_argument_and_its_neighbours_are_not() {
    let option = |level: i32, option: i32| {
        denied("setsockopt", [3, level as u64, option as u64 | 1 << 40, 0x1000, 4, 0])
    };
    // IPT_SO_SET_REPLACE, IPT_SO_SET_ADD_COUNTERS, ARPT_SO_SET_REPLACE; IP6T_SO_SET_REPLACE and its counters.
    for (level, denied) in [(libc::SOL_IP, 64), (libc::SOL_IP, 65), (libc::SOL_IP, 96), (41, 64), (41, 65)] {
        assert_eq!(option(level, denied), errno(libc::EPERM), "{level} {denied}");
    }
    for forced in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
        assert_eq!(option(libc::SOL_SOCKET, forced), errno(libc::EPERM));
    }
    for (level, allowed) in [
        (libc::SOL_SOCKET, libc::SO_SNDBUF),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT),
        (libc::SOL_SOCKET, 34),
        (libc::SOL_IP, libc::IP_TOS),
        (libc::SOL_IP, 51),
        (libc::SOL_IPV6, libc::IPV6_V6ONLY),
        (libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
        (libc::SOL_TCP, libc::TCP_NODELAY),
    ] {
        assert_eq!(option(level, allowed), ALLOW, "{level} {allowed}");
    }
    for clock in [libc::CLOCK_REALTIME_ALARM, libc::CLOCK_BOOTTIME_ALARM] {
        assert_eq!(denied("clock_nanosleep", [clock as u64, 0, 0, 0, 0, 0]), errno(libc::EPERM));
    }
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI] {
        assert_eq!(denied("clock_nanosleep", [clock as u64, 0, 0, 0, 0, 0]), ALLOW, "{clock}");
    }
}

/// Names containerd's default profile allows on this architecture.
fn containerd() -> BTreeSet<String> {
    let text = include_str!("data/containerd-2.1.4-default.json");
    let profile: LinuxSeccomp = serde_json::from_str(text).unwrap();
    let allowed =
        profile.syscalls().iter().flatten().filter(|e| e.action() == LinuxSeccompAction::ScmpActAllow);
    allowed.flat_map(|entry| entry.names().clone()).filter(|name| syscall_number(name).is_some()).collect()
}

#[test]
fn baseline_is_smaller_than_containerds_default_profile() {
    let theirs = containerd();
    let mut ours: BTreeMap<&str, bool> = BTreeMap::new();
    for row in rows().iter().filter(|row| !row.needs_memfd) {
        *ours.entry(row.syscall).or_default() |= row.then == Action::Allow;
    }
    ours.retain(|_, allowed| *allowed);
    println!("baseline {} of containerd's {} names on this architecture", ours.len(), theirs.len());
    assert!(ours.len() + 15 < theirs.len(), "{} against {}", ours.len(), theirs.len());
    let more: Vec<_> = ours.keys().filter(|name| !theirs.contains(**name)).collect();
    assert_eq!(more, [&"mseal", &"uretprobe"], "what containerd 2.1 does not have is named here");
}

#[test]
fn program_is_short_and_any_answer_takes_few_instructions() {
    let program = program(MemfdRule::Denied, None).unwrap();
    println!("{} instructions of {SECCOMP_INSTRUCTIONS_MAX}", program.len());
    assert!(program.len() < 600, "{} instructions", program.len());
    for number in 0..512 {
        let (_, steps) = run(&program, &Call { arch: ARCH, number, args: [u64::MAX; 6] });
        assert!(steps < 120, "{number}: {steps} instructions");
    }
}

#[test]
fn rules_and_their_program_agree_on_every_number() {
    let program = program(MemfdRule::Denied, None).unwrap();
    for number in (0..700).chain([0x4000_0000, u32::MAX]) {
        for args in [[0; 6], [1; 6], [2; 6], [u64::MAX; 6], [16, 3, 0, 0, 0, 0], [10, 1, 6, 0, 0, 0]] {
            let said = run(&program, &Call { arch: ARCH, number, args }).0;
            assert_eq!(
                said,
                code(answer(MemfdRule::Denied, None, number, &args).unwrap()),
                "{number} {args:?}"
            );
        }
    }
}
