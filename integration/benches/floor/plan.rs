//! A Plan as the shim would make it: the same policy, the same request, this host.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bulkhead_binding::{Claim, CriRecord, Observed, Snapshot, SnapshotKind, bind};
use bulkhead_integration::{ALLOWED, HarnessError, RootMount};
use bulkhead_model::{ContainerKind, CreateRequest, Digest, ImageFacts, ImageUser, Mount, Tenant, chain_ids};
use bulkhead_plan::{HardLimits, HostFacts, Plan, SecurityModules, SysResource, needs_mountinfo, plan};
use bulkhead_policy::{Policy, Source};

use crate::{stage::Stage, wrong};

/// Plans a container of the allowed image.
pub(super) fn of(stage: &Stage, id: &str, rootfs: &[RootMount]) -> Result<Plan, HarnessError> {
    let daemon = stage.daemon();
    let mounts: Vec<Mount> = rootfs.iter().map(mount).collect();
    let facts = facts(stage)?;
    let observed = observed(&facts, id, &mounts);
    let image = bind(&facts, &observed, &mounts).map_err(refused)?;

    let path = daemon.bulkhead_root().join("etc/bulkhead/policy.toml");
    let text = read(&path.display().to_string())?;
    let policy =
        Policy::parse(&Source { path, text }, None).map_err(|error| wrong("a policy", error.to_string()))?;
    let namespace = daemon.tag().parse().map_err(|_| wrong("a namespace", daemon.tag()))?;
    let spec = daemon.spec(id)?;
    let request = CreateRequest {
        id: id.parse().map_err(|_| wrong("an id", id))?,
        tenant: Tenant {
            containerd_namespace: namespace,
            namespace: daemon.tag().parse().map_err(|_| wrong("a namespace", daemon.tag()))?,
        },
        kind: ContainerKind::Plain,
        bundle: daemon.dir().join("state/io.containerd.runtime.v2.task").join(daemon.tag()).join(id),
        spec: serde_json::from_value(spec).map_err(|error| wrong("a spec", error.to_string()))?,
        rootfs: mounts,
    };
    let grant = policy.admit(&image, &request).map_err(refused)?;
    plan(&request, &grant, &host(stage, &request)?).map_err(refused)
}

fn refused(refusal: bulkhead_model::Refusal) -> HarnessError {
    wrong("a plan", refusal.to_string())
}

fn mount(mount: &RootMount) -> Mount {
    Mount {
        kind: mount.r#type.clone(),
        source: mount.source.clone(),
        target: PathBuf::from(&mount.target),
        options: mount.options.clone(),
    }
}

fn facts(stage: &Stage) -> Result<ImageFacts, HarnessError> {
    let digest = |text: &String| text.parse::<Digest>().map_err(|_| wrong("a digest", text));
    let digests = &stage.bench.digests;
    Ok(ImageFacts {
        target: digest(&digests.target)?,
        manifest: digest(&digests.manifest)?,
        config: digest(&digests.config)?,
        diff_ids: digests.diff_ids.iter().map(digest).collect::<Result<_, _>>()?,
        layers: digests.diff_ids.iter().map(digest).collect::<Result<_, _>>()?,
        user: ImageUser(bulkhead_integration::UID.to_string()),
        volumes: BTreeSet::new(),
        exposed: BTreeSet::new(),
    })
}

fn observed(facts: &ImageFacts, id: &str, mounts: &[Mount]) -> Observed {
    let chain = chain_ids(&facts.diff_ids);
    let name =
        |at: Option<usize>| at.and_then(|at| chain.get(at)).map(ToString::to_string).unwrap_or_default();
    let layers = (0..chain.len()).rev().map(|depth| Snapshot {
        name: name(Some(depth)),
        parent: name(depth.checked_sub(1)),
        kind: SnapshotKind::Committed,
    });
    let own = Snapshot {
        name: id.to_owned(),
        parent: name(chain.len().checked_sub(1)),
        kind: SnapshotKind::Active,
    };
    Observed {
        claim: Claim {
            image_name: ALLOWED.to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: id.to_owned(),
            cri: CriRecord::None,
        },
        target: facts.target,
        names: BTreeSet::from([ALLOWED.to_owned()]),
        chain: std::iter::once(own).chain(layers).collect(),
        mounts: mounts.to_vec(),
        mount_label: None,
        volumes: Vec::new(),
    }
}

fn host(stage: &Stage, request: &CreateRequest) -> Result<HostFacts, HarnessError> {
    let daemon = stage.daemon();
    let run_dir = daemon.bulkhead_root().join("run/bulkhead");
    let score = read("/proc/self/oom_score_adj")?;
    Ok(HostFacts {
        containerd_root: daemon.dir().join("root"),
        containerd_state: daemon.dir().join("state"),
        kubelet_root: "/var/lib/kubelet".into(),
        pod: None,
        landlock_abi: bulkhead_confine::landlock_abi(),
        hard_limits: HardLimits::parse(&read("/proc/self/limits")?),
        // The stricter one: no limit is raised, which is a call either way.
        sys_resource: SysResource::Missing,
        oom_score_adj: score.trim().parse().map_err(|_| wrong("an OOM score", score))?,
        canary_source: run_dir.join("canary"),
        init_source: run_dir.join("init"),
        volumes: BTreeSet::new(),
        cgroup_view: Some(run_dir.join("tasks").join(daemon.tag()).join(request.id.as_str()).join("cgroup")),
        id_range: None,
        modules: SecurityModules::default(),
        mountinfo: needs_mountinfo(request).then(|| read("/proc/self/mountinfo")).transpose()?,
        profile: None,
        exposed: BTreeSet::new(),
    })
}

fn read(path: &str) -> Result<String, HarnessError> {
    fs::read_to_string(path).map_err(HarnessError::at("read", path))
}
