//! The server: one process for each pod, parent and only reaper of its containers.
//!
//! ```text
//! forked ─► zygote forked ─► confined ─► tokio ─► serving ─┬─ Shutdown, no container left ─┐
//!                                                         ├─ no container for a while ────┤
//!                                                         └─ SIGTERM, no container left ──┴─► socket removed ─► events out ─► exit
//! ```
//! "For a while" covers a containerd that started us and never called Create, one that died after the last
//! Delete, and a refused Create: the server leaves by itself.
//!
//! Invariant: the socket is removed once, and before a Shutdown is answered: from then on the address may be that of
//! the next server for the same container, whose socket is not ours to remove.
//! Invariant: one thread. What would block (a launch, containerd's API, a FIFO without a reader) is waited for
//! by tokio; everything else is short.
//! Never here: what a call means; that is [`crate::task`].

mod confined;
mod log;
mod publisher;
mod reaper;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bulkhead_launch::Zygote;
use containerd_shim_protos::{
    shim_async::{Task, create_task},
    ttrpc::r#async::{Server, transport::Listener},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

pub(crate) use publisher::Publisher;
pub(crate) use reaper::{Exit, Launching, Owner, Reaper};

use crate::{
    front::ServerConfig,
    stages::Stages,
    sys,
    task::{Hub, Service, Tasks, streaming_services},
};

/// How long a server without a container waits for the next one.
const IDLE_MS: u64 = 10_000;

/// How long a server that ends tries to hand over its last events.
const FLUSH_MS: u64 = 5_000;

/// How long it waits for its last answers to be read.
const LAST_ANSWERS_MS: u64 = 1_000;

/// The task service's names: messages and methods are the same.
///
/// Source: containerd api/runtime/task/v2 and v3.
const SERVICE_NAMES: [&str; 2] = ["containerd.task.v3.Task", "containerd.task.v2.Task"];

/// Serves until there is nothing left to do. The socket is removed however it ends.
pub(crate) fn run(config: ServerConfig) -> ExitCode {
    let socket = Arc::new(SocketFile::new(config.socket_path.clone()));
    log::init(config.log.as_ref(), config.debug);
    let served = set_up_and_serve(config, &socket);
    socket.remove();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the server ends");
            ExitCode::FAILURE
        }
    }
}

fn set_up_and_serve(config: ServerConfig, socket: &Arc<SocketFile>) -> Result<(), String> {
    sys::set_child_subreaper().map_err(|error| format!("prctl(2) PR_SET_CHILD_SUBREAPER: {error}"))?;
    outlive_containers();
    let bundle = std::env::current_dir().map_err(|error| format!("getcwd(2): {error}"))?;
    std::env::set_current_dir("/").map_err(|error| format!("chdir(2) /: {error}"))?;
    let zygote = Zygote::fork().map_err(|error| format!("zygote: {error}"))?;
    let stages =
        Stages::new(config.namespace.clone(), &config.grpc_address, config.socket_path.clone(), zygote)
            .map_err(|error| error.to_string())?;
    confined::confine(&config, &bundle).map_err(|error| format!("confining the server: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| format!("tokio: {error}"))?;
    runtime.block_on(serve(config, socket, stages))
}

async fn serve(config: ServerConfig, socket: &Arc<SocketFile>, stages: Stages) -> Result<(), String> {
    let publisher = Publisher::start(&config.ttrpc_address, &config.namespace);
    let hub = Arc::new(Hub::new(config.socket_path));
    let tasks = Arc::new(Tasks::new(stages, publisher, Arc::clone(&hub)));
    let children = signal(SignalKind::child()).map_err(|error| format!("SIGCHLD: {error}"))?;
    tokio::spawn(reaper::run(children, Arc::clone(&tasks)));

    config.listener.set_nonblocking(true).map_err(|error| format!("fcntl(2) socket: {error}"))?;
    let listener = Listener::try_from(config.listener).map_err(|error| format!("socket: {error}"))?;
    let mut server = Server::new().add_listener(listener);
    let service: Arc<dyn Task + Send + Sync> = Arc::new(Service::new(Arc::clone(&tasks), Arc::clone(socket)));
    for name in SERVICE_NAMES {
        let methods = create_task(Arc::clone(&service)).into_values();
        server = server.register_service(methods.map(|methods| (name.to_owned(), methods)).collect());
    }
    server = server.register_service(streaming_services(&hub));
    server.start().await.map_err(|error| format!("ttrpc: {error}"))?;

    until_done(&tasks).await?;
    socket.remove();
    if timeout(Duration::from_millis(FLUSH_MS), tasks.publisher().flushed()).await.is_err() {
        tracing::error!("events were not taken by containerd and are lost");
    }
    // Its error is that clients were still connected at the end, which is containerd's habit.
    if timeout(Duration::from_millis(LAST_ANSWERS_MS), server.shutdown()).await.is_err() {
        tracing::debug!("a client is still connected");
    }
    Ok(())
}

/// Returns when no container is left and someone asked for the end, or no one asked for anything.
async fn until_done(tasks: &Tasks) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM: {error}"))?;
    let mut changes = tasks.watch_count();
    loop {
        let idle = *changes.borrow_and_update() == 0;
        tokio::select! {
            () = tasks.shutdown_asked() => if tasks.is_empty() { return Ok(()) },
            _ = terminate.recv() => if tasks.is_empty() { return Ok(()) },
            changed = changes.changed() => changed.map_err(|error| error.to_string())?,
            () = sleep(Duration::from_millis(IDLE_MS)), if idle => return Ok(()),
        }
    }
}

/// The file of the server's own socket.
pub(crate) struct SocketFile {
    path: PathBuf,
    removed: AtomicBool,
}

impl SocketFile {
    fn new(path: PathBuf) -> Self {
        Self { path, removed: AtomicBool::new(false) }
    }

    /// Removes it, the first time: nobody finds this server any more.
    pub(crate) fn remove(&self) {
        if !self.removed.swap(true, Ordering::Relaxed)
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "socket is left behind");
        }
    }
}

/// When memory runs out, the server goes after its containers and before containerd.
///
/// Source: `AdjustOOMScore`, containerd pkg/shim/util_unix.go: the score of containerd, which is inherited, and one.
fn outlive_containers() {
    let path = "/proc/self/oom_score_adj";
    let adjusted = fs::read_to_string(path).and_then(|text| {
        let score: i32 = text.trim().parse().map_err(std::io::Error::other)?;
        fs::write(path, (score + 1).min(1000).to_string())
    });
    if let Err(error) = adjusted {
        tracing::warn!(%error, path, "oom score stays");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_socket_of_the_next_server_at_the_same_address_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        fs::write(&path, "ours").unwrap();
        let socket = SocketFile::new(path.clone());
        socket.remove();
        assert!(!path.exists());
        fs::write(&path, "theirs").unwrap();
        socket.remove();
        assert_eq!(fs::read_to_string(path).unwrap(), "theirs");
    }
}
