//! FIFOs of containerd, handed straight to a process: no copy, no thread.
//!
//! ```text
//! containerd ──writes──► stdin FIFO ──────► process      keeper: both ends, until CloseIO or exit
//! containerd ◄──reads─── stdout FIFO ◄───── process      keeper: both ends, until exit
//! ```
//! The keeper holds both ends so that a restart of containerd neither ends the process's input nor kills it by
//! SIGPIPE. It is let go at exit, and the reader sees the end.
//!
//! Invariant: only FIFOs; an address of another kind (`binary://`, `file://`) is refused by name.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt, fchown},
    },
};

use super::{TaskError, process::StdioPaths};

/// The ends of one process. The process's own ends are closed here once it has them.
#[derive(Default)]
pub(crate) struct Streams {
    stdin: Option<Fifo>,
    stdout: Option<Fifo>,
    stderr: Option<Fifo>,
}

struct Fifo {
    /// Both ends, held and never used.
    _keeper: File,
    /// The process's end.
    end: Option<File>,
}

/// Which end the process gets.
#[derive(Clone, Copy)]
enum End {
    Read,
    Write,
}

impl Streams {
    /// Opens what `paths` names, and gives it to `uid` and `gid` so that the process can open `/dev/stdout`.
    pub(crate) fn open(paths: &StdioPaths, uid: u32, gid: u32) -> Result<Self, TaskError> {
        let open = |path: &str, end| match path {
            "" => Ok(None),
            path => Fifo::open(path, end, uid, gid).map(Some),
        };
        Ok(Self {
            stdin: open(&paths.stdin, End::Read)?,
            stdout: open(&paths.stdout, End::Write)?,
            // A terminal has one output.
            stderr: if paths.terminal { None } else { open(&paths.stderr, End::Write)? },
        })
    }

    /// The process's ends: standard input, output, error.
    pub(crate) fn ends(&self) -> [Option<BorrowedFd<'_>>; 3] {
        [&self.stdin, &self.stdout, &self.stderr]
            .map(|fifo| fifo.as_ref().and_then(|fifo| fifo.end.as_ref()).map(AsFd::as_fd))
    }

    /// Takes the ends of input and output, for a terminal's copy.
    pub(crate) fn take_ends(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        let take =
            |fifo: &mut Option<Fifo>| fifo.as_mut().and_then(|fifo| fifo.end.take()).map(OwnedFd::from);
        (take(&mut self.stdin), take(&mut self.stdout))
    }

    /// Closes the ends that the process has by now.
    pub(crate) fn close_ends(&mut self) {
        for fifo in [&mut self.stdin, &mut self.stdout, &mut self.stderr].into_iter().flatten() {
            fifo.end = None;
        }
    }

    /// Lets go of the input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

impl Fifo {
    fn open(path: &str, end: End, uid: u32, gid: u32) -> Result<Self, TaskError> {
        if let Some((scheme, _)) = path.split_once("://") {
            return Err(TaskError::Unimplemented(format!("stdio of the kind {scheme}://")));
        }
        let wrong = |error: io::Error| match error.kind() {
            // The server's own Landlock ruleset says so.
            io::ErrorKind::PermissionDenied => TaskError::FailedPrecondition(format!(
                "open(2) {path}: {error}; FIFOs are taken from below /run/containerd/fifo, /run/docker/containerd, \
                 /tmp and containerd's state directory"
            )),
            _ => TaskError::Internal(format!("open(2) {path}: {error}")),
        };
        let mut options = OpenOptions::new();
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let keeper = options.read(true).write(true).open(path).map_err(wrong)?;
        if !keeper.metadata().map_err(wrong)?.file_type().is_fifo() {
            return Err(TaskError::InvalidArgument(format!("{path} is no FIFO")));
        }
        fchown(&keeper, Some(uid), Some(gid))
            .map_err(|error| TaskError::Internal(format!("fchown(2) {path}: {error}")))?;
        // The other end is there (the keeper's), so this does not wait; and the process gets a description of its
        // own: its flags are not ours.
        let mut options = OpenOptions::new();
        options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let end = match end {
            End::Read => options.read(true).open(path),
            End::Write => options.write(true).open(path),
        };
        Ok(Self { _keeper: keeper, end: Some(end.map_err(wrong)?) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};

    fn paths(dir: &std::path::Path) -> StdioPaths {
        let fifo = |name: &str| {
            let path = dir.join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            path.display().to_string()
        };
        StdioPaths { stdin: fifo("in"), stdout: fifo("out"), stderr: String::new(), terminal: false }
    }

    fn write_to(end: BorrowedFd<'_>, text: &[u8]) {
        File::from(end.try_clone_to_owned().unwrap()).write_all(text).unwrap();
    }

    #[test]
    fn output_is_read_to_its_end_once_the_streams_are_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let me = nix::unistd::getuid().as_raw();
        let mut streams = Streams::open(&paths, me, me).unwrap();
        let mut reader = File::open(&paths.stdout).unwrap();
        write_to(streams.ends()[1].unwrap(), b"text");
        streams.close_ends();
        drop(streams);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "text");
    }

    #[test]
    fn writer_survives_a_reader_that_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let me = nix::unistd::getuid().as_raw();
        let streams = Streams::open(&paths, me, me).unwrap();
        drop(File::open(&paths.stdout).unwrap());
        write_to(streams.ends()[1].unwrap(), b"text");
    }

    #[test]
    fn input_ends_only_after_close_io() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let me = nix::unistd::getuid().as_raw();
        let mut streams = Streams::open(&paths, me, me).unwrap();
        drop(OpenOptions::new().write(true).open(&paths.stdin).unwrap());
        let (end, _) = streams.take_ends();
        let mut end = File::from(end.unwrap());
        nix::fcntl::fcntl(&end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        assert_eq!(end.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        streams.close_stdin();
        assert_eq!(end.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn loggers_and_plain_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for scheme in ["binary", "file"] {
            let paths = StdioPaths { stdout: format!("{scheme}:///bin/logger"), ..StdioPaths::default() };
            let error = Streams::open(&paths, 0, 0).err().unwrap();
            assert!(matches!(&error, TaskError::Unimplemented(what) if what.contains(scheme)), "{error}");
        }
        let file = dir.path().join("plain");
        std::fs::write(&file, "").unwrap();
        let paths = StdioPaths { stdout: file.display().to_string(), ..StdioPaths::default() };
        assert!(matches!(Streams::open(&paths, 0, 0), Err(TaskError::InvalidArgument(_))));
    }
}
