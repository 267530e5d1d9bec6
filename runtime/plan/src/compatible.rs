//! The compatible level: the request's own word, as runc would take it, where policy grants it by name.
//!
//! What stays: the image's own gates, the exec gate, hooks that policy names, the limits on how much a request may
//! bring, a control group of its own, and no field is ignored: what this runtime cannot do as runc does is refused.
//!
//! What is changed all the same, because the runtime's own shape demands it, is in [`crate::Plan::changes`].

mod annotations;
mod devices;
mod mounts;
mod namespaces;
mod process;

use std::path::{Component, Path};

use bulkhead_model::{
    CompatibleSpec, ConfineSpec, Confinement, CreateRequest, ExecRequest, IdentityRule, ImageVolume,
    InitRule, Level, MemfdRule, Refusal, RootRule, Rule,
};
use oci_spec::runtime::{Linux, LinuxResources, LinuxSeccomp};

use crate::{
    ExecPlan, Plan,
    change::Changes,
    facts::HostFacts,
    hooks, labels,
    limits::{MASKS_MAX, PATH_BYTES_MAX, at_most, no_nul},
    refuse::{refuse, short},
    resources, spec, user_namespace,
};

/// A request to a plan.
pub(crate) fn plan(
    request: &CreateRequest,
    confinement: &Confinement,
    image_volumes: &[ImageVolume],
    host: &HostFacts,
) -> Result<Plan, Refusal> {
    let mut changes = Changes::default();
    let asked = &request.spec;
    spec::known_fields_only(asked)?;
    spec::judge_version(asked.version())?;
    spec::judge_names(asked)?;
    spec::judge_annotations(asked)?;
    let linux = asked.linux().as_ref().ok_or_else(|| spec::missing("linux"))?;
    let process = asked.process().as_ref().ok_or_else(|| spec::missing("process"))?;
    spec::judge_linux(&without_namespaces(linux))?;
    let hooks = hooks::judge(asked.hooks().as_ref(), &confinement.hooks, confinement.level)?;
    let user_namespace = namespaces::as_asked(linux)?;
    let root = spec::root(request, RootRule::Writable, &mut changes)?;
    let (process, privileges) = process::as_asked(process, None, host, &mut changes)?;
    user_namespace::judge_ids(user_namespace.as_ref(), &privileges.credentials)?;
    let list = asked.mounts().as_deref().unwrap_or_default();
    let mounts::AsAsked { mounts, copied_up } =
        mounts::as_asked(list, user_namespace.as_ref(), host, &mut changes)?;
    resources::judge_path(linux.cgroups_path().as_deref())?;
    annotations::judge(asked, linux.cgroups_path().as_deref())?;
    judge_paths(linux)?;
    let seccomp = linux.seccomp().as_ref().map(filter).transpose()?;

    let mut as_asked = asked.clone();
    let mut as_asked_linux = linux.clone();
    as_asked_linux
        .set_resources(Some(resources_with_devices(linux.resources().as_ref(), &mut changes)?))
        .set_rootfs_propagation(propagation(linux)?)
        .set_mount_label(labels::selinux("linux.mountLabel", linux.mount_label().as_deref(), host.modules)?)
        .set_personality(None);
    as_asked
        .set_root(Some(root.section))
        .set_mounts(Some(mounts))
        .set_process(Some(process))
        .set_hooks(hooks)
        .set_linux(Some(as_asked_linux));
    Ok(Plan {
        spec: as_asked,
        confine: ConfineSpec::Compatible(CompatibleSpec {
            credentials: privileges.credentials,
            capabilities: privileges.capabilities,
            no_new_privileges: privileges.no_new_privileges,
            seccomp,
            selinux_label: privileges.selinux_label,
            user_namespace,
        }),
        changes: changes.into_vec(),
        memfd: MemfdRule::Allowed,
        profile: None,
        host: HostFacts { mountinfo: None, profile: None, ..host.clone() },
        source_roots: Vec::new(),
        image_volumes: crate::mounts::labelled(image_volumes, linux),
        copied_up,
        exec_filter: crate::seccomp::LastFilter::default(),
        init: InitRule::Program,
        identity: IdentityRule::AsIs,
    })
}

