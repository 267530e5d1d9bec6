//! containerd's own task API, for requests that `ctr` would not make.

use std::{collections::HashMap, path::Path, time::Duration};

use containerd_client::{
    services::v1::{
        CreateTaskRequest, DeleteTaskRequest, KillRequest, ResumeTaskRequest, StartRequest, WaitRequest,
        snapshots::{
            CommitSnapshotRequest, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
            snapshots_client::SnapshotsClient,
        },
        tasks_client::TasksClient,
    },
    types::Mount,
};
use tokio::runtime::Runtime;
use tonic::{Request, transport::Channel};

use crate::{Containerd, HarnessError, Result};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(180);

/// A mount as the task and snapshot APIs describe it.
pub type RootMount = Mount;

/// A client of the task API in one namespace.
#[derive(Debug)]
pub struct Tasks {
    runtime: Runtime,
    channel: Channel,
    namespace: String,
}

impl Containerd {
    /// A client of the task API in the daemon's own namespace.
    pub fn tasks(&self) -> Result<Tasks> {
        self.tasks_in(self.tag())
    }

    /// A client of the task API in another namespace of containerd's: CRI's is `k8s.io`.
    pub fn tasks_in(&self, namespace: &str) -> Result<Tasks> {
        let runtime = runtime()?;
        let channel = connect(&runtime, &self.socket())?;
        Ok(Tasks { runtime, channel, namespace: namespace.to_owned() })
    }
}

impl Tasks {
    /// The mounts of a snapshot.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request = self.request(MountsRequest { snapshotter: OVERLAY.to_owned(), key: key.to_owned() });
        let answer = self.runtime.block_on(client.mounts(request));
        Ok(answer.map_err(HarnessError::rpc("snapshots.Mounts"))?.into_inner().mounts)
    }

    /// Prepares a writable snapshot on `parent` that garbage collection keeps; its mounts.
    pub fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request = self.request(PrepareSnapshotRequest {
            snapshotter: OVERLAY.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: kept(),
        });
        let answer = self.runtime.block_on(client.prepare(request));
        Ok(answer.map_err(HarnessError::rpc("snapshots.Prepare"))?.into_inner().mounts)
    }

    /// Commits a prepared snapshot under a name of the caller's choice, and keeps it from garbage collection.
    pub fn commit(&self, name: &str, key: &str) -> Result<()> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request = self.request(CommitSnapshotRequest {
            snapshotter: OVERLAY.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: kept(),
        });
        self.runtime.block_on(client.commit(request)).map(drop).map_err(HarnessError::rpc("snapshots.Commit"))
    }

    /// Removes a snapshot.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request =
            self.request(RemoveSnapshotRequest { snapshotter: OVERLAY.to_owned(), key: key.to_owned() });
        self.runtime.block_on(client.remove(request)).map(drop).map_err(HarnessError::rpc("snapshots.Remove"))
    }

    /// Creates the task of a container that is there, on a root file system of the caller's choice; its pid.
    pub fn create(&self, id: &str, rootfs: Vec<Mount>) -> Result<u32> {
        let request = self.request(CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            ..CreateTaskRequest::default()
        });
        let answer = self.runtime.block_on(self.client().create(request));
        Ok(answer.map_err(HarnessError::rpc("tasks.Create"))?.into_inner().pid)
    }

    /// Starts a task.
    pub fn start(&self, id: &str) -> Result<()> {
        let request = self.request(StartRequest { container_id: id.to_owned(), exec_id: String::new() });
        self.runtime
            .block_on(self.client().start(request))
            .map(drop)
            .map_err(HarnessError::rpc("tasks.Start"))
    }

    /// Sends a signal to a task; to all of its processes with `all`.
    pub fn kill(&self, id: &str, signal: u32, all: bool) -> Result<()> {
        let request =
            self.request(KillRequest { container_id: id.to_owned(), signal, all, ..KillRequest::default() });
        self.runtime.block_on(self.client().kill(request)).map(drop).map_err(HarnessError::rpc("tasks.Kill"))
    }

    /// Resumes a paused task.
    pub fn resume(&self, id: &str) -> Result<()> {
        let request = self.request(ResumeTaskRequest { container_id: id.to_owned() });
        self.runtime
            .block_on(self.client().resume(request))
            .map(drop)
            .map_err(HarnessError::rpc("tasks.Resume"))
    }

    /// Waits for the end of a task; its exit status.
    pub fn wait(&self, id: &str) -> Result<u32> {
        let request = self.request(WaitRequest { container_id: id.to_owned(), exec_id: String::new() });
        let answer = self.runtime.block_on(self.client().wait(request));
        Ok(answer.map_err(HarnessError::rpc("tasks.Wait"))?.into_inner().exit_status)
    }

    /// Deletes a task that has ended; its exit status.
    pub fn delete(&self, id: &str) -> Result<u32> {
        let request = self.request(DeleteTaskRequest { container_id: id.to_owned() });
        let answer = self.runtime.block_on(self.client().delete(request));
        Ok(answer.map_err(HarnessError::rpc("tasks.Delete"))?.into_inner().exit_status)
    }

    /// Runs a call to its end.
    pub(crate) fn block_on<F: Future>(&self, call: F) -> F::Output {
        self.runtime.block_on(call)
    }

    pub(crate) fn client(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    pub(crate) fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        request.set_timeout(CALL);
        // Tags, and CRI's, are letters, digits and dots: they parse.
        if let Ok(namespace) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        request
    }
}

/// The snapshotter of every test.
const OVERLAY: &str = "overlayfs";

/// Labels that keep a snapshot which nothing refers to from garbage collection: a removal just before schedules one.
fn kept() -> HashMap<String, String> {
    [("containerd.io/gc.root".to_owned(), "test".to_owned())].into()
}

/// A runtime for one client: tests are threads, and each client stays on its own.
pub(crate) fn runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|source| HarnessError::Run { program: "tokio".to_owned(), source })
}

/// A connection to a unix socket.
pub(crate) fn connect(runtime: &Runtime, socket: &Path) -> Result<Channel> {
    let connected = runtime.block_on(containerd_client::connect(socket));
    connected.map_err(|source| HarnessError::Connect { path: socket.to_owned(), source })
}
