//! Messages on a reply socket: a tag byte, then text. What a confined process sends is written by write(2)
//! alone, which every profile allows.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, sendmsg, setsockopt, sockopt,
    },
};

use crate::{
    LaunchError,
    stdio::{KEPT_FDS_MAX, Kept},
};

/// Longest message, in bytes; longer texts are cut.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Most descriptors of one message.
const FDS_MAX: usize = 1 + bulkhead_confine::PINS_MAX;
const _: () = assert!(FDS_MAX >= KEPT_FDS_MAX);

/// What the confined process sends when it has confined itself.
pub(crate) const CONFINED: &[u8] = b"C";

/// What it sends before, where denied calls are told, with the listener; by sendmsg(2), which is allowed until then.
pub(crate) const LISTENER: &[u8] = b"L";

/// What the server answers.
pub(crate) const GO: &[u8] = b"g";

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    /// The container's process is ready to confine itself; its pidfd, and what must stay open while it lives.
    Prepared(OwnedFd, Vec<OwnedFd>),
    /// The worker is done; the process's pid, and what the server keeps of its streams.
    Created { pid: u32, kept: Kept },
    /// Where calls that the process is denied can be received.
    Listener(OwnedFd),
    /// The process has confined itself and waits for go.
    Confined,
    /// Something failed.
    Failed { errno: Option<i32>, message: String },
}

/// A message and the pid that the kernel says sent it, as this process's pid namespace numbers it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) sender: u32,
}

/// Asks the kernel to attach the sender's pid to every message that arrives here.
pub(crate) fn ask_for_credentials(socket: &OwnedFd) -> Result<(), LaunchError> {
    setsockopt(socket, sockopt::PassCred, &true).map_err(LaunchError::io("setsockopt(2)", "SO_PASSCRED"))
}

/// Text of a failure, ready to be sent.
pub(crate) fn failed(errno: Option<i32>, message: &str) -> Vec<u8> {
    let mut text = match errno {
        Some(errno) => format!("F{errno}:{message}"),
        None => format!("F:{message}"),
    }
    .into_bytes();
    text.truncate(MESSAGE_BYTES_MAX);
    text
}

/// Sends `text` with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), LaunchError> {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = if raw.is_empty() { Vec::new() } else { vec![ControlMessage::ScmRights(&raw)] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], &control, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(LaunchError::io("sendmsg(2)", "reply socket"))
}

/// What came from a socket that does not block.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Nothing yet.
    Nothing,
    /// Every other end is closed.
    End,
    /// This.
    Message(Received),
}

/// Takes one message, without waiting.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Arrival, LaunchError> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let mut control = cmsg_space!([std::os::fd::RawFd; FDS_MAX], UnixCredentials);
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, fds, sender) = match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(Arrival::Nothing),
        Err(nix::Error::ECONNRESET) => return Ok(Arrival::End),
        Err(error) => return Err(LaunchError::io("recvmsg(2)", "reply socket")(error)),
        Ok(received) => {
            let (mut fds, mut sender) = (Vec::new(), None);
            for message in received.cmsgs().map_err(LaunchError::io("recvmsg(2)", "control data"))? {
                match message {
                    ControlMessageOwned::ScmRights(raw) => {
                        fds.extend(raw.into_iter().map(crate::sys::adopt));
                    }
                    ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials.pid()),
                    _ => {}
                }
            }
            (received.bytes, fds, sender)
        }
    };
    if length == 0 {
        return Ok(Arrival::End);
    }
    let sender = sender.filter(|pid| *pid > 0).ok_or(LaunchError::Protocol("no sender"))? as u32;
    let message = parse(&buffer[..length], fds)?;
    Ok(Arrival::Message(Received { message, sender }))
}

fn parse(bytes: &[u8], mut fds: Vec<OwnedFd>) -> Result<Message, LaunchError> {
    let (tag, rest) = bytes.split_first().ok_or(LaunchError::Protocol("empty"))?;
    let text = String::from_utf8_lossy(rest);
    match (tag, fds.len()) {
        (b'P', 1..) => {
            let pins = fds.split_off(1);
            Ok(Message::Prepared(fds.remove(0), pins))
        }
        (b'D', _) => {
            let (pid, letters) = text.split_once(' ').ok_or(LaunchError::Protocol("pid without letters"))?;
            let pid = pid.parse().map_err(|_| LaunchError::Protocol("pid is no number"))?;
            Ok(Message::Created { pid, kept: Kept::of(letters, fds)? })
        }
        (b'L', 1) => Ok(Message::Listener(fds.remove(0))),
        (b'C', 0) => Ok(Message::Confined),
        (b'F', 0) => {
            let (errno, message) =
                text.split_once(':').ok_or(LaunchError::Protocol("failure without text"))?;
            let errno = errno.parse().ok();
            Ok(Message::Failed { errno, message: message.to_owned() })
        }
        _ => Err(LaunchError::Protocol("unknown tag")),
    }
}

/// What a new zygote says first: only who sends it counts.
pub(crate) const HELLO: &[u8] = CONFINED;

/// What the server sends to a zygote, and its descriptors; None when the server is gone.
pub(crate) fn receive_job(socket: BorrowedFd<'_>) -> Result<Option<(u8, Vec<OwnedFd>)>, LaunchError> {
    let mut byte = [0; 1];
    let mut control = cmsg_space!([std::os::fd::RawFd; crate::wire::JOB_FDS_MAX]);
    let mut iov = [IoSliceMut::new(&mut byte)];
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(LaunchError::io("recvmsg(2)", "server")(error)),
            Ok(received) => break received,
        }
    };
    let mut fds = Vec::new();
    for message in received.cmsgs().map_err(LaunchError::io("recvmsg(2)", "control data"))? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            fds.extend(raw.into_iter().map(crate::sys::adopt));
        }
    }
    let length = received.bytes;
    Ok((length > 0).then_some((byte[0], fds)))
}
