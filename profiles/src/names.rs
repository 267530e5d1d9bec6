//! Names and numbers of syscalls on this architecture.
//!
//! The table is the crate `syscalls`' (generated from the kernel's own tables), sorted at build time.

use crate::baseline::{NAMES, NAMES_ELSEWHERE};

/// The number of `name` on this architecture.
#[must_use]
pub fn syscall_number(name: &str) -> Option<u32> {
    NAMES.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| NAMES[at].1)
}

/// The name of `number` on this architecture.
#[must_use]
pub fn syscall_name(number: u32) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// Whether `name` is a syscall of another architecture only, so that a rule about it has no effect here.
#[must_use]
pub fn is_elsewhere(name: &str) -> bool {
    NAMES_ELSEWHERE.binary_search(&name).is_ok()
}

/// One more than the greatest number of this architecture that we know.
pub(crate) fn numbers_end() -> u32 {
    NAMES.iter().map(|(_, number)| number + 1).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_libc_and_names_come_back() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
            ("mseal", libc::SYS_mseal),
        ] {
            let found = syscall_number(name);
            assert_eq!(found.map(i64::from), Some(number), "{name}");
            assert_eq!(syscall_name(found.unwrap_or(u32::MAX)), Some(name));
        }
    }

    #[test]
    fn names_of_no_kernel_and_of_other_kernels_have_no_number() {
        assert_eq!(syscall_number("nosuchcall"), None);
        assert!(!is_elsewhere("nosuchcall"));
        assert_eq!(syscall_number("chown32"), None);
        assert!(is_elsewhere("chown32"));
        assert!(!is_elsewhere("read"));
    }
}
