//! An image's files told one by one, TCP ports and scopes, on the real kernel, in forked children. Needs root.

#![allow(clippy::unwrap_used)]

mod child;

use std::{
    fs::{self, File, Permissions},
    io,
    net::{TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    process::Command,
};

use bulkhead_confine::{ConfineSpec, Prepared, landlock_abi};
use bulkhead_model::{FileRules, HardenedSpec, ImageAccess, ScopeRule, TcpRule};
use child::{End, Flaw, enter, in_child, roots, spec};

fn files(execute: &[&str], read: &[&str]) -> ImageAccess {
    let paths = |paths: &[&str]| paths.iter().map(Into::into).collect();
    ImageAccess::Files(FileRules { execute: paths(execute), read: paths(read) })
}

fn errno(result: io::Result<impl Sized>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EACCES) => "EACCES".to_owned(),
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// What `attempt` says in a container of `spec` with that change.
fn confined(change: impl FnOnce(&mut HardenedSpec), attempt: impl FnOnce() -> String) -> End {
    let mut spec = spec();
    change(&mut spec);
    in_child(|| {
        enter(Flaw::None);
        let prepared = Prepared::new(&ConfineSpec::Hardened(spec), &roots()).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        });
        let done =
            prepared.and_then(|prepared| prepared.enforce(|_| Ok(())).map_err(|error| error.to_string()));
        match done {
            Ok(()) => attempt(),
            Err(said) => said,
        }
    })
}

#[test]
fn program_that_is_told_runs_and_one_beside_it_is_neither_executed_nor_read() {
    let attempt = || {
        [
            errno(Command::new("/usr/bin/busybox").arg("true").status()),
            errno(fs::read("/usr/bin/busybox")),
            errno(Command::new("/usr/bin/other").arg("true").status()),
            errno(fs::read("/usr/bin/other")),
            errno(fs::read("/var/lib/state")),
            errno(fs::read("/top")),
            errno(fs::read_dir("/")),
            errno(fs::read_dir("/usr/bin")),
        ]
        .join(" ")
    };
    assert_eq!(confined(|_| {}, attempt), End::said("ok ok ok ok ok ok ok ok"));
    let told = |spec: &mut HardenedSpec| spec.landlock.image = files(&["/usr/bin/busybox"], &["/var/lib"]);
    assert_eq!(confined(told, attempt), End::said("ok ok EACCES EACCES ok EACCES ok ok"));
}

#[test]
fn directory_that_is_executed_gives_nothing_to_a_writable_mount_below_it() {
    let attempt = || {
        let dropped = "/var/tmp/dropped";
        fs::copy("/usr/bin/busybox", dropped).unwrap();
        fs::set_permissions(dropped, Permissions::from_mode(0o755)).unwrap();
        format!("{} {}", errno(fs::read("/var/lib/state")), errno(Command::new(dropped).arg("true").status()))
    };
    let whole = |spec: &mut HardenedSpec| spec.landlock.image = files(&["/var", "/usr"], &[]);
    assert_eq!(confined(whole, attempt), End::said("ok EACCES"));
    // The mount itself would let it run.
    let granted = |spec: &mut HardenedSpec| {
        whole(spec);
        for rule in &mut spec.landlock.paths {
            rule.access = bulkhead_model::PathAccess::ReadWriteExecute;
        }
    };
    assert_eq!(confined(granted, attempt), End::said("ok ok"));
}

#[test]
fn rule_for_a_file_that_a_mount_hides_gives_nothing_in_the_mount() {
    let attempt = || format!("{} {}", errno(fs::read("/open/file")), errno(fs::read("/var/lib/state")));
    let hidden =
        |spec: &mut HardenedSpec| spec.landlock.image = files(&["/open"], &["/open/file", "/var/lib"]);
    assert_eq!(confined(hidden, attempt), End::said("EACCES ok"));
}

/// The canary is a file that is mounted on one of the image: to read it is all that its rule could give.
#[test]
fn file_that_is_mounted_on_one_of_the_image_is_read_as_that_was_and_never_executed() {
    let executed = |spec: &mut HardenedSpec| spec.landlock.image = files(&["/.canary"], &[]);
    assert_eq!(confined(executed, || "confined".to_owned()), End::said("confined"));
    let read = |spec: &mut HardenedSpec| spec.landlock.image = files(&[], &["/.canary"]);
    let said = confined(read, || "confined".to_owned());
    assert_eq!(said, End::said("the canary /.canary gives a file under Landlock, not EACCES"));
}

#[test]
fn link_or_missing_file_in_the_way_of_a_rule_is_an_error() {
    for path in ["/etc/root", "/etc/root/usr", "/link", "/nothing"] {
        let said = confined(|spec| spec.landlock.image = files(&[], &[path]), || "confined".to_owned());
        assert!(
            matches!(&said, End::Returned(said) if said.starts_with(&format!("openat2(2) on {path}: "))),
            "{said:?}"
        );
    }
}

