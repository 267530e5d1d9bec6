//! The socket of a server: where it is, whose it is, when it may be removed.
//!
//! Invariant: a socket that answers is never removed; a new one is made by bind(2) alone, in a directory that
//! only root enters.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::FrontError;

/// How long the kernel may take to close what a killed server had open, and a server that lives to answer.
const DYING_MAX: Duration = Duration::from_secs(3);

/// Between two looks.
const DYING_PAUSE: Duration = Duration::from_millis(5);

/// What is at the address of a group.
pub(crate) enum Socket {
    /// A server that answers.
    Alive,
    /// Nothing was; it is bound now.
    Bound(UnixListener),
}

/// The address of the server of `group`, the same in every call for this containerd.
///
/// Source: `SocketAddress`, containerd pkg/shim/util_unix.go.
pub(crate) fn address(socket_dir: Option<&str>, grpc_address: &str, namespace: &str, group: &str) -> String {
    let name = containerd_shim::socket_address(grpc_address, namespace, group);
    match (socket_dir, name.rsplit('/').next()) {
        (Some(dir), Some(hash)) => format!("unix://{}/{hash}", dir.trim_end_matches('/')),
        _ => name,
    }
}

/// The path in an address.
pub(crate) fn path(address: &str) -> PathBuf {
    PathBuf::from(address.strip_prefix("unix://").unwrap_or(address))
}

/// Binds `address`, or finds the server that has it.
pub(crate) fn bind(address: &str) -> Result<Socket, FrontError> {
    let path = path(address);
    let wrong = |call| FrontError::io(call, path.display().to_string());
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(wrong("mkdir(2)"))?;
    }
    // A leftover of a server that was killed is removed once; who loses a race for it finds the winner alive.
    for _ in 0..2 {
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(&path);
        nix::sys::stat::umask(mask);
        match bound {
            Ok(listener) => return Ok(Socket::Bound(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !remove_if_dead(&path).map_err(wrong("unlink(2)"))? {
                    return Ok(Socket::Alive);
                }
            }
            Err(error) => return Err(wrong("bind(2)")(error)),
        }
    }
    Err(wrong("bind(2)")(io::Error::from(io::ErrorKind::AddrInUse)))
}

/// What is behind a socket's name.
enum Listener {
    /// Nobody, or not even the name.
    Gone,
    /// Someone, or a server that has been killed and whose descriptors the kernel is still closing.
    There(UnixStream),
}

/// Removes a socket that nobody listens on. Says whether it is gone.
fn remove_if_dead(path: &Path) -> io::Result<bool> {
    match listener(path)? {
        Listener::Gone => Ok(true),
        Listener::There(_) => Ok(false),
    }
}

/// The same, for when a server may have died a moment ago: the kernel closes its connections before its socket, and
/// `delete` is called as soon as the first is closed. Only an answer shows that it lives.
pub(super) fn remove_unless_answering(path: &Path) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match listener(path)? {
            Listener::Gone => return Ok(true),
            Listener::There(stream) if answers(&stream) => return Ok(false),
            Listener::There(_) if started.elapsed() > DYING_MAX => return Ok(false),
            Listener::There(_) => std::thread::sleep(DYING_PAUSE),
        }
    }
}

fn listener(path: &Path) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("is no socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listener::Gone),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Listener::There(stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Listener::Gone),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Listener::Gone),
        Err(error) => Err(error),
    }
}

/// Whether a request is answered, by whatever. A server that lives does so at once, and one that dies hangs up.
fn answers(mut stream: &UnixStream) -> bool {
    // An empty request on stream 1: it names no service, which is an answer too.
    //
    // Source: `messageHeader`, containerd/ttrpc channel.go: length, stream, type (1 is a request), flags.
    const REQUEST: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 1, 1, 0];
    let asked = stream.set_read_timeout(Some(DYING_MAX)).and_then(|()| stream.write_all(&REQUEST));
    asked.is_ok() && matches!(stream.read(&mut [0; 1]), Ok(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn address_is_the_one_that_containerd_derives() {
        let expected = "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0";
        let grpc = "/run/containerd/containerd.sock";
        assert_eq!(address(None, grpc, "default", "123"), format!("unix:///run/containerd/s/{expected}"));
        assert_eq!(address(Some("/tmp/s/"), grpc, "default", "123"), format!("unix:///tmp/s/{expected}"));
    }

    #[test]
    fn second_start_of_a_group_finds_the_first_alive() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/s/one", dir.path().display());
        let Socket::Bound(_listener) = bind(&address).unwrap() else { panic!("not bound") };
        assert!(matches!(bind(&address).unwrap(), Socket::Alive));
    }

    #[test]
    fn socket_of_a_dead_server_is_bound_again() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/one", dir.path().display());
        drop(bind(&address).unwrap());
        assert!(matches!(bind(&address).unwrap(), Socket::Bound(_)));
    }

    #[test]
    fn socket_of_a_server_that_dies_is_removed_and_that_of_one_that_answers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"x").unwrap();
            });
            assert!(!remove_unless_answering(&path).unwrap());
        });
        assert!(path.exists());
        std::thread::scope(|scope| {
            // Killed: what it had accepted is closed first, what it listened on a little later.
            scope.spawn(move || {
                drop(listener.accept().unwrap());
                std::thread::sleep(Duration::from_millis(20));
                drop(listener);
            });
            assert!(remove_unless_answering(&path).unwrap());
        });
        assert!(!path.exists());
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one");
        fs::write(&file, "text").unwrap();
        assert!(bind(&format!("unix://{}", file.display())).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    }
}
