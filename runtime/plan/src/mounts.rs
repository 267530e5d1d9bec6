//! `mounts`: kernel file systems, small tmpfs, and bind mounts of allowed shapes.
//!
//! ```text
//! request ─► path, options ─┬─► kernel   /proc /dev /sys …  always there, always the same
//!                           ├─► tmpfs    limited
//!                           └─► bind     source judged by its shape ─► Refusal
//! order of the plan: kernel, policy's tmpfs and the image's VOLUMEs, the request's, the canary, the small init
//! ```
//! Invariant: nothing that can be written is executable, set-uid or a device; nothing is shared with the host;
//! no destination hides another; every mount has its Landlock rule.

mod bind;
mod kernel;
mod options;
mod path;
mod subpath;
mod tmpfs;

pub use bind::needs_mountinfo;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bulkhead_model::{
    Confinement, CreateRequest, ImageVolume, InitRule, PathAccess, PathRule, Refusal, Rule, UserNamespace,
};
use oci_spec::runtime::{Linux, Mount, MountBuilder};

use crate::{
    CANARY, INIT,
    change::{Changes, Section},
    facts::HostFacts,
    limits::{MOUNTS_MAX, at_most},
    refuse::{nothing_left, refuse, refuse_unsupported, short},
    user_namespace,
};
use options::Options;

/// What every judge of a mount may look at.
pub(crate) struct Context<'a> {
    pub(crate) request: &'a CreateRequest,
    pub(crate) confinement: &'a Confinement,
    pub(crate) host: &'a HostFacts,
    /// Images that policy lets it see.
    pub(crate) image_volumes: &'a [ImageVolume],
    /// The pod's user namespace.
    pub(crate) user_namespace: Option<&'a UserNamespace>,
    /// Who the container runs as: owns what policy makes writable.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What its first process is.
    pub(crate) init: InitRule,
}

/// The mounts of a plan.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// In the order in which they are to be made.
    pub(crate) list: Vec<Mount>,
    /// A rule for each.
    pub(crate) rules: Vec<PathRule>,
    /// Places of tmpfs into which the image's files are copied: what a program expects below /run is there.
    pub(crate) copied_up: BTreeSet<PathBuf>,
}

impl Mounts {
    fn add(&mut self, mount: Mount, access: PathAccess) {
        self.rules.push(PathRule { path: mount.destination().clone(), access });
        self.list.push(mount);
    }
}

/// One mount of the request, its path and options read.
pub(crate) struct Asked {
    /// `mounts[3]`.
    pub(crate) field: String,
    pub(crate) destination: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: Option<PathBuf>,
    pub(crate) options: Options,
}

/// The mounts as they are to be made.
pub(crate) fn harden(
    asked: Option<&Vec<Mount>>,
    context: &Context<'_>,
    changes: &mut Changes,
) -> Result<Mounts, Refusal> {
    let asked = asked.map(Vec::as_slice).unwrap_or_default();
    at_most("mounts", asked.len(), MOUNTS_MAX, "mounts")?;
    let asked: Vec<Asked> = asked
        .iter()
        .enumerate()
        .map(|(index, mount)| read(index, mount, context))
        .collect::<Result<_, _>>()?;
    let asked = without_covered_shm(asked);
    none_hides_another(&asked)?;

    let mut mounts = Mounts::default();
    let rest = kernel::take(asked, context, &mut mounts, changes)?;
    let rest = tmpfs::take_ours(rest, context, &mut mounts, changes)?;
    for mount in rest {
        if mount.options.bind {
            bind::add(&mount, context, &mut mounts, changes)?;
        } else {
            tmpfs::add(&mount, context, &mut mounts, changes)?;
        }
    }
    let canary = make(
        Path::new(CANARY),
        "bind",
        &context.host.canary_source,
        &["bind", "private", "nosuid", "nodev", "noexec", "ro"],
    )?;
    mounts.list.push(canary); // without a rule: opening it must fail
    if context.init == InitRule::Small {
        let options = ["bind", "private", "nosuid", "nodev", "exec", "ro"];
        mounts.add(
            make(Path::new(INIT), "bind", &context.host.init_source, &options)?,
            PathAccess::ReadExecute,
        );
    }
    Ok(mounts)
}