#[test]
fn port_that_is_told_is_bound_or_connected_to_and_another_is_eacces() {
    if landlock_abi() < 4 {
        println!("skipped: needs Landlock ABI >= 4");
        return;
    }
    let ports = |port: u16| TcpRule::Ports([port].into());
    let bind =
        |rule| confined(|spec| spec.landlock.tcp_bind = rule, || errno(TcpListener::bind(("127.0.0.1", 0))));
    assert_eq!(bind(TcpRule::Any), End::said("ok"));
    assert_eq!(bind(ports(0)), End::said("ok"));
    assert_eq!(bind(ports(8080)), End::said("EACCES"));
    // Nobody listens there.
    let connect = |rule| {
        confined(|spec| spec.landlock.tcp_connect = rule, || errno(TcpStream::connect(("127.0.0.1", 1))))
    };
    assert_eq!(connect(ports(1)), End::said("ECONNREFUSED"));
    assert_eq!(connect(ports(443)), End::said("EACCES"));
    assert_eq!(connect(TcpRule::NONE), End::said("EACCES"));
}

/// connect(2) is what Landlock judges; sendto(2) of the first bytes connects too.
#[test]
fn tcp_fast_open_connects_nobody_past_the_rules() {
    if landlock_abi() < 4 {
        println!("skipped: needs Landlock ABI >= 4");
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let attempt = || [fast_open(address.port()), errno(TcpStream::connect(address))].join(", ");
    let denied = "errno 95, errno 95";
    let with = |rule| confined(|spec| spec.landlock.tcp_connect = rule, attempt);
    assert_eq!(with(TcpRule::NONE), End::said(&format!("{denied}, EACCES")));
    assert_eq!(with(TcpRule::Any), End::said(&format!("{denied}, ok")));
    // BPF_RET of SECCOMP_RET_ALLOW: under the ruleset alone connect(2) is denied all the same; whether fast open is, depends on
    // the kernel.
    let alone = |spec: &mut HardenedSpec| {
        spec.landlock.tcp_connect = TcpRule::NONE;
        spec.seccomp = vec![vec![0x06 | 0x7fff_0000 << 32]];
    };
    let End::Returned(said) = confined(alone, attempt) else { panic!("killed") };
    println!("without the baseline: {said}");
    assert!(said.ends_with(", EACCES"), "{said}");
}

/// What sendto(2) and sendmsg(2) with MSG_FASTOPEN say, each on a socket of its own.
fn fast_open(port: u16) -> String {
    let said = |sent: isize| match sent {
        -1 => format!("errno {}", io::Error::last_os_error().raw_os_error().unwrap_or_default()),
        _ => "sent".to_owned(),
    };
    let mut there = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&there) as libc::socklen_t;
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: an all-zero struct msghdr is valid: no name, no part, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut there).cast();
    message.msg_namelen = length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: address, part and byte live during the calls, which read them; the descriptors are this function's own, and
    // end with the child.
    unsafe {
        let socket = || libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let to = (&raw const there).cast();
        let sent = said(libc::sendto(socket(), byte.as_ptr().cast(), 1, libc::MSG_FASTOPEN, to, length));
        format!("{sent}, {}", said(libc::sendmsg(socket(), &raw const message, libc::MSG_FASTOPEN)))
    }
}

#[test]
#[allow(
    clippy::zombie_processes,
    reason = "the parent is a forked child that ends right after, and its children with it"
)]
fn scope_keeps_signals_and_abstract_sockets_in_and_lets_them_reach_children() {
    if landlock_abi() < 6 {
        println!("skipped: needs Landlock ABI >= 6");
        return;
    }
    let name = format!("bulkhead-confine-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let attempt = |scope: &[ScopeRule]| {
        let mut spec = spec();
        spec.landlock.scope.extend(scope);
        in_child(|| {
            enter(Flaw::None);
            let mut outside = Command::new("/usr/bin/busybox").args(["sleep", "5"]).spawn().unwrap();
            Prepared::new(&ConfineSpec::Hardened(spec), &roots()).unwrap().enforce(|_| Ok(())).unwrap();
            let mut inside = Command::new("/usr/bin/busybox").args(["sleep", "5"]).spawn().unwrap();
            let said = [
                errno(outside.kill()),
                errno(inside.kill()),
                errno(UnixStream::connect_addr(&address)),
                errno(File::open("/top")),
            ];
            let _ended = inside.wait();
            said.join(" ")
        })
    };
    assert_eq!(attempt(&[]), End::said("ok ok ok ok"));
    assert_eq!(attempt(&[ScopeRule::Signals]), End::said("EPERM ok ok ok"));
    assert_eq!(attempt(&[ScopeRule::AbstractSockets]), End::said("ok ok EPERM ok"));
}
