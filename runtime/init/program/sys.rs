//! System calls of Linux on x86_64, and the way in: everything unsafe of this program.
//!
//! Source of numbers and constants: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/.

use core::{arch::asm, arch::global_asm, ptr};

pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGTTIN: i32 = 21;
pub(crate) const SIGTTOU: i32 = 22;
pub(crate) const ENOENT: i32 = 2;

const WRITE: usize = 1;
const RT_SIGACTION: usize = 13;
const RT_SIGPROCMASK: usize = 14;
const IOCTL: usize = 16;
const GETPID: usize = 39;
const CLONE: usize = 56;
const EXECVE: usize = 59;
const WAIT4: usize = 61;
const KILL: usize = 62;
const SETPGID: usize = 109;
const RT_SIGTIMEDWAIT: usize = 128;
const PRCTL: usize = 157;
const EXIT_GROUP: usize = 231;

const PR_SET_CHILD_SUBREAPER: usize = 36;
const TIOCSPGRP: usize = 0x5410;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const STDIN: usize = 0;
const STDERR: usize = 2;

// The kernel starts a process with its arguments at the stack pointer, which is to be a multiple of 16 at a call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

/// `stack` is what the kernel left: the number of arguments, their addresses, 0, those of the environment, 0.
///
/// Source: System V ABI for AMD64, "Initial Process Stack".
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `_start` hands over the stack pointer as the kernel set it: a count of argc, then argc addresses and a null,
    // then the environment's addresses and a null, all readable and unchanged as long as this process runs this program.
    let (argv, envp) = unsafe {
        let argv = stack.add(1);
        (Strings(argv.cast()), Strings(argv.add(*stack + 1).cast()))
    };
    exit(crate::run(argv, envp))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(crate::BROKEN)
}

/// Addresses of strings, ended by a null.
#[derive(Clone, Copy)]
pub(crate) struct Strings(*const *const u8);

/// A string of the kernel's, ended by a zero byte.
#[derive(Clone, Copy)]
pub(crate) struct Text(*const u8);

impl Strings {
    pub(crate) fn first(self) -> Option<Text> {
        // SAFETY: a `Strings` points at an address or at the null that ends the list: `start` and `after_first` see to it.
        let first = unsafe { *self.0 };
        (!first.is_null()).then_some(Text(first))
    }

    /// The rest; of an empty list itself.
    pub(crate) fn after_first(self) -> Self {
        match self.first() {
            // SAFETY: what is here is no null, so the list goes on.
            Some(_) => Self(unsafe { self.0.add(1) }),
            None => self,
        }
    }
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        let mut length = 0;
        // SAFETY: the kernel copied the string with the zero byte at its end; nobody writes to it.
        unsafe {
            while *self.0.add(length) != 0 {
                length += 1;
            }
            core::slice::from_raw_parts(self.0, length)
        }
    }
}

/// An error of a system call.
#[derive(Clone, Copy)]
pub(crate) struct Errno(pub(crate) i32);

/// A set of signals, bit N-1 for signal N.
pub(crate) struct Signals(u64);

impl Signals {
    pub(crate) fn all() -> Self {
        Self(u64::MAX)
    }
}

/// The kernel's `struct sigaction`.
///
/// Source: arch/x86/include/uapi/asm/signal.h.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// A number in decimal.
pub(crate) struct Decimal {
    digits: [u8; 10],
    from: usize,
}

impl Decimal {
    pub(crate) fn text(&self) -> &[u8] {
        self.digits.get(self.from..).unwrap_or_default()
    }
}

pub(crate) fn decimal(number: i32) -> Decimal {
    let mut text = Decimal { digits: [b'0'; 10], from: 10 };
    let mut rest = number.unsigned_abs();
    for digit in text.digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        text.from -= 1;
        if rest == 0 {
            break;
        }
    }
    text
}

/// Says something on standard error. Whether anybody hears it changes nothing.
pub(crate) fn say(parts: &[&[u8]]) {
    for part in parts {
        // SAFETY: write(2) reads `len` bytes at `part`, which are there.
        unsafe { call(WRITE, [STDERR, part.as_ptr() as usize, part.len(), 0]) };
    }
}

