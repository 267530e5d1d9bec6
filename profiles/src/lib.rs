//! profile rows to a seccomp program and a Landlock ruleset; makes no syscall
