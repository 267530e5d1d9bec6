//! Which calls never come back: what follows them in the code does not run.

use std::collections::BTreeSet;

use super::{function::Callee, object::Object};

/// Functions of a C library that never come back, of which a program may have its own that do.
const UNRESERVED: &[&str] = &["err", "errx", "verr", "verrx"];

/// Functions of a C library that never come back.
const NEVER_RETURN: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "_Exit",
    "quick_exit",
    "__assert_fail",
    "__stack_chk_fail",
    "__fortify_fail",
    "__chk_fail",
    "__libc_fatal",
    "longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "_longjmp",
    "pthread_exit",
    "__cxa_throw",
    "__cxa_rethrow",
    "_Unwind_Resume",
    "err",
    "errx",
    "verr",
    "verrx",
    "__libc_start_main",
    "_ZSt9terminatev",
    "__assert_perror_fail",
    "__assert",
    "thrd_exit",
    "__cxa_bad_cast",
    "__cxa_call_unexpected",
];

/// What Go's functions call where their stack is too small, to begin again with the same arguments on a larger one: nothing is
/// known there that was not at the beginning.
///
/// Source: Go cmd/internal/obj/x86/obj6.go, `stacksplit`.
const GO_BEGINS_AGAIN: &str = "runtime.morestack";

impl Object<'_> {
    pub(super) fn imports_that_never_return(&self) -> BTreeSet<u32> {
        let is_own = |name: &str| self.exports.iter().any(|(export, _)| export == name);
        let never =
            |name: &str| NEVER_RETURN.contains(&name) && !(UNRESERVED.contains(&name) && is_own(name));
        (0u32..).zip(&self.imports).filter(|(_, name)| never(name)).map(|(at, _)| at).collect()
    }

    pub(crate) fn never_returns(&self, to: u64) -> bool {
        match self.callee(to) {
            Callee::Import(import) => self.never_returning.contains(&import),
            Callee::Address(to) => {
                self.no_way_out.contains(&to)
                    || self.names.get(&to).is_some_and(|name| {
                        NEVER_RETURN.contains(&name.as_str()) && !UNRESERVED.contains(&name.as_str())
                            || self.go && name.starts_with(GO_BEGINS_AGAIN)
                    })
            }
        }
    }
}
