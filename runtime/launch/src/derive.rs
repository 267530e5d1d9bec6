//! The spec that a worker gets: the hardened one, less what comes to it in another form. libcontainer gets less still.

use std::path::{Path, PathBuf};

use bulkhead_model::{ConfineSpec, HardenedSpec};
use oci_spec::runtime::{Capabilities, LinuxBuilder, LinuxCapabilities, Process, RootBuilder, Spec};

use crate::{LaunchError, limits::Ceilings};

/// Where the root file system is mounted, in the worker's mount namespace.
pub(crate) fn rootfs_dir(task_dir: &Path) -> PathBuf {
    task_dir.join("rootfs")
}

/// The spec of a container, for libcontainer and for what is done in its place.
pub(crate) fn spec(
    spec: &Spec,
    confine: &ConfineSpec,
    task_dir: &Path,
    ceilings: &Ceilings,
) -> Result<Spec, LaunchError> {
    let mut spec = spec.clone();
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let root = RootBuilder::default()
        .path(rootfs_dir(task_dir))
        .readonly(read_only)
        .build()
        .map_err(|_| LaunchError::Plan("root"))?;
    spec.set_root(Some(root));
    let mut process = spec.process().clone().ok_or(LaunchError::Plan("no process"))?;
    derive_process(&mut process, confine, ceilings)?;
    spec.set_process(Some(process));
    let mut linux = spec.linux().clone().ok_or(LaunchError::Plan("no linux section"))?;
    // Control groups and their limits are set by `bulkhead_cgroup`; the seccomp programs come in ConfineSpec
    // (libcontainer, built without libseccomp, would ignore the section).
    linux.set_resources(None).set_cgroups_path(None).set_seccomp(None);
    match confine {
        ConfineSpec::Hardened(_) => {}
        // As slaves mounts stay as they were cloned; `/` comes later.
        ConfineSpec::Compatible(_) => {
            linux.set_rootfs_propagation(None);
        }
    }
    spec.set_linux(Some(linux));
    Ok(spec)
}

/// The spec of one more process: it brings nothing but the process.
pub(crate) fn exec_spec(
    process: &Process,
    confine: &ConfineSpec,
    ceilings: &Ceilings,
) -> Result<Spec, LaunchError> {
    let mut process = process.clone();
    derive_process(&mut process, confine, ceilings)?;
    let mut linux = LinuxBuilder::default().build().map_err(|_| LaunchError::Plan("linux"))?;
    // The builder has defaults of its own: an exec gets no namespace but the container's.
    linux.set_namespaces(None).set_resources(None).set_masked_paths(None).set_readonly_paths(None);
    let mut spec = Spec::default();
    spec.set_process(Some(process)).set_linux(Some(linux)).set_mounts(None).set_hostname(None);
    Ok(spec)
}

fn derive_process(
    process: &mut Process,
    confine: &ConfineSpec,
    ceilings: &Ceilings,
) -> Result<(), LaunchError> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(LaunchError::Plan("process.args is empty"));
    }
    // Written by the worker, clamped.
    process.set_oom_score_adj(None);
    match confine {
        // Ids and capabilities of a user namespace come with it, after libcontainer.
        ConfineSpec::Hardened(HardenedSpec { user_namespace: Some(_), .. }) => {
            let mut root = process.user().clone();
            root.set_uid(0).set_gid(0).set_additional_gids(None);
            process.set_user(root).set_capabilities(None).set_no_new_privileges(Some(true));
        }
        ConfineSpec::Hardened(_) => {
            process.set_capabilities(Some(no_capabilities())).set_no_new_privileges(Some(true));
        }
        // An absent section is left whole by libcontainer: a filter without no_new_privs is loaded before the sets are
        // cut down, which `bulkhead_confine` does then.
        ConfineSpec::Compatible(spec) => {
            if spec.user_namespace.is_some() {
                // As above: they come with it.
                let mut root = process.user().clone();
                root.set_uid(0).set_gid(0).set_additional_gids(None);
                process.set_user(root);
            }
            process.set_capabilities(None);
        }
    }
    if let Some(rlimits) = process.rlimits() {
        process.set_rlimits(Some(ceilings.clamp(rlimits)?));
    }
    // Without HOME libcontainer calls getpwuid(3) inside the container, which loads NSS libraries *of the
    // image* into the runtime before it has confined itself. The executor takes the placeholder out again.
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
        env.push(format!("HOME={HOME_PLACEHOLDER}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// Five empty sets: absent ones would be kept whole by libcontainer.
fn no_capabilities() -> LinuxCapabilities {
    let none = Some(Capabilities::new());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(none.clone())
        .set_effective(none.clone())
        .set_permitted(none.clone())
        .set_inheritable(none.clone())
        .set_ambient(none);
    capabilities
}

/// Stands for "no HOME was given".
pub(crate) const HOME_PLACEHOLDER: &str = "/bulkhead-no-home";
