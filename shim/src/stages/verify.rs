//! The stage that asks containerd and the judge, and the control group in which a judge runs.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bulkhead_binding::{VerifiedImage, VerifiedVolume};
use bulkhead_cgroup::{Cgroup, CgroupPath, Host};
use bulkhead_containerd::{
    CALL_TIMEOUT, Containerd, Contents, GroupJudge, Judge, StartLayers, VerifyError, contents_facts,
    signature_facts,
};
use bulkhead_launch::Zygote;
use bulkhead_model::{ContainerId, ContentsRule, CreateRequest, LayersTask, Layout, Namespace};
use bulkhead_policy::{ContentsRules, Policy};
use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources};

use crate::task::{TaskError, chain};

/// What a judge may use: an image's JSON is 8 MiB at most, and it reads one document at a time.
const JUDGE_MEMORY_BYTES_MAX: i64 = 256 << 20;

/// It has one thread.
const JUDGE_PIDS_MAX: i64 = 4;

/// What a judge of contents may use: 500,000 names of a layer and their owners, for two layers at a time, and what the
/// kernel keeps of the files that it reads, which it gives back.
const CONTENTS_MEMORY_BYTES_MAX: i64 = 1 << 30;

/// Two threads for each layer at a time.
const CONTENTS_PIDS_MAX: i64 = 16;

/// How long a launch waits for layers to be compared: kubelet gives up after two minutes, and would not hear why.
const CONTENTS_WAIT_MAX: Duration = Duration::from_secs(100);

/// How long a judge may take for all layers of an image.
const CONTENTS_TIME_MAX: Duration = Duration::from_secs(1800);

/// Counts the judges that were started for one request: for the record.
pub(super) type Judges = Arc<AtomicU32>;

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

    /// The judge's executable.
    pub(super) fn judge_program(&self) -> PathBuf {
        self.judge.program.clone()
    }

    /// Verifies the image of a request.
    pub(super) async fn verify(
        &self,
        layout: &Layout,
        request: &CreateRequest,
        judges: &Judges,
    ) -> Result<VerifiedImage, TaskError> {
        let containerd = self.connect(&self.socket).await?;
        let group = JudgeGroup::new(&self.host, &self.own_socket, &request.id, judges)?;
        let judge = Judge { group: Some(group.make()), ..self.judge.clone() };
        Ok(bulkhead_containerd::verify(&containerd, layout, &judge, request).await?)
    }

    /// What is known of the files of an image's layers and of those of its volumes, as far as policy wants to know.
    pub(super) async fn contents(
        &self,
        layout: &Layout,
        request: &CreateRequest,
        image: VerifiedImage,
        rules: &ContentsRules,
        zygote: &Arc<Zygote>,
        judges: &Judges,
    ) -> Result<VerifiedImage, TaskError> {
        if rules.volumes.iter().chain([&rules.image]).all(|rule| *rule == ContentsRule::Chain) {
            return Ok(image);
        }
        let containerd = self.connect(&self.socket).await?;
        let group = judge_group_path(&self.own_socket, &request.id)?;
        let (zygote, host, judges) = (Arc::clone(zygote), self.host.clone(), Arc::clone(judges));
        let start: StartLayers = Arc::new(move |job| {
            let (answers, output) = pipe()?;
            let limits = limits(CONTENTS_MEMORY_BYTES_MAX, CONTENTS_PIDS_MAX).map_err(io::Error::other)?;
            let (limits, made) = match job.task {
                LayersTask::Walk | LayersTask::Profile(_) | LayersTask::Fetch(_) => (None, None),
                LayersTask::Compare(_) => {
                    judges.fetch_add(1, Ordering::Relaxed);
                    let (cgroup, made) = (host.cgroup(&group), Arc::new(AtomicBool::new(true)));
                    (Some((&group, limits)), Some(JudgeGroup { cgroup, made, judges: Arc::clone(&judges) }))
                }
            };
            let ticket = zygote.layers(job, limits, output.as_fd()).map_err(io::Error::other)?;
            Ok((answers, Box::new((ticket, made))))
        });
        // The launch waits once, however many images it has.
        let began = Instant::now();
        let contents = || Contents {
            start: Arc::clone(&start),
            program: self.judge.program.clone(),
            wait_max: CONTENTS_WAIT_MAX.saturating_sub(began.elapsed()),
            time_max: CONTENTS_TIME_MAX,
        };
        let found =
            contents_facts(&containerd, layout, &contents(), image.facts(), &request.rootfs, rules.image)
                .await?;
        let mut of_volumes = Vec::with_capacity(image.volumes().len());
        for (volume, rule) in image.volumes().iter().zip(&rules.volumes) {
            let mounts = std::slice::from_ref(&volume.volume().layers);
            of_volumes
                .push(contents_facts(&containerd, layout, &contents(), volume.facts(), mounts, *rule).await?);
        }
        Ok(image.with_contents(found).with_volume_contents(of_volumes))
    }

    /// Who signed an image and those of its volumes, where policy wants to know.
    pub(super) async fn signatures(
        &self,
        layout: &Layout,
        id: &ContainerId,
        policy: &Policy,
        image: VerifiedImage,
        judges: &Judges,
    ) -> Result<VerifiedImage, TaskError> {
        if !policy.needs_signatures(&image) {
            return Ok(image);
        }
        let group = JudgeGroup::new(&self.host, &self.own_socket, id, judges)?;
        let judge = Judge { group: Some(group.make()), ..self.judge.clone() };
        let mut signatures = BTreeMap::new();
        let volumes = image.volumes().iter().map(VerifiedVolume::facts);
        for facts in std::iter::once(image.facts()).chain(volumes) {
            let found = signature_facts(layout, &judge, facts, policy.material()).await?;
            signatures.insert(facts.target, found);
        }
        Ok(image.with_signatures(signatures))
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

/// Both ends of a pipe: where to read, and where to write.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((read.into(), write.into()))
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
    judges: Judges,
}

impl JudgeGroup {
    fn new(host: &Host, own_socket: &Path, id: &ContainerId, judges: &Judges) -> Result<Self, TaskError> {
        let path = judge_group_path(own_socket, id)?;
        Ok(Self { cgroup: host.cgroup(&path), made: Arc::default(), judges: Arc::clone(judges) })
    }

    /// Makes it, and says into which files a judge is to write.
    fn make(&self) -> GroupJudge {
        let (cgroup, made, judges) = (self.cgroup.clone(), Arc::clone(&self.made), Arc::clone(&self.judges));
        Arc::new(move || {
            made.store(true, Ordering::Relaxed);
            judges.fetch_add(1, Ordering::Relaxed);
            let limits = limits(JUDGE_MEMORY_BYTES_MAX, JUDGE_PIDS_MAX).map_err(io::Error::other)?;
            cgroup.create(&limits).map_err(io::Error::other)?;
            Ok(cgroup.join_files().collect())
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

/// Limits of a helper's control group.
pub(super) fn limits(memory_bytes_max: i64, pids_max: i64) -> Result<LinuxResources, oci_spec::OciSpecError> {
    let mut limits = LinuxResources::default();
    limits.set_devices(None);
    limits.set_memory(Some(LinuxMemoryBuilder::default().limit(memory_bytes_max).build()?));
    limits.set_pids(Some(LinuxPidsBuilder::default().limit(pids_max).build()?));
    Ok(limits)
}
