//! FIFOs of containerd, handed straight to a process: no copy, no thread.
//!
//! Invariant: what is opened is what was looked at: the ends are opened through the first descriptor, not by name.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use nix::unistd::{Gid, Uid, fchown};

use super::Ends;
use crate::LaunchError;

/// A FIFO that is open at both ends, so that no other open of it waits.
pub(super) struct Fifo {
    both: File,
    shown: String,
}

impl Fifo {
    /// Opens it.
    pub(super) fn open(path: &Path) -> Result<Self, LaunchError> {
        let shown = path.display().to_string();
        let both = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)
            .map_err(LaunchError::io("open(2)", shown.clone()))?;
        let kind = both.metadata().map_err(LaunchError::io("fstat(2)", shown.clone()))?.file_type();
        if !kind.is_fifo() {
            return Err(LaunchError::Failed(format!("{shown} is no FIFO")));
        }
        Ok(Self { both, shown })
    }

    /// Gives it to a user whose process has it: so that this can open `/dev/stdout`.
    pub(super) fn give(&self, uid: u32, gid: u32) -> Result<(), LaunchError> {
        fchown(&self.both, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(LaunchError::io("fchown(2)", self.shown.clone()))
    }

    /// Both kinds of ends, so that no side sees the other one vanish.
    pub(super) fn ends(&self) -> Result<Ends, LaunchError> {
        Ok(Ends { reader: Some(self.reader()?), writer: Some(self.writer()?) })
    }

    /// An end to read from, with a description (and so flags) of its own.
    pub(super) fn reader(&self) -> Result<OwnedFd, LaunchError> {
        self.end(OpenOptions::new().read(true))
    }

    /// An end to write to.
    pub(super) fn writer(&self) -> Result<OwnedFd, LaunchError> {
        self.end(OpenOptions::new().write(true))
    }

    fn end(&self, options: &OpenOptions) -> Result<OwnedFd, LaunchError> {
        options
            .open(format!("/proc/self/fd/{}", self.both.as_raw_fd()))
            .map(OwnedFd::from)
            .map_err(LaunchError::io("open(2)", self.shown.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        fs,
        io::{Read as _, Write as _},
    };

    fn fifo(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn ends_are_opened_without_waiting_and_lead_to_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = Fifo::open(&fifo(dir.path())).unwrap();
        let (mut reader, mut writer) =
            (File::from(fifo.reader().unwrap()), File::from(fifo.writer().unwrap()));
        writer.write_all(b"text").unwrap();
        drop((writer, fifo));
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "text");
    }

    #[test]
    fn plain_file_and_link_are_no_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let error = Fifo::open(&plain).err().unwrap();
        assert!(error.to_string().contains("is no FIFO"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(fifo(dir.path()), &link).unwrap();
        assert!(Fifo::open(&link).is_err());
    }
}
