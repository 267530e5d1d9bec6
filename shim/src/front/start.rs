//! `start`: one server for each pod, forked, never exec'd.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::OpenOptionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use bulkhead_model::{ContainerId, Namespace};
use containerd_shim::Flags;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use serde::Deserialize;

use super::{
    FrontError, bootstrap, shim_cgroup,
    socket::{self, Socket},
};
use crate::sys::{self, Forked};

/// Longest message read from standard input, in bytes.
///
/// Source: containerd's own limit for bootstrap parameters, pkg/shim/shim.go.
const INPUT_BYTES_MAX: u64 = 10 << 20;

/// The annotation whose value groups the containers of a pod.
///
/// Source: `SandboxID`, containerd internal/cri/annotations.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// What the server is told by the program that became it.
pub(crate) struct ServerConfig {
    /// containerd's namespace.
    pub(crate) namespace: Namespace,
    /// containerd's gRPC socket.
    pub(crate) grpc_address: String,
    /// Where events go.
    pub(crate) ttrpc_address: String,
    /// Its own socket.
    pub(crate) listener: UnixListener,
    /// Where that is bound.
    pub(crate) socket_path: PathBuf,
    /// The policy file that runtime options name, as far as `start` was told.
    pub(crate) policy_file: Option<PathBuf>,
    /// containerd's end of the log, if it opened one.
    pub(crate) log: Option<File>,
    /// Whether to log much.
    pub(crate) debug: bool,
}

/// What became of a `start`.
pub(crate) enum Started {
    /// This process answered and is done.
    Replied,
    /// This process is the server.
    Server(Box<ServerConfig>),
}

/// The few fields of config.json that `start` reads; a container's spec is parsed at Create.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<std::collections::HashMap<String, String>>,
}

/// Runs `start` in the bundle's directory.
pub(crate) fn start(flags: &Flags) -> Result<Started, FrontError> {
    // The server lives long: it keeps nothing that was left open in its parent.
    sys::close_inherited().map_err(FrontError::io("close_range(2)", "3 and above"))?;
    let variable = |name| env::var(name).unwrap_or_default();
    let variables = bootstrap::Variables {
        ttrpc_address: variable("TTRPC_ADDRESS"),
        grpc_address: variable("GRPC_ADDRESS"),
    };
    let input = read_input()?;
    let asked = bootstrap::asked(flags, variables, &input)?;
    let id: ContainerId = asked.id.parse().map_err(|error| FrontError::Usage(format!("id: {error}")))?;
    let namespace: Namespace =
        asked.namespace.parse().map_err(|error| FrontError::Usage(format!("namespace: {error}")))?;
    let group = group(Path::new("config.json"), &id)?;
    let address =
        socket::address(asked.socket_dir.as_deref(), &asked.grpc_address, namespace.as_str(), group.as_str());
    let reply = bootstrap::reply(asked.reply, &address)?;

    let server = match socket::bind(&address)? {
        Socket::Alive => None,
        Socket::Bound(listener) => Some(listener),
    };
    // containerd 1.6 finds the server again by this file after a restart of its own.
    fs::write("address", &address).map_err(FrontError::io("write(2)", "address"))?;
    let Some(listener) = server else {
        answer(&reply)?;
        return Ok(Started::Replied);
    };
    // From here on a failure must not leave the socket behind: the listener is ours alone.
    let path = socket::path(&address);
    match shim_cgroup::join(&asked.options).and_then(|()| fork_server(&listener)) {
        Ok(Forked::Parent) => {
            answer(&reply)?;
            Ok(Started::Replied)
        }
        Ok(Forked::Child) => Ok(Started::Server(Box::new(ServerConfig {
            namespace,
            grpc_address: asked.grpc_address,
            ttrpc_address: asked.ttrpc_address,
            listener,
            socket_path: path,
            policy_file: crate::stages::policy_file(&asked.options),
            log: open_log(),
            debug: asked.debug,
        }))),
        Err(error) => {
            fs::remove_file(&path).map_err(FrontError::io("unlink(2)", path.display().to_string()))?;
            Err(error)
        }
    }
}

/// The sandbox's id where the container is part of one, else its own.
fn group(config: &Path, id: &ContainerId) -> Result<ContainerId, FrontError> {
    let text = fs::read(config).map_err(FrontError::io("read(2)", config.display().to_string()))?;
    let spec: Annotated = serde_json::from_slice(&text).map_err(FrontError::Config)?;
    match spec.annotations.unwrap_or_default().get(SANDBOX_ID) {
        None => Ok(id.clone()),
        Some(sandbox) => {
            sandbox.parse().map_err(|error| FrontError::Usage(format!("annotation {SANDBOX_ID}: {error}")))
        }
    }
}

/// Forks; the child is in a session of its own and has let go of containerd's pipes.
fn fork_server(_bound: &UnixListener) -> Result<Forked, FrontError> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(FrontError::io("open(2)", "/dev/null"))?;
    let forked = sys::fork().map_err(FrontError::io("fork(2)", "server"))?;
    if let Forked::Child = forked {
        dup2_stdin(null.as_fd()).map_err(FrontError::io("dup2(2)", "stdin"))?;
        dup2_stdout(null.as_fd()).map_err(FrontError::io("dup2(2)", "stdout"))?;
        dup2_stderr(null.as_fd()).map_err(FrontError::io("dup2(2)", "stderr"))?;
        setsid().map_err(FrontError::io("setsid(2)", "server"))?;
    }
    Ok(forked)
}

/// The FIFO `log` in the bundle that containerd copies to its own log. It is never waited for: a reader that
/// is slow or gone loses lines.
fn open_log() -> Option<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("log").ok()
}

fn read_input() -> Result<Vec<u8>, FrontError> {
    let stdin = io::stdin();
    let mut input = Vec::new();
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(INPUT_BYTES_MAX)
            .read_to_end(&mut input)
            .map_err(FrontError::io("read(2)", "standard input"))?;
    }
    Ok(input)
}

fn answer(reply: &[u8]) -> Result<(), FrontError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(reply)
        .and_then(|()| stdout.flush())
        .map_err(FrontError::io("write(2)", "standard output"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn group_of(config: &str) -> Result<String, FrontError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), config).unwrap();
        group(file.path(), &"own".parse().unwrap()).map(|id| id.to_string())
    }

    #[test]
    fn containers_of_a_pod_share_its_group() {
        let config = format!(r#"{{"process":{{}},"annotations":{{"{SANDBOX_ID}":"pod1"}}}}"#);
        assert_eq!(group_of(&config).unwrap(), "pod1");
    }

    #[test]
    fn container_without_a_pod_is_a_group_of_its_own() {
        assert_eq!(group_of("{}").unwrap(), "own");
        assert_eq!(group_of(r#"{"annotations":null}"#).unwrap(), "own");
    }

    #[test]
    fn sandbox_id_that_is_no_identifier_is_an_error() {
        assert!(group_of(&format!(r#"{{"annotations":{{"{SANDBOX_ID}":"../x"}}}}"#)).is_err());
    }
}
