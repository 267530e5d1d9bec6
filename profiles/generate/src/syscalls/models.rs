//! Code whose number no analysis of values finds, told by its shape: each with what it can be, and where that is said.

use std::collections::VecDeque;

use bulkhead_profiles::syscall_number;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Instructions before a site that a model looks at.
pub(crate) const RECENT: usize = 5;

/// What a C library has all threads do: a change of ids, of which the number and three arguments lie in a
/// `struct xid_command`. Only these functions fill it, each with its own number: function and call.
///
/// Source: glibc nptl/nptl_setxid.c, `__nptl_setxid_sighandler` and `__nptl_setxid`; its callers are the INLINE_SETXID
/// calls of sysdeps/unix/sysv/linux/set*id.c and setgroups.c.
pub(crate) const SET_ID: &[(&str, &str)] = &[
    ("setuid", "setuid"),
    ("setgid", "setgid"),
    ("setreuid", "setreuid"),
    ("setregid", "setregid"),
    ("setresuid", "setresuid"),
    ("setresgid", "setresgid"),
    ("seteuid", "setresuid"),
    ("setegid", "setresgid"),
    ("setgroups", "setgroups"),
    ("initgroups", "setgroups"),
];

/// All numbers of [`SET_ID`], for a program whose functions have no names.
pub(crate) fn set_id_numbers() -> Vec<u64> {
    let numbers: std::collections::BTreeSet<u64> =
        SET_ID.iter().filter_map(|(_, call)| syscall_number(call)).map(u64::from).collect();
    numbers.into_iter().collect()
}

/// Go's runtime has every thread make a call whose number lies in memory. Only the second function writes it there, and
/// Go's linker leaves that one out where nobody calls it.
///
/// Source: Go runtime/os_linux.go, `runPerThreadSyscall` and `syscall_runtime_doAllThreadsSyscall`.
pub(crate) const PER_THREAD: (&str, &str) =
    ("runtime.runPerThreadSyscall", "syscall.runtime_doAllThreadsSyscall");

/// What a library passes to syscall(3) where only a table of its own functions says who is called: the library by the
/// beginning of its name, and all numbers that its source has.
///
/// Source: libcap libcap/cap_proc.c, `_cap_syscall3` and `_cap_syscall6` behind `struct syscaller_s`.
const WRAPPERS: &[(&str, &[&str])] =
    &[("libcap.so.2", &["capget", "capset", "prctl", "setuid", "setgid", "setgroups", "chroot", "execve"])];

/// The numbers that a file hands to syscall(3) where they could not be followed, if a model says so.
pub(crate) fn wrapped(soname: &str) -> Option<Vec<u64>> {
    let (_, names) = WRAPPERS.iter().find(|(library, _)| soname == *library)?;
    Some(names.iter().filter_map(|name| syscall_number(name)).map(u64::from).collect())
}

/// Whether the last instructions (the newest first, the site itself) load a number and three arguments from one place.
pub(crate) fn is_set_id(recent: &VecDeque<Instruction>) -> bool {
    let mut loads = recent.iter().skip(1).filter(|instruction| {
        instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
    });
    let Some(number) = loads.next().filter(|load| load.op0_register() == Register::EAX) else { return false };
    let base = number.memory_base();
    let at = number.memory_displacement64();
    let loaded = |register: Register, offset: u64| {
        recent.iter().any(|load| {
            load.op0_register() == register
                && load.memory_base() == base
                && load.memory_displacement64() == at.wrapping_add(offset)
        })
    };
    loaded(Register::RDI, 8) && loaded(Register::RSI, 16) && loaded(Register::RDX, 24)
}
