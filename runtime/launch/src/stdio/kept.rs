//! What the server keeps of a process's streams, and how it crosses the reply socket: a letter for each descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::log::LogProcess;
use crate::LaunchError;

/// Descriptors that a worker hands to the server.
#[derive(Debug, Default)]
pub struct Kept {
    /// The master of the process's terminal.
    pub terminal: Option<OwnedFd>,
    /// Of standard input.
    pub stdin: Ends,
    /// Of standard output.
    pub stdout: Ends,
    /// Of standard error.
    pub stderr: Ends,
    /// Who writes its output down.
    pub log: Option<LogProcess>,
}

/// The ends of one stream. Of a FIFO both are held so that neither side sees the other one vanish.
#[derive(Debug, Default)]
pub struct Ends {
    /// To read from.
    pub reader: Option<OwnedFd>,
    /// To write to.
    pub writer: Option<OwnedFd>,
}

/// Most descriptors of one answer.
pub(crate) const KEPT_FDS_MAX: usize = 8;

impl Kept {
    /// The letters and the descriptors, in one order.
    pub(crate) fn letters(&self) -> (String, Vec<BorrowedFd<'_>>) {
        let Self { terminal, stdin, stdout, stderr, log } = self;
        [
            ('t', terminal.as_ref().map(AsFd::as_fd)),
            ('a', stdin.reader.as_ref().map(AsFd::as_fd)),
            ('b', stdin.writer.as_ref().map(AsFd::as_fd)),
            ('c', stdout.reader.as_ref().map(AsFd::as_fd)),
            ('d', stdout.writer.as_ref().map(AsFd::as_fd)),
            ('e', stderr.reader.as_ref().map(AsFd::as_fd)),
            ('f', stderr.writer.as_ref().map(AsFd::as_fd)),
            ('l', log.as_ref().map(AsFd::as_fd)),
        ]
        .into_iter()
        .filter_map(|(letter, fd)| fd.map(|fd| (letter, fd)))
        .unzip()
    }

    /// The same, read back.
    pub(crate) fn of(letters: &str, fds: Vec<OwnedFd>) -> Result<Self, LaunchError> {
        if letters.len() != fds.len() {
            return Err(LaunchError::Protocol("letters and descriptors do not agree"));
        }
        let mut kept = Self::default();
        for (letter, fd) in letters.chars().zip(fds) {
            let place = match letter {
                't' => &mut kept.terminal,
                'a' => &mut kept.stdin.reader,
                'b' => &mut kept.stdin.writer,
                'c' => &mut kept.stdout.reader,
                'd' => &mut kept.stdout.writer,
                'e' => &mut kept.stderr.reader,
                'f' => &mut kept.stderr.writer,
                'l' => {
                    kept.log = Some(LogProcess::new(fd));
                    continue;
                }
                _ => return Err(LaunchError::Protocol("unknown descriptor")),
            };
            *place = Some(fd);
        }
        Ok(kept)
    }

    /// The server has them now: they are no more this process's to look after.
    pub(crate) fn handed_over(self) {
        if let Some(log) = self.log {
            log.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn descriptors_come_back_where_they_were() {
        let (reader, writer) = std::io::pipe().unwrap();
        let kept = Kept {
            stdin: Ends { reader: None, writer: Some(writer.into()) },
            stderr: Ends { reader: Some(reader.into()), writer: None },
            ..Kept::default()
        };
        let (letters, fds) = kept.letters();
        assert_eq!(letters, "be");
        let fds = fds.into_iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        let back = Kept::of(&letters, fds).unwrap();
        assert!(back.stdin.writer.is_some() && back.stderr.reader.is_some());
        assert!(back.terminal.is_none() && back.stdout.writer.is_none());
    }

    #[test]
    fn letters_without_descriptors_are_refused() {
        assert!(Kept::of("ab", Vec::new()).is_err());
        let (reader, _) = std::io::pipe().unwrap();
        assert!(Kept::of("z", vec![reader.into()]).is_err());
    }
}