/// One more process. `now` is the level that policy grants at this moment.
pub(crate) fn plan_exec(
    request: &ExecRequest,
    plan: &Plan,
    created: &CompatibleSpec,
    now: Level,
) -> Result<ExecPlan, Refusal> {
    match now {
        Level::Compatible => {}
        Level::Hardened => {
            return Err(Refusal::new(
                Rule::Policy,
                format!("container {} was created at level compatible", request.container),
                "policy does not grant its image and tenant that level any more, and an exec would have what the \
                 container was given then",
                "create the container anew",
            ));
        }
    }
    let mut changes = Changes::default();
    let init = plan.spec().process().as_ref();
    let (process, privileges) = process::as_asked(&request.process, init, &plan.host, &mut changes)?;
    user_namespace::judge_ids(created.user_namespace.as_ref(), &privileges.credentials)?;
    let confine = ConfineSpec::Compatible(CompatibleSpec {
        credentials: privileges.credentials,
        capabilities: privileges.capabilities,
        no_new_privileges: privileges.no_new_privileges,
        seccomp: created.seccomp.clone(),
        selinux_label: privileges.selinux_label.or_else(|| created.selinux_label.clone()),
        user_namespace: created.user_namespace.clone(),
    });
    Ok(ExecPlan { process, confine, changes: changes.into_vec() })
}

fn filter(section: &LinuxSeccomp) -> Result<bulkhead_model::SeccompFilter, Refusal> {
    bulkhead_profiles::request_filter(section).map_err(|error| {
        Refusal::new(
            Rule::Seccomp,
            "linux.seccomp cannot be enforced exactly",
            error.to_string(),
            "correct the profile, or leave it out",
        )
    })
}

/// The rest of the section: namespaces are judged with their mappings and offsets.
fn without_namespaces(linux: &Linux) -> Linux {
    let mut rest = linux.clone();
    rest.set_namespaces(None).set_uid_mappings(None).set_gid_mappings(None).set_time_offsets(None);
    rest
}

fn judge_paths(linux: &Linux) -> Result<(), Refusal> {
    for (field, paths) in
        [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())]
    {
        let paths = paths.as_deref().unwrap_or_default();
        at_most(field, paths.len(), MASKS_MAX, "paths")?;
        for path in paths {
            no_nul(field, path)?;
            at_most(field, path.len(), PATH_BYTES_MAX, "bytes in one path")?;
            let climbs = Path::new(path).components().any(|part| part == Component::ParentDir);
            if !path.starts_with('/') || climbs {
                let why = "a path here is absolute, without \"..\"";
                return Err(refuse(Rule::Spec, field, format!("{:?}", short(path)), why, "correct the path"));
            }
        }
    }
    Ok(())
}

fn propagation(linux: &Linux) -> Result<Option<String>, Refusal> {
    const KNOWN: [&str; 8] =
        ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(None),
        Some(word) if KNOWN.contains(&word) => Ok(Some(word.to_owned())),
        Some(word) => {
            let why = "no kind of mount propagation has that name";
            Err(refuse(Rule::Mounts, "linux.rootfsPropagation", short(word), why, "correct it"))
        }
    }
}

/// The limits as they are asked for, with the device rules that runc comes to.
fn resources_with_devices(
    asked: Option<&LinuxResources>,
    changes: &mut Changes,
) -> Result<LinuxResources, Refusal> {
    let mut limits = asked.cloned().unwrap_or_default();
    let rules = asked.and_then(|asked| asked.devices().clone()).unwrap_or_default();
    limits.set_devices(Some(devices::as_asked(&rules, changes)?));
    Ok(limits)
}
