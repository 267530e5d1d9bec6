//! Arguments whose values a generated profile names: few calls, of each what decides which code of the kernel runs.
//!
//! Not here: arguments that the baseline has said all of (personality, the namespaces of clone and unshare, families that it
//! denies to everybody come before these), pointers, sizes and descriptors, and calls that are made so often that a
//! comparison would cost more than it brings (futex, epoll_ctl, sendto).

/// Most values of one argument; of one with more all are allowed.
pub const VALUES_MAX: usize = 32;

/// An argument of which a profile says the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrowing {
    /// The call.
    pub syscall: &'static str,
    /// The argument, from 0.
    pub arg: u8,
    /// Bits of its lower half that are compared. What the kernel does not read, or what decides nothing, is not.
    pub mask: u32,
    /// What a call with another value gets: what a kernel without it would answer.
    pub errno: u16,
    /// The name of that errno.
    pub errno_name: &'static str,
    /// What it decides.
    pub what: &'static str,
}

const EPERM: (u16, &str) = (1, "EPERM");
const EACCES: (u16, &str) = (13, "EACCES");
const EINVAL: (u16, &str) = (22, "EINVAL");
const ENOTTY: (u16, &str) = (25, "ENOTTY");
const ENOPROTOOPT: (u16, &str) = (92, "ENOPROTOOPT");
const EPROTONOSUPPORT: (u16, &str) = (93, "EPROTONOSUPPORT");
const ESOCKTNOSUPPORT: (u16, &str) = (94, "ESOCKTNOSUPPORT");
const EAFNOSUPPORT: (u16, &str) = (97, "EAFNOSUPPORT");

/// All of an int, which is what the kernel reads of these registers, whatever their upper half has.
const INT: u32 = u32::MAX;
/// `SOCK_TYPE_MASK`: besides it are SOCK_CLOEXEC and SOCK_NONBLOCK, which choose no code. Source: include/linux/net.h.
const SOCKET_TYPE: u32 = 0xf;
/// `PROT_EXEC`. The kernel reads a long here, and of it this bit. Source: include/uapi/asm-generic/mman-common.h.
const EXECUTABLE: u32 = 4;

/// `SHM_EXEC`. Source: include/uapi/linux/shm.h.
const SHARED_EXECUTABLE: u32 = 0o100_000;

const fn of(
    syscall: &'static str,
    arg: u8,
    mask: u32,
    errno: (u16, &'static str),
    what: &'static str,
) -> Narrowing {
    Narrowing { syscall, arg, mask, errno: errno.0, errno_name: errno.1, what }
}

/// Source: SYSCALL_DEFINE of each call, Linux 6.12: every one of these arguments is an `int` or `unsigned int`, but for
/// `prot` of mmap, mprotect and pkey_mprotect and the flags of clone (`unsigned long`, of which it takes the lower half).
/// Errnos: what the call's page of section 2 says of a value that this kernel does not have. A change of a mask raises
/// `ARGUMENTS_VERSION` of bulkhead-model, and any change GENERATOR: what is kept was read with the old table.
const NARROWINGS: &[Narrowing] = &[
    of("socket", 0, INT, EAFNOSUPPORT, "the family: which protocols' code can be reached at all"),
    of("socket", 1, SOCKET_TYPE, ESOCKTNOSUPPORT, "the type: stream, datagram, raw"),
    of("socket", 2, INT, EPROTONOSUPPORT, "the protocol, of netlink the subsystem"),
    of("socketpair", 0, INT, EAFNOSUPPORT, "the family"),
    of("socketpair", 1, SOCKET_TYPE, ESOCKTNOSUPPORT, "the type"),
    of("setsockopt", 1, INT, ENOPROTOOPT, "the protocol that reads the option"),
    of("setsockopt", 2, INT, ENOPROTOOPT, "the option: a row of holes is behind rare ones"),
    of("getsockopt", 1, INT, ENOPROTOOPT, "the protocol that reads the option"),
    of("getsockopt", 2, INT, ENOPROTOOPT, "the option"),
    of("ioctl", 1, INT, ENOTTY, "the request: each is a call of its own, of whichever driver"),
    of("fcntl", 1, INT, EINVAL, "the command: leases, directory notification, sizes of pipes"),
    of("prctl", 0, INT, EINVAL, "the option: each is a call of its own"),
    of("arch_prctl", 0, INT, EINVAL, "the option: each is a call of its own"),
    of(
        "madvise",
        2,
        INT,
        EINVAL,
        "the advice: each is a call of its own, of the memory's code (CVE-2012-3511)",
    ),
    of("shmctl", 1, INT, EINVAL, "the command (CVE-2010-4072)"),
    of("semctl", 2, INT, EINVAL, "the command (CVE-2010-4083)"),
    of("msgctl", 1, INT, EINVAL, "the command"),
    of("clone", 0, INT, EINVAL, "the flags: what a child shares, and the signal of its end"),
    of("mmap", 2, EXECUTABLE, EPERM, "PROT_EXEC: whether code can be brought along"),
    of("mprotect", 2, EXECUTABLE, EACCES, "PROT_EXEC: whether what was written can be executed"),
    of("pkey_mprotect", 2, EXECUTABLE, EACCES, "PROT_EXEC: whether what was written can be executed"),
    of("shmat", 2, SHARED_EXECUTABLE, EACCES, "SHM_EXEC: whether what was written can be executed"),
];

/// All arguments of which a profile says the values.
#[must_use]
pub fn narrowings() -> &'static [Narrowing] {
    NARROWINGS
}

/// That argument of that call, if a profile says its values.
#[must_use]
pub fn narrowing(syscall: &str, arg: u8) -> Option<&'static Narrowing> {
    NARROWINGS.iter().find(|known| known.syscall == syscall && known.arg == arg)
}
