//! The one way through: what containerd asks for becomes a plan here, or a refusal.
//!
//! ```text
//! request ─► policy files ─► verify (containerd, judge) ─► admit ─► plan ─► record ─► launch (crate::task)
//!                │                    │                      │        │        │
//!                └────────────────────┴── Refusal ───────────┴────────┴────────┘
//! exec ────► policy files of this moment ─► admit again ─► plan ─► record ─► launch
//! ```
//!
//! Invariant: an [`Admitted`] is made by [`Stages::admit`] alone, after every stage said yes and that is on record.
//! Nothing was mounted, made or started before.
//! Never here: what any stage decides.

mod asked;
mod facts;
mod fetch;
mod profiles;
mod record;
mod verify;

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bulkhead_audit::Call;
use bulkhead_binding::VerifiedImage;
use bulkhead_cgroup::{CgroupError, CgroupPath, systemd_runs};
use bulkhead_launch::{HookMoment, Zygote};
use bulkhead_model::{
    Confinement, ContainerId, ContainerKind, CreateRequest, ExecRequest, FetchOutcome, GeneratedProfile,
    InitRule, Layout, Level, Mount, Namespace, Refusal, Rule,
};
use bulkhead_node::load_policy;
use bulkhead_plan::{ExecPlan, Plan};
use bulkhead_policy::Policy;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources};

pub(crate) use asked::{Asked, NO_SPEC, cgroup_path, policy_file};
pub(crate) use facts::Pod;
pub(crate) use verify::judge_group_path;

use record::{Known, Subject, record};

use crate::{
    ranges::{Claim, RangeError},
    task::TaskError,
};

/// Where this process keeps its files: containerd passes its environment on to its shims.
pub(crate) use bulkhead_node::layout_from_environment as layout;

/// The stages, for one containerd namespace.
pub(crate) struct Stages {
    namespace: Namespace,
    layout: Layout,
    zygote: Arc<Zygote>,
    verifier: verify::Verifier,
    facts: facts::Constant,
}

/// A container that every stage let through.
pub(crate) struct Admitted {
    layout: Layout,
    policy_file: Option<PathBuf>,
    request: CreateRequest,
    image: VerifiedImage,
    plan: Plan,
    pids_max: u32,
    cgroup_path: CgroupPath,
    task_dir: PathBuf,
    ids: Option<Claim>,
}

impl Stages {
    /// Reads what does not change while the server lives.
    pub(crate) fn new(
        namespace: Namespace,
        grpc_address: &str,
        own_socket: PathBuf,
        zygote: Zygote,
    ) -> Result<Self, TaskError> {
        let layout = layout();
        let verifier = verify::Verifier::new(grpc_address, own_socket, &namespace, zygote.cgroups())?;
        let facts = facts::Constant::read(&layout, zygote.pid())?;
        Ok(Self { namespace, layout, zygote: Arc::new(zygote), verifier, facts })
    }

