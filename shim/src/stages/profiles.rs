//! The stage that looks up the profile of a container's commands, and has it worked out where there is none.
//!
//! Invariant: nothing of the image is read here; a generator outlives this server and keeps what it finds.

use std::{path::PathBuf, sync::Arc};

use bulkhead_cgroup::CgroupError;
use bulkhead_containerd::{layer_dirs, stored_profile};
use bulkhead_launch::Zygote;
use bulkhead_model::{
    Confinement, CreateRequest, Digest, GeneratedProfile, ImageFacts, LOADER_VARIABLES, LayersJob,
    LayersTask, Layout, Level, ProfileExec, ProfileQuestion, ProfileRule, ProfileTask, Refusal, Rule,
    VolumesRule, chain_ids,
};

use super::verify::limits;
use crate::task::{TaskError, chain};

/// The control group of all generators of a node: none is one pod's.
const GROUP: &str = "/bulkhead-generator";

/// What generators may use together. One that needs more is killed: its profile is the baseline's then, and says so.
const MEMORY_BYTES_MAX: i64 = 1 << 30;

/// The one at work, with its threads, and those that wait for some seconds.
const PIDS_MAX: i64 = 64;

/// PATH of a process that says none.
///
/// Source: `defaultUnixEnv`, containerd pkg/oci/spec.go.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The profile that policy wants for a container, if it wants one and there is one. Where there has to be one and it is
/// not ready, the launch is to be tried again.
pub(super) fn profile(
    layout: &Layout,
    request: &CreateRequest,
    image: &ImageFacts,
    confinement: &Confinement,
    zygote: &Zygote,
    program: PathBuf,
) -> Result<Option<Arc<GeneratedProfile>>, TaskError> {
    let of = [(&confinement.seccomp, Rule::Seccomp), (&confinement.landlock.files, Rule::Landlock)];
    if confinement.level == Level::Compatible
        || of.iter().all(|(wanted, _)| matches!(wanted, ProfileRule::Baseline))
    {
        return Ok(None);
    }
    // The one that cannot do without.
    let must = of.iter().find(|(wanted, _)| match wanted {
        ProfileRule::Baseline | ProfileRule::WhenReady => false,
        ProfileRule::Generated | ProfileRule::Pinned(_) => true,
    });
    let layers = match layer_dirs(&request.rootfs, image.diff_ids.len()) {
        Ok(layers) => layers,
        Err(why) => {
            let Some((_, rule)) = must else { return Ok(None) };
            let what = "policy wants a generated profile, and the layers of the image are not at hand";
            let fix = "use the overlayfs snapshotter, or \"generated-when-ready\" or \"baseline\" for seccomp and landlock.files";
            return Err(Refusal::new(*rule, what, why, fix).into());
        }
    };
    let question = question(request, image, confinement, layers);
    let Some(key) = question.key() else {
        return Err(TaskError::Internal("the question for a profile cannot be written down".to_owned()));
    };
    let stored = stored_profile(layout, &key)
        .map_err(|error| TaskError::FailedPrecondition(format!("bulkhead failed: {}", chain(&error))))?;
    if let Some(profile) = stored {
        return Ok(Some(Arc::new(profile)));
    }
    let argv = question.argv.first().cloned().unwrap_or_default();
    start(layout, zygote, program, question)?;
    if must.is_some() {
        return Err(TaskError::Unavailable(not_ready(&argv, &key)));
    }
    Ok(None)
}

fn not_ready(program: &str, key: &Digest) -> String {
    let program: String = program.chars().filter(|c| !c.is_control()).take(120).collect();
    format!(
        "bulkhead: the profile of {program:?} is being worked out from the image's files (question {key}), and \
         policy lets it run under no other; try again in some seconds: the work goes on"
    )
}

/// A second generator of the same question ends at once: nobody keeps count here.
fn start(
    layout: &Layout,
    zygote: &Zygote,
    program: PathBuf,
    question: ProfileQuestion,
) -> Result<(), TaskError> {
    let failed = |error: &(dyn std::error::Error + 'static)| TaskError::internal(error);
    let task = ProfileTask { program, root: layout.root().to_owned(), question };
    let job = LayersJob { dirs: Vec::new(), own: None, task: LayersTask::Profile(Box::new(task)) };
    let null = std::fs::File::options().write(true).open("/dev/null").map_err(|error| failed(&error))?;
    let group = GROUP.parse().map_err(|error: CgroupError| failed(&error))?;
    let limits = limits(MEMORY_BYTES_MAX, PIDS_MAX).map_err(|error| failed(&error))?;
    let started = zygote.layers(&job, Some((&group, limits)), std::os::fd::AsFd::as_fd(&null));
    started.map(drop).map_err(|error| failed(&error))
}

fn question(
    request: &CreateRequest,
    image: &ImageFacts,
    confinement: &Confinement,
    layers: Vec<PathBuf>,
) -> ProfileQuestion {
    let process = request.spec.process().as_ref();
    let environment = || process.iter().flat_map(|process| process.env().iter().flatten());
    // Of two of one name the first counts for getenv(3), and the last for a shell.
    let variable = |name: &str| environment().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let mounts = request.spec.mounts().iter().flatten().map(|mount| mount.destination().clone());
    let declared = match confinement.volumes {
        VolumesRule::Tmpfs => Some(&image.volumes),
        VolumesRule::AsTheyAre => None,
    };
    ProfileQuestion {
        config: image.config,
        chain: chain_ids(&image.diff_ids).last().copied().unwrap_or(image.config),
        layers,
        argv: process.and_then(|process| process.args().clone()).unwrap_or_default(),
        path: variable("PATH").unwrap_or(PATH).to_owned(),
        cwd: process.map(|process| process.cwd().display().to_string()).unwrap_or_default(),
        environment: LOADER_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), variable(name)?.to_owned())))
            .collect(),
        exec: confinement
            .exec
            .iter()
            .map(|pattern| ProfileExec { words: pattern.words.clone(), open_end: pattern.open_end })
            .collect(),
        volumes: mounts
            .chain(confinement.tmpfs.iter().chain(&confinement.writable).cloned())
            .chain(declared.into_iter().flatten().map(PathBuf::from))
            .collect(),
        generator: bulkhead_profiles::GENERATOR.to_owned(),
        baseline: bulkhead_profiles::baseline_hash(),
    }
}