pub(crate) fn own_pid() -> i32 {
    // SAFETY: getpid(2) takes nothing and cannot fail.
    unsafe { call(GETPID, [0; 4]) as i32 }
}

/// Children of children become this process's.
pub(crate) fn take_orphans() {
    // SAFETY: this option of prctl(2) takes integers.
    unsafe { call(PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0]) };
}

/// The default action for `signal`.
pub(crate) fn default_action(signal: i32) {
    let default = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: rt_sigaction(2) reads one struct of the kernel's layout; the set has 8 bytes.
    unsafe { call(RT_SIGACTION, [signal as usize, ptr::from_ref(&default) as usize, 0, size_of::<u64>()]) };
}

/// Blocks all signals, and says which were before.
pub(crate) fn block_all() -> Signals {
    let mut before = Signals(0);
    mask(&Signals::all(), ptr::from_mut(&mut before.0) as usize);
    before
}

pub(crate) fn restore(signals: &Signals) {
    mask(signals, 0);
}

fn mask(signals: &Signals, before: usize) {
    // SAFETY: rt_sigprocmask(2) reads 8 bytes, and writes 8 where `before` is no null: then it is a set of the caller's.
    unsafe {
        call(RT_SIGPROCMASK, [SIG_SETMASK, ptr::from_ref(&signals.0) as usize, before, size_of::<u64>()])
    };
}

/// The next signal of these; None where waiting was interrupted.
pub(crate) fn next_signal(signals: &Signals) -> Option<i32> {
    // SAFETY: rt_sigtimedwait(2) reads 8 bytes; no information and no time is asked for.
    let signal =
        unsafe { call(RT_SIGTIMEDWAIT, [ptr::from_ref(&signals.0) as usize, 0, 0, size_of::<u64>()]) };
    (signal > 0).then_some(signal as i32)
}

/// Another process like this one: its pid, or None in it.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: without CLONE_VM the child has its own copy of all memory, this stack included; there are no threads.
    match unsafe { call(CLONE, [SIGCHLD as usize, 0, 0, 0]) } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid as i32)),
        error => Err(Errno(-error as i32)),
    }
}

/// A process group of its own, and in front where standard input is the terminal: what is typed there is for the program.
/// SIGTTOU, which the kernel sends to whoever does that from behind, is blocked by then.
pub(crate) fn own_group_in_front() {
    let group = own_pid();
    // SAFETY: setpgid(2) takes integers; TIOCSPGRP reads one int, which is there. Where there is no terminal it fails.
    unsafe {
        call(SETPGID, [0, 0, 0, 0]);
        call(IOCTL, [STDIN, TIOCSPGRP, ptr::from_ref(&group) as usize, 0]);
    }
}

/// Comes back on failure alone.
pub(crate) fn execve(path: Text, argv: Strings, envp: Strings) -> Errno {
    // SAFETY: a string with its zero byte, and two lists with their nulls, as the kernel laid them out.
    Errno(-unsafe { call(EXECVE, [path.0 as usize, argv.0 as usize, envp.0 as usize, 0]) } as i32)
}

/// A child that has ended, and how; None where there is none.
pub(crate) fn ended_child() -> Option<(i32, i32)> {
    let mut status = 0_i32;
    // SAFETY: wait4(2) writes one int, which is there; it is asked for no resource usage.
    let pid = unsafe { call(WAIT4, [usize::MAX, ptr::from_mut(&mut status) as usize, WNOHANG, 0]) };
    (pid > 0).then_some((pid as i32, status))
}

/// Sends a signal; a process that is gone needs none.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes integers.
    unsafe { call(KILL, [pid as usize, signal as usize, 0, 0]) };
}

fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group(2) takes an integer and does not come back.
        unsafe { call(EXIT_GROUP, [status as usize, 0, 0, 0]) };
    }
}

/// # Safety
/// Whatever the call reads or writes by these arguments must be there for it. clone(2) must not share this memory.
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let answer: isize;
    // SAFETY: the registers are those of the kernel's convention for x86_64: it changes rax, rcx and r11 alone, and the
    // memory that the caller answers for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