    /// containerd's namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_str()
    }

    /// Who launches.
    pub(crate) fn zygote(&self) -> &Zygote {
        &self.zygote
    }

    /// Takes a Create through the gates and records the verdict. Nothing on the host is changed but Bulkhead's own
    /// verdicts and their record.
    pub(crate) async fn admit(&self, asked: Asked, pod: Option<Pod>) -> Result<Admitted, TaskError> {
        let mut known = Known::nothing();
        let id = asked.id.clone();
        let result = self.judge(asked, pod, &mut known).await;
        let subject =
            Subject { call: Call::Create, namespace: &self.namespace, container: id.as_str(), exec: None };
        record(&self.layout, &subject, &known, result)
    }

    async fn judge(&self, asked: Asked, pod: Option<Pod>, known: &mut Known) -> Result<Admitted, TaskError> {
        let policy_file = asked.policy_file()?;
        let driver = asked.cgroup_driver()?;
        let request = asked.request(&self.namespace)?;
        known.request(&request);
        let cgroup_path = cgroup_path(&request.spec, &self.namespace, &request.id, driver)?;
        if cgroup_path.is_systemds() && !systemd_runs() {
            return Err(TaskError::FailedPrecondition(CgroupError::NoSystemd.to_string()));
        }
        let task_dir = self.layout.task_dir(&self.namespace, &request.id);

        let policy = load_policy(&self.layout, policy_file.as_deref(), &request.tenant.namespace)?;
        known.policy = Some(policy.hash());
        let began = Instant::now();
        let judges = Arc::clone(&known.judges);
        let image = self.verifier.verify(&self.layout, &request, &judges).await?;
        // From here on the root is what was bound, and nothing that a client named.
        let request = CreateRequest { rootfs: image.rootfs().to_vec(), ..request };
        known.image(&image, began);
        let image = self.verifier.signatures(&self.layout, &request.id, &policy, image, &judges).await?;
        let (image, asked) = self.fetched(&policy, &request, image, &judges).await?;
        let rules = policy.contents_rules(&image, &request);
        let image =
            self.verifier.contents(&self.layout, &request, image, &rules, &self.zygote, &judges).await?;
        known.image(&image, began);
        let grant = policy.admit(&image, &request).map_err(|refusal| fetch::told(refusal, &asked))?;
        known.scope = grant.scope().map(str::to_owned);
        known.signed_by(grant.accepted());
        known.would_refuse = grant.would_refuse().cloned();
        say_what_audit_lets_through("create", &request.id, grant.would_refuse());
        self.prepare(grant.confinement().init)?;
        let profile = self.profile(&request, &image, grant.confinement())?;
        let needed = bulkhead_plan::ranges_needed(&request, &grant)?;
        let who = (&self.namespace, &request.id);
        let ids = Claim::take(&self.layout, who, &needed).await.map_err(no_range)?;
        let range = ids.as_ref().and_then(Claim::first);
        let mut facts = self.facts.for_request(&request, pod, &task_dir, policy.kubelet_root(), range)?;
        facts.profile = profile;
        facts.exposed.clone_from(&image.facts().exposed);
        facts.volumes.clone_from(&image.facts().volumes);
        let plan = bulkhead_plan::plan(&request, &grant, &facts)?;
        let ids = match (ids, plan.confine().user_namespace()) {
            (None, Some(of_pod)) => {
                Claim::join(&self.layout, who, of_pod.ranges().collect()).await.map_err(no_range)?
            }
            (ids, _) => ids,
        };
        // At the compatible level the request's own limit counts.
        let pids_max = match grant.confinement().level {
            Level::Hardened => grant.confinement().pids_max,
            Level::Compatible => {
                let scope = grant.scope().unwrap_or_default();
                tracing::warn!(id = %request.id, scope, "level = \"compatible\": the request is granted as runc would");
                u32::MAX
            }
        };
        let layout = self.layout.clone();
        Ok(Admitted { layout, policy_file, request, image, plan, pids_max, cgroup_path, task_dir, ids })
    }

    /// Where policy lets a launch ask registries, and it lacks a signature: the image with those that came.
    async fn fetched(
        &self,
        policy: &Policy,
        request: &CreateRequest,
        image: VerifiedImage,
        judges: &verify::Judges,
    ) -> Result<(VerifiedImage, Vec<FetchOutcome>), TaskError> {
        let from = policy.fetch_from(&image, request);
        if from.is_empty() {
            return Ok((image, Vec::new()));
        }
        let asked = fetch::fetch(&self.layout, &self.zygote, self.verifier.judge_program(), from).await?;
        let image = self.verifier.signatures(&self.layout, &request.id, policy, image, judges).await?;
        Ok((image, asked))
    }

    /// The profile of the container's commands under this confinement.
    fn profile(
        &self,
        request: &CreateRequest,
        image: &VerifiedImage,
        confinement: &Confinement,
    ) -> Result<Option<Arc<GeneratedProfile>>, TaskError> {
        let program = self.verifier.judge_program();
        profiles::profile(&self.layout, request, image.facts(), confinement, &self.zygote, program)
    }

    /// Makes what every plan relies on, where it is not there yet.
    fn prepare(&self, init: InitRule) -> Result<(), TaskError> {
        let run_dir = self.layout.run_dir();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run_dir)
            .map_err(|error| TaskError::Internal(format!("mkdir(2) {}: {error}", run_dir.display())))?;
        bulkhead_launch::prepare_canary(self.facts.canary())
            .and_then(|()| match init {
                InitRule::Program => Ok(()),
                InitRule::Small => bulkhead_launch::prepare_init(self.facts.init()),
            })
            .map_err(|error| TaskError::internal(&error))
    }
}

impl Admitted {
    /// Takes an exec through the gates, under the policy of this moment, and records the verdict.
    pub(crate) async fn admit_exec(
        &self,
        stages: &Stages,
        asked: &ExecRequest,
    ) -> Result<ExecPlan, TaskError> {
        let mut known = Known::nothing();
        known.request(&self.request);
        known.image(&self.image, Instant::now());
        let result = self.judge_exec(stages, asked, &mut known).await;
        let subject = Subject {
            call: Call::Exec,
            namespace: &self.request.tenant.containerd_namespace,
            container: self.request.id.as_str(),
            exec: Some(asked.exec.as_str()),
        };
        record(&self.layout, &subject, &known, result)
    }

