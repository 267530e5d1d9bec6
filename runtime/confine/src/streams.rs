//! The standard streams of a process, where they are FIFOs with a name on some file system (containerd's) or the host's
//! `/dev/null`.
//!
//! Such a file lies outside of the container's tree, so no rule reaches it, and to open `/dev/stdout` anew would fail
//! (nginx, httpd and many scripts do). Anonymous pipes and terminals need no rule here: the kernel asks none for the
//! former, `/dev/pts` has one for the latter.
//!
//! Invariant: a rule gives what the descriptor has already, on that one inode.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use landlock::{AccessFs, BitFlags};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        stat::{SFlag, fstat, makedev},
        statfs::{FsType, fstatfs},
    },
};

/// Source: `PIPEFS_MAGIC`, include/uapi/linux/magic.h.
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// The device that `/dev/null` is.
///
/// Source: Documentation/admin-guide/devices.txt.
const NULL: u64 = makedev(1, 3);

/// Each named FIFO and `/dev/null` among descriptors 0, 1 and 2, with the rights that it is open with.
pub(crate) fn named_fifos() -> io::Result<Vec<(OwnedFd, BitFlags<AccessFs>)>> {
    let mut found = Vec::new();
    for fd in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        if let Some(rights) = rights(fd)? {
            found.push((fd.try_clone_to_owned()?, rights));
        }
    }
    Ok(found)
}

fn rights(fd: impl AsFd) -> io::Result<Option<BitFlags<AccessFs>>> {
    let found = fstat(&fd)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    let named_fifo = kind == SFlag::S_IFIFO && fstatfs(&fd)?.filesystem_type() != PIPEFS_MAGIC;
    let null = kind == SFlag::S_IFCHR && found.st_rdev == NULL;
    if !named_fifo && !null {
        return Ok(None);
    }
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    Ok(Some(match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => AccessFs::ReadFile.into(),
        OFlag::O_WRONLY => AccessFs::WriteFile.into(),
        _ => AccessFs::ReadFile | AccessFs::WriteFile,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn named_fifo_gets_what_it_is_open_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(rights(&both).unwrap(), Some(AccessFs::ReadFile | AccessFs::WriteFile));
        let reader = OpenOptions::new().read(true).open(&path).unwrap();
        assert_eq!(rights(&reader).unwrap(), Some(AccessFs::ReadFile.into()));
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(rights(&writer).unwrap(), Some(AccessFs::WriteFile.into()));
    }

    #[test]
    fn null_gets_what_it_is_open_for_and_another_device_nothing() {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(rights(&null).unwrap(), Some(AccessFs::ReadFile | AccessFs::WriteFile));
        assert_eq!(rights(std::fs::File::open("/dev/zero").unwrap()).unwrap(), None);
    }

    #[test]
    fn pipe_file_and_directory_get_no_rule() {
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(rights(&reader).unwrap(), None);
        assert_eq!(rights(tempfile::tempfile().unwrap()).unwrap(), None);
        assert_eq!(rights(std::fs::File::open("/").unwrap()).unwrap(), None);
    }
}
