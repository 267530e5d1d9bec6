//! The stage that asks containerd and the judge, and the control group in which a judge runs.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bulkhead_binding::VerifiedImage;
use bulkhead_cgroup::{Cgroup, CgroupPath, Host};
use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Judge, VerifyError};
use bulkhead_model::{ContainerId, CreateRequest, Layout, Namespace};
use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources};

use crate::task::{TaskError, chain};

/// What a judge may use: an image's JSON is 8 MiB at most, and it reads one document at a time.
const JUDGE_MEMORY_BYTES_MAX: i64 = 256 << 20;

/// It has one thread.
const JUDGE_PIDS_MAX: i64 = 4;

/// How images are verified.
pub(super) struct Verifier {
    socket: PathBuf,
    namespace: Namespace,
    judge: Judge,
    host: Host,
    /// Path of the server's own socket.
    own_socket: PathBuf,
}

impl Verifier {
    /// Knows where containerd and the judge's executable are.
    pub(super) fn new(
        grpc_address: &str,
        own_socket: PathBuf,
        namespace: &Namespace,
        host: &Host,
    ) -> Result<Self, TaskError> {
        let judge = Judge::beside_this_executable().map_err(|error| TaskError::internal(&error))?;
        Ok(Self {
            socket: PathBuf::from(grpc_address.strip_prefix("unix://").unwrap_or(grpc_address)),
            namespace: namespace.clone(),
            judge,
            host: host.clone(),
            own_socket,
        })
    }

    /// Verifies the image of a request.
    pub(super) async fn verify(
        &self,
        layout: &Layout,
        request: &CreateRequest,
    ) -> Result<VerifiedImage, TaskError> {
        let containerd = self.connect(&self.socket).await?;
        let group = JudgeGroup::new(&self.host, &self.own_socket, &request.id)?;
        let judge = Judge { admit: Some(group.admit()), ..self.judge.clone() };
        Ok(bulkhead_containerd::verify(&containerd, layout, &judge, request).await?)
    }

    async fn connect(&self, socket: &Path) -> Result<Containerd, VerifyError> {
        Ok(Containerd::connect(socket, &self.namespace, CALL_TIMEOUT).await?)
    }
}

impl From<VerifyError> for TaskError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(refusal) => refusal.into(),
            VerifyError::Failed(_) => TaskError::FailedPrecondition(error.line()),
            VerifyError::Unavailable(_) => TaskError::Unavailable(error.line()),
        }
    }
}

/// Where the judge of a container's image runs. `delete` finds it by the same names when the server has died meanwhile;
/// servers of two containerds never have the same socket.
pub(crate) fn judge_group_path(own_socket: &Path, id: &ContainerId) -> Result<CgroupPath, TaskError> {
    let server: String = own_socket
        .file_name()
        .map(|name| name.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).take(16).collect())
        .unwrap_or_default();
    format!("/bulkhead-judge-{server}-{id}")
        .parse()
        .map_err(|error: bulkhead_cgroup::CgroupError| TaskError::internal(&error))
}

/// The control group of one judge: made when there is one, removed with this.
struct JudgeGroup {
    cgroup: Cgroup,
    made: Arc<AtomicBool>,
}

impl JudgeGroup {
    fn new(host: &Host, own_socket: &Path, id: &ContainerId) -> Result<Self, TaskError> {
        let path = judge_group_path(own_socket, id)?;
        Ok(Self { cgroup: host.cgroup(&path), made: Arc::default() })
    }

    fn admit(&self) -> Arc<dyn Fn(u32) -> io::Result<()> + Send + Sync> {
        let (cgroup, made) = (self.cgroup.clone(), Arc::clone(&self.made));
        Arc::new(move |pid| {
            made.store(true, Ordering::Relaxed);
            let limits = limits().map_err(io::Error::other)?;
            cgroup.create(&limits).and_then(|()| cgroup.add(pid)).map_err(io::Error::other)
        })
    }
}

impl Drop for JudgeGroup {
    fn drop(&mut self) {
        if self.made.load(Ordering::Relaxed)
            && let Err(error) = self.cgroup.kill_all().and_then(|()| self.cgroup.remove())
        {
            tracing::error!(error = chain(&error), "the control group of a judge is left behind");
        }
    }
}

fn limits() -> Result<LinuxResources, oci_spec::OciSpecError> {
    let mut limits = LinuxResources::default();
    limits.set_devices(None);
    limits.set_memory(Some(LinuxMemoryBuilder::default().limit(JUDGE_MEMORY_BYTES_MAX).build()?));
    limits.set_pids(Some(LinuxPidsBuilder::default().limit(JUDGE_PIDS_MAX).build()?));
    Ok(limits)
}