    async fn judge_exec(
        &self,
        stages: &Stages,
        asked: &ExecRequest,
        known: &mut Known,
    ) -> Result<ExecPlan, TaskError> {
        let policy = load_policy(&self.layout, self.policy_file.as_deref(), &self.request.tenant.namespace)?;
        known.policy = Some(policy.hash());
        let argv = asked.process.args().as_deref().unwrap_or_default();
        // Under this moment's keys and roots: a signature that was good then need not be now.
        let image = stages
            .verifier
            .signatures(&self.layout, &self.request.id, &policy, self.image.clone(), &known.judges)
            .await?;
        let grant = policy.admit_exec(&image, &self.request, argv, asked.interaction)?;
        known.scope = grant.scope().map(str::to_owned);
        known.signed_by(grant.accepted());
        known.would_refuse = grant.would_refuse().cloned();
        say_what_audit_lets_through("exec", &self.request.id, grant.would_refuse());
        let profile = stages.profile(&self.request, &image, grant.confinement())?;
        Ok(bulkhead_plan::plan_exec(asked, &self.plan, &grant, profile.as_ref())?)
    }

    /// Whether it is the pod's own container.
    pub(crate) fn is_sandbox(&self) -> bool {
        self.request.kind == ContainerKind::Sandbox
    }

    /// Id of the container.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.request.id
    }

    /// What to launch.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it is written down what it was denied.
    pub(crate) fn denied_file(&self) -> PathBuf {
        self.layout.denied_file(&self.request.tenant.containerd_namespace, &self.request.id)
    }

    /// What to mount as its root.
    pub(crate) fn rootfs(&self) -> &[Mount] {
        &self.request.rootfs
    }

    /// Its control group.
    pub(crate) fn cgroup_path(&self) -> &CgroupPath {
        &self.cgroup_path
    }

    /// Gives back the range of ids that it has where all is gone that had it: no pod gets ids of processes that live.
    pub(crate) fn release_ids(&self, all_gone: bool) {
        match &self.ids {
            Some(ids) if all_gone => ids.release(),
            Some(ids) => ids.keep(),
            None => {}
        }
    }

    /// How long its hooks of a moment may take; none where it has none.
    pub(crate) fn hooks(&self, moment: HookMoment) -> Option<Duration> {
        let time = bulkhead_launch::hooks_may_take(self.plan.spec().hooks().as_ref(), moment);
        (!time.is_zero()).then_some(time)
    }

    /// Its directory.
    pub(crate) fn task_dir(&self) -> &Path {
        &self.task_dir
    }
}

impl Admitted {
    /// Whether init's end ends all others.
    pub(crate) fn own_pid_namespace(&self) -> bool {
        self.namespace(LinuxNamespaceType::Pid).is_some_and(|path| path.is_none())
    }

    /// The network namespace that it was made in, if by a path.
    pub(crate) fn network_namespace(&self) -> Option<PathBuf> {
        self.namespace(LinuxNamespaceType::Network).flatten()
    }

    /// A namespace of the plan: `None` is the server's own, `Some(None)` a new one.
    fn namespace(&self, kind: LinuxNamespaceType) -> Option<Option<PathBuf>> {
        let linux = self.plan.spec().linux().as_ref()?;
        let namespaces = linux.namespaces().as_ref()?;
        namespaces.iter().find(|namespace| namespace.typ() == kind).map(|namespace| namespace.path().clone())
    }

    /// New limits, none looser than policy allows.
    pub(crate) fn admit_update(&self, asked: &LinuxResources) -> Result<LinuxResources, TaskError> {
        Ok(bulkhead_plan::plan_update(asked, self.pids_max)?)
    }
}

/// Another's range is the caller's to change; the rest is the machine's.
fn no_range(error: RangeError) -> TaskError {
    match error {
        RangeError::OfAnother { .. } | RangeError::AllTaken => {
            TaskError::FailedPrecondition(error.to_string())
        }
        RangeError::Locked { .. } => TaskError::Unavailable(error.to_string()),
        RangeError::Io { .. } => TaskError::internal(&error),
    }
}

/// In audit mode a refusal is said loudly, and the task runs. Of an exec not what was refused: that is its argv.
fn say_what_audit_lets_through(call: &'static str, id: &ContainerId, would_refuse: Option<&Refusal>) {
    let Some(Refusal { rule, what, why, fix: _ }) = would_refuse else { return };
    let what = if *rule == Rule::Exec { "a command" } else { what };
    tracing::warn!(call, %id, rule = rule.anchor(), what, why, "mode = \"audit\": policy would refuse this");
}
