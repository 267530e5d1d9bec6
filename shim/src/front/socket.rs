//! The socket of a server: where it is, whose it is, when it may be removed.
//!
//! Invariant: a socket that answers is never removed; a new one is made by bind(2) alone, in a directory that
//! only root enters.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::FrontError;

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

/// Removes a socket that nobody listens on. Says whether it is gone.
pub(crate) fn remove_if_dead(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("is no socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
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
    fn file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one");
        fs::write(&file, "text").unwrap();
        assert!(bind(&format!("unix://{}", file.display())).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    }
}
