//! SELinux labels, which libcontainer leaves out: of a process at its execve(2), and of its session keyring.
//!
//! Written through the node's own /proc, opened before the container was entered: what the container has mounted on its
//! /proc may be a file that only looks like it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
};

use nix::fcntl::{OFlag, OpenHow, openat2};

/// The context that the next execve(2) of this thread gives it; read back.
///
/// Source: `SetExecLabel`, opencontainers/selinux go-selinux.
pub(crate) fn at_execve(proc: &OwnedFd, label: &str) -> Result<(), String> {
    set(proc, "thread-self/attr/exec", label)
}

/// The context that keyrings get which this thread makes; none: the default.
///
/// Source: `SetKeyLabel`, opencontainers/selinux go-selinux.
pub(crate) fn of_keyrings(proc: &OwnedFd, label: &str) -> Result<(), String> {
    set(proc, "thread-self/attr/keycreate", label)
}

fn set(proc: &OwnedFd, name: &str, label: &str) -> Result<(), String> {
    let open = |flags| {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC);
        openat2(proc, name, how).map(File::from).map_err(|error| format!("open(2) /proc/{name}: {error}"))
    };
    open(OFlag::O_WRONLY)?
        .write_all(label.as_bytes())
        .map_err(|error| format!("write(2) {label:?} to /proc/{name}: {error}"))?;
    let mut found = String::new();
    open(OFlag::O_RDONLY)?
        .read_to_string(&mut found)
        .map_err(|error| format!("read(2) /proc/{name}: {error}"))?;
    match found.trim_end_matches(['\0', '\n']) {
        found if found == label => Ok(()),
        found => Err(format!("/proc/{name} is {found:?}, not {label:?}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    /// A directory that stands for /proc.
    fn proc() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("thread-self/attr")).unwrap();
        for name in ["exec", "keycreate"] {
            fs::write(dir.path().join("thread-self/attr").join(name), "").unwrap();
        }
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        (dir, fd)
    }

    #[test]
    fn labels_are_written_where_the_kernel_reads_them_and_read_back() {
        let (dir, proc) = proc();
        let label = "system_u:system_r:container_t:s0:c1,c2";
        at_execve(&proc, label).unwrap();
        of_keyrings(&proc, label).unwrap();
        for name in ["exec", "keycreate"] {
            assert_eq!(fs::read_to_string(dir.path().join("thread-self/attr").join(name)).unwrap(), label);
        }
    }

    #[test]
    fn label_that_the_kernel_does_not_take_or_keep_is_an_error() {
        let (dir, proc) = proc();
        fs::write(dir.path().join("thread-self/attr/exec"), "something that is longer than the label")
            .unwrap();
        assert!(at_execve(&proc, "a:b:c").unwrap_err().contains("is \"a:b:c"));
        fs::remove_file(dir.path().join("thread-self/attr/exec")).unwrap();
        assert!(at_execve(&proc, "a:b:c").unwrap_err().contains("open(2) /proc/thread-self/attr/exec"));
        // This machine's kernel: without SELinux the file of the real /proc takes no context.
        if !std::path::Path::new("/sys/fs/selinux/status").exists() {
            let real = OwnedFd::from(File::open("/proc").unwrap());
            assert!(at_execve(&real, "a:b:c").is_err());
        }
    }
}