fn read(index: usize, mount: &Mount, context: &Context<'_>) -> Result<Asked, Refusal> {
    let field = format!("mounts[{index}]");
    let mut rest = mount.clone();
    let destination = std::mem::take(rest.destination_mut());
    let kind = rest.typ_mut().take();
    let source = rest.source_mut().take();
    let options = rest.options_mut().take();
    let uid_mappings = rest.uid_mappings_mut().take();
    let gid_mappings = rest.gid_mappings_mut().take();
    nothing_left(&field, &rest, r#"{"destination":""}"#)?;
    let mappings = [uid_mappings.as_deref(), gid_mappings.as_deref()];
    user_namespace::judge_mount(&field, mappings, context.user_namespace)?;

    let destination = path::normal(&destination)
        .filter(|destination| destination.parent().is_some())
        .ok_or_else(|| bad_path(&field, "destination", &destination))?;
    let options = Options::read(&field, options.as_deref().unwrap_or_default())?;
    let kind = kind.unwrap_or_default();
    // libcontainer binds where the type or an option says so; with one of them alone runtimes differ.
    let options = Options { bind: options.bind || kind == "bind", ..options };
    let source = match source {
        Some(source) if options.bind => {
            Some(path::normal(&source).ok_or_else(|| bad_path(&field, "source", &source))?)
        }
        other => other,
    };
    Ok(Asked { field, destination, kind, source, options })
}

fn bad_path(field: &str, what: &str, path: &Path) -> Refusal {
    refuse(
        Rule::Mounts,
        &format!("{field}.{what}"),
        format!("{:?}", short(&path.to_string_lossy())),
        "a path here is absolute, without \"..\" or control characters, and a destination is not the root",
        "correct the path",
    )
}

/// containerd 1.6 leaves its default tmpfs in a sandbox's list and binds the pod's own over it.
fn without_covered_shm(mut asked: Vec<Asked>) -> Vec<Asked> {
    let shm = Path::new("/dev/shm");
    let bound = asked.iter().rposition(|mount| mount.options.bind && mount.destination == shm);
    let covered = asked.iter().position(|mount| mount.kind == "tmpfs" && mount.destination == shm);
    if let (Some(covered), Some(bound)) = (covered, bound)
        && covered < bound
    {
        asked.remove(covered);
    }
    asked
}

/// Refuses the same destination twice, and one that a later mount would hide.
fn none_hides_another(asked: &[Asked]) -> Result<(), Refusal> {
    for (index, later) in asked.iter().enumerate() {
        let hidden =
            asked[..index].iter().find(|earlier| earlier.destination.starts_with(&later.destination));
        if let Some(hidden) = hidden {
            return Err(refuse(
                Rule::Mounts,
                &later.field,
                short(&later.destination.to_string_lossy()),
                &format!("it would hide {} ({})", hidden.field, short(&hidden.destination.to_string_lossy())),
                "mount each place once, outer directories first",
            ));
        }
    }
    Ok(())
}

/// Image volumes with the container's label for files: containerd would have the host's mount relabelled, whose layers
/// are not written to here.
pub(crate) fn labelled(volumes: &[ImageVolume], linux: &Linux) -> Vec<ImageVolume> {
    let mut volumes = volumes.to_vec();
    if let Some(label) = linux.mount_label().as_deref().filter(|label| !label.is_empty()) {
        for volume in volumes.iter_mut().filter(|volume| volume.layers.kind == "overlay") {
            volume.layers.options.push(format!("context=\"{label}\""));
        }
    }
    volumes
}

/// A mount of the plan.
fn make(destination: &Path, kind: &str, source: &Path, options: &[&str]) -> Result<Mount, Refusal> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(|_| refuse_unsupported("mounts"))
}

/// Records what became of one mount.
fn record(changes: &mut Changes, destination: &Path, what: &str, reason: &'static str) {
    changes.record(Section::Mounts, format!("{}: {what}", destination.display()), reason);
}

#[cfg(test)]
mod tests;
