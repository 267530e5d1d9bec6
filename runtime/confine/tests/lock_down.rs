//! The judge's own confinement on the real kernel, in forked children. Needs root.

#![allow(clippy::unwrap_used)]

mod child;

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use bulkhead_confine::{LockDown, lock_down};
use child::{End, in_child};

const LIMITS: LockDown = LockDown { uid: 65533, gid: 65533, memory_bytes_max: 512 << 20, cpu_seconds_max: 5 };

fn locked(body: impl FnOnce() -> String) -> End {
    in_child(|| {
        lock_down(LIMITS).unwrap();
        body()
    })
}

#[test]
fn locked_down_helper_computes_reads_and_writes_what_is_open() {
    let (mut from, mut to) = std::io::pipe().unwrap();
    to.write_all(b"question").unwrap();
    drop(to);
    let end = locked(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        let large: Vec<u8> = vec![1; 64 << 20];
        let sum: u64 = large.iter().map(|byte| u64::from(*byte)).sum();
        let keys: std::collections::HashSet<u8> = text.bytes().collect();
        format!("{text} {sum} {}", keys.len())
    });
    assert_eq!(end, End::said("question 67108864 8"));
}

#[test]
fn file_opens_before_and_kills_after() {
    assert_eq!(in_child(|| File::open("/etc/passwd").is_ok().to_string()), End::said("true"));
    assert_eq!(locked(|| File::open("/etc/passwd").is_ok().to_string()), End::Killed(libc::SIGSYS));
}

#[test]
fn socket_process_thread_and_executable_memory_kill() {
    let socket = || TcpStream::connect(("127.0.0.1", 1)).is_ok().to_string();
    assert_eq!(in_child(socket), End::said("false"));
    assert_eq!(locked(socket), End::Killed(libc::SIGSYS));
    let thread = || std::thread::Builder::new().spawn(|| ()).is_ok().to_string();
    assert_eq!(in_child(thread), End::said("true"));
    assert_eq!(locked(thread), End::Killed(libc::SIGSYS));
    let executable = || {
        let (length, protection) = (4096, libc::PROT_READ | libc::PROT_EXEC);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses overlaps nothing of ours.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        (at != libc::MAP_FAILED).to_string()
    };
    assert_eq!(in_child(executable), End::said("true"));
    assert_eq!(locked(executable), End::Killed(libc::SIGSYS));
}

#[test]
fn memory_beyond_the_limit_is_not_given() {
    let allocate = || Vec::<u8>::new().try_reserve_exact(600 << 20).is_ok().to_string();
    assert_eq!(in_child(allocate), End::said("true"));
    assert_eq!(locked(allocate), End::said("false"));
}

#[test]
fn cpu_time_beyond_the_limit_kills() {
    let end = in_child(|| {
        lock_down(LockDown { cpu_seconds_max: 1, ..LIMITS }).unwrap();
        let mut count = 0_u64;
        while count < u64::MAX {
            count = std::hint::black_box(count + 1);
        }
        count.to_string()
    });
    assert!(matches!(end, End::Killed(libc::SIGKILL | libc::SIGXCPU)), "{end:?}");
}

#[test]
fn root_as_target_and_an_unprivileged_start_are_errors() {
    let end = in_child(|| lock_down(LockDown { uid: 0, ..LIMITS }).unwrap_err().to_string());
    assert_eq!(end, End::said("uid and gid to lock down to is 0:65533, not not 0"));
    let end = in_child(|| {
        lock_down(LIMITS).unwrap();
        lock_down(LIMITS).map_or_else(|error| error.to_string(), |()| "again".to_owned())
    });
    assert_eq!(end, End::Killed(libc::SIGSYS), "a second time is no longer possible");
    let end = in_child(|| {
        nix::unistd::setresuid(1000.into(), 1000.into(), 1000.into()).unwrap();
        lock_down(LIMITS).map_or_else(|error| error.to_string(), |()| "locked".to_owned())
    });
    assert!(matches!(&end, End::Returned(said) if said != "locked"), "{end:?}");
}

#[test]
fn kernel_says_that_nothing_is_left() {
    let end = in_child(|| {
        // Not File::read_to_string, which would statx(2).
        let mut status = File::open("/proc/self/status").unwrap().take(16 * 1024);
        let started = Instant::now();
        lock_down(LIMITS).unwrap();
        let took = started.elapsed();
        let mut text = String::new();
        status.read_to_string(&mut text).unwrap();
        format!("{text}Took:\t{took:?}\n")
    });
    let End::Returned(text) = end else { panic!("{end:?}") };
    for line in
        ["Uid:\t65533\t65533\t65533\t65533", "Groups:\t \n", "CapBnd:\t0000000000000000", "Seccomp:\t2"]
    {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    println!("{}", text.lines().last().unwrap_or_default());
}
