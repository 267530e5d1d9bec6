//! The top of config.json: each section to its judge, and what no section may bring.

use std::path::Path;

use bulkhead_model::{
    ConfineSpec, Confinement, ContainerKind, CreateRequest, HardenedSpec, IdentityRule, Ids, ImageVolume,
    InitRule, Refusal, RootRule, Rule,
};
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxPersonalityDomain, Root, RootBuilder, Spec};

use crate::{
    INIT, Plan,
    change::{Changes, Section},
    devices,
    facts::HostFacts,
    files, hooks, labels,
    landlock::{self, Console, Ground},
    limits::{ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX, HOSTNAME_BYTES_MAX, at_most, no_nul},
    masks, mounts, namespaces, pod_security, process,
    refuse::{absent, nothing_left, refuse, refuse_unsupported, short},
    resources, seccomp, sysctl, user_namespace,
};

/// The directory of the root file system, relative to the bundle.
///
/// Source: `relativeRootfsPath`, containerd internal/cri/server; `WithRootFSPath("rootfs")` of ctr.
const ROOTFS: &str = "rootfs";

/// A request to a plan.
pub(crate) fn plan(
    request: &CreateRequest,
    confinement: &Confinement,
    image_volumes: &[ImageVolume],
    host: &HostFacts,
) -> Result<Plan, Refusal> {
    let mut changes = Changes::default();
    let spec = &request.spec;
    known_fields_only(spec)?;
    judge_version(spec.version())?;
    judge_names(spec)?;
    judge_annotations(spec)?;
    let names: Vec<&str> = spec.annotations().iter().flatten().map(|(name, _)| name.as_str()).collect();
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    let asked = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    judge_linux(&without_user_namespace(linux))?;
    let user_namespace =
        user_namespace::decide(linux, confinement.user_namespace, (&request.kind, &request.id), host)?;
    devices::judge(linux.devices().as_ref(), &names)?;
    pod_security::judge(request, linux, asked, confinement, host)?;
    let hooks = hooks::judge(spec.hooks().as_ref(), &confinement.hooks, confinement.level)?;
    let namespaces = namespaces::harden(
        without_user_namespace(linux).namespaces().as_ref(),
        &request.kind,
        host,
        &mut changes,
    )?;
    let process = process::harden(asked, confinement, host, &mut changes)?;
    user_namespace::judge_ids(user_namespace.as_ref(), &process.credentials)?;
    if let (Some(namespace), None) = (&user_namespace, linux.uid_mappings()) {
        let what = format!("root is {} on the node", namespace.on_node(Ids::Users, 0).unwrap_or_default());
        changes.record(Section::Namespaces, what, "policy gives the pod a user namespace");
    }
    let root = root(request, confinement.root, &mut changes)?;
    // pause does nothing but wait for orphans.
    let init = match request.kind {
        ContainerKind::Sandbox => InitRule::Program,
        ContainerKind::Plain | ContainerKind::InSandbox { .. } => confinement.init,
    };
    if init == InitRule::Small {
        changes.record(Section::Process, INIT, "policy: it hands signals on and waits for orphans");
    }
    let context = mounts::Context {
        request,
        confinement,
        host,
        image_volumes,
        user_namespace: user_namespace.as_ref(),
        uid: process.credentials.uid,
        gid: process.credentials.gid,
        init,
    };
    let mounts = mounts::harden(spec.mounts().as_ref(), &context, &mut changes)?;
    let resources = resources::harden(linux.resources().as_ref(), confinement, &mut changes)?;
    resources::judge_path(linux.cgroups_path().as_deref())?;
    let sysctls = sysctl::harden(linux.sysctl().as_ref(), &request.kind, &process.asked, &mut changes)?;
    let masked = masks::masked(linux.masked_paths().as_ref(), &mut changes)?;
    let read_only = masks::read_only(linux.readonly_paths().as_ref(), &mut changes)?;
    let profile = seccomp::chosen(&confinement.seccomp, host.profile.as_ref(), &mut changes)?.cloned();
    seccomp::keeps_pin(&confinement.seccomp, profile.as_deref(), init)?;
    let filter =
        seccomp::filter(confinement.memfd, profile.as_deref(), init, linux.seccomp().as_ref(), &mut changes)?;
    let console = match process.process.terminal() {
        Some(true) => Console::Terminal,
        Some(false) | None => Console::Absent,
    };
    let ground = Ground {
        abi: host.landlock_abi,
        root: root.rule,
        console,
        mounts: mounts.rules,
        files: files::chosen(&confinement.landlock.files, root.rule, host.profile.as_ref(), &mut changes)?,
        exposed: &host.exposed,
    };
    let landlock = landlock::ruleset(&confinement.landlock, ground)?;

    let mut hardened_linux = linux.clone();
    hardened_linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(resources))
        .set_sysctl(Some(sysctls))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(read_only))
        .set_rootfs_propagation(Some(propagation(linux, &mut changes)?))
        .set_devices(None)
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_mount_label(labels::selinux("linux.mountLabel", linux.mount_label().as_deref(), host.modules)?)
        .set_intel_rdt(None)
        .set_memory_policy(None)
        .set_personality(None)
        .set_time_offsets(None)
        .set_net_devices(None);
    let mut hardened = spec.clone();
    hardened
        .set_root(Some(root.section))
        .set_mounts(Some(mounts.list))
        .set_process(Some(process.process))
        .set_hooks(hooks)
        .set_annotations(None)
        .set_linux(Some(hardened_linux))
        .set_solaris(None)
        .set_windows(None)
        .set_vm(None)
        .set_zos(None);
    if !names.is_empty() {
        let what = format!("{} annotations left out", names.len());
        changes.record(Section::Spec, what, "no annotation steers the runtime");
    }
    let confine = ConfineSpec::Hardened(HardenedSpec {
        credentials: process.credentials,
        root_read_only: root.rule == RootRule::ReadOnly,
        landlock,
        seccomp: filter.programs,
        denied_calls: filter.denied_calls,
        selinux_label: process.selinux_label,
        user_namespace,
    });
    Ok(Plan {
        spec: hardened,
        confine,
        changes: changes.into_vec(),
        memfd: confinement.memfd,
        profile,
        host: HostFacts { mountinfo: None, profile: None, ..host.clone() },
        source_roots: [&host.containerd_root, &host.containerd_state, &host.kubelet_root]
            .into_iter()
            .chain(confinement.host_paths.iter().map(|entry| &entry.path))
            .cloned()
            .collect(),
        image_volumes: mounts::labelled(image_volumes, linux),
        copied_up: mounts.copied_up,
        exec_filter: seccomp::LastFilter::default(),
        init,
        identity: match request.kind {
            ContainerKind::Sandbox => IdentityRule::AsIs,
            ContainerKind::Plain | ContainerKind::InSandbox { .. } => confinement.identity,
        },
    })
}

/// The rest of the section: what is said of a user namespace is judged by itself.
fn without_user_namespace(linux: &Linux) -> Linux {
    let mut rest = linux.clone();
    let mut namespaces = rest.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::User);
    rest.set_namespaces(Some(namespaces)).set_uid_mappings(None).set_gid_mappings(None);
    rest
}

#[allow(deprecated)] // two fields of oci-spec that no specification has: still read, to be refused.
pub(crate) fn known_fields_only(spec: &Spec) -> Result<(), Refusal> {
    let mut rest = spec.clone();
    rest.set_version(String::new())
        .set_root(None)
        .set_mounts(None)
        .set_process(None)
        .set_hostname(None)
        .set_domainname(None)
        .set_hooks(None)
        .set_annotations(None)
        .set_linux(None);
    for (field, set) in [
        ("solaris", rest.solaris_mut().take().is_some()),
        ("windows", rest.windows_mut().take().is_some()),
        ("vm", rest.vm_mut().take().is_some()),
        ("zos", rest.zos_mut().take().is_some()),
        ("uidMappings", rest.uid_mappings_mut().take().is_some_and(|list| !list.is_empty())),
        ("gidMappings", rest.gid_mappings_mut().take().is_some_and(|list| !list.is_empty())),
    ] {
        if set {
            return Err(refuse_unsupported(field));
        }
    }
    nothing_left("config.json", &rest, r#"{"ociVersion":""}"#)
}

/// Refuses the parts of `linux` that are never applied. Mappings are judged elsewhere, and are not in it.
pub(crate) fn judge_linux(linux: &Linux) -> Result<(), Refusal> {
    let mut rest = linux.clone();
    rest.set_sysctl(None)
        .set_resources(None)
        .set_cgroups_path(None)
        .set_namespaces(None)
        .set_devices(None)
        .set_seccomp(None)
        .set_rootfs_propagation(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_mount_label(None);
    absent("linux.netDevices", &rest.net_devices_mut().take())?;
    absent("linux.timeOffsets", &rest.time_offsets_mut().take())?;
    if rest.intel_rdt_mut().take().is_some() {
        return Err(refuse_unsupported("linux.intelRdt"));
    }
    if rest.memory_policy_mut().take().is_some() {
        return Err(refuse_unsupported("linux.memoryPolicy"));
    }
    if let Some(personality) = rest.personality_mut().take() {
        // LINUX without flags is what every process has.
        let flags = personality.flags().as_ref().is_some_and(|flags| !flags.is_empty());
        match personality.domain() {
            LinuxPersonalityDomain::PerLinux if !flags => {}
            LinuxPersonalityDomain::PerLinux | LinuxPersonalityDomain::PerLinux32 => {
                return Err(refuse_unsupported("linux.personality"));
            }
        }
    }
    nothing_left("linux", &rest, "{}")
}

pub(crate) fn judge_version(version: &str) -> Result<(), Refusal> {
    if version.starts_with("1.") && version.len() <= 64 {
        return Ok(());
    }
    Err(refuse(
        Rule::Spec,
        "ociVersion",
        format!("{:?}", short(version)),
        "1.x of the OCI runtime specification is understood",
        "use a containerd that writes it",
    ))
}

pub(crate) fn judge_names(spec: &Spec) -> Result<(), Refusal> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let name = name.as_deref().unwrap_or_default();
        no_nul(field, name)?;
        at_most(field, name.len(), HOSTNAME_BYTES_MAX, "bytes")?;
        if name.chars().any(char::is_control) {
            let why = "a name is printed in prompts and logs, and has no control characters";
            return Err(refuse(Rule::Spec, field, format!("{:?}", short(name)), why, "correct the name"));
        }
    }
    Ok(())
}

pub(crate) fn judge_annotations(spec: &Spec) -> Result<(), Refusal> {
    let annotations = spec.annotations().iter().flatten();
    at_most("annotations", annotations.clone().count(), ANNOTATIONS_MAX, "entries")?;
    let bytes = annotations.map(|(name, value)| name.len() + value.len()).sum();
    at_most("annotations", bytes, ANNOTATION_BYTES_MAX, "bytes")
}

/// `root`, and whether it may change.
pub(crate) struct HardenedRoot {
    pub(crate) section: Root,
    pub(crate) rule: RootRule,
}

pub(crate) fn root(
    request: &CreateRequest,
    policy: RootRule,
    changes: &mut Changes,
) -> Result<HardenedRoot, Refusal> {
    let asked = request.spec.root().as_ref().ok_or_else(|| missing("root"))?;
    let mut rest = asked.clone();
    rest.set_path("".into()).set_readonly(None);
    nothing_left("root", &rest, r#"{"path":""}"#)?;
    if asked.path() != Path::new(ROOTFS) && *asked.path() != request.bundle.join(ROOTFS) {
        return Err(refuse(
            Rule::Rootfs,
            "root.path",
            short(&asked.path().to_string_lossy()),
            "the root file system is the container's snapshot and no directory of the host",
            "run an image (ctr: without --rootfs)",
        ));
    }
    let read_only = asked.readonly().unwrap_or(false);
    let rule = match policy {
        RootRule::ReadOnly => RootRule::ReadOnly,
        RootRule::Writable if read_only => RootRule::ReadOnly,
        RootRule::Writable => RootRule::Writable,
    };
    if !read_only && rule == RootRule::ReadOnly {
        changes.record(
            Section::Root,
            "read-only",
            "what runs is what was verified; writable places are tmpfs and volumes",
        );
    }
    let section = RootBuilder::default()
        .path(ROOTFS)
        .readonly(rule == RootRule::ReadOnly)
        .build()
        .map_err(|_| refuse_unsupported("root"))?;
    Ok(HardenedRoot { section, rule })
}

fn propagation(linux: &Linux, changes: &mut Changes) -> Result<String, Refusal> {
    const PRIVATE: &str = "private";
    let asked = linux.rootfs_propagation().as_deref().unwrap_or_default();
    match asked {
        "" | PRIVATE | "rprivate" => {}
        "slave" | "rslave" | "unbindable" | "runbindable" => {
            let reason = "mounts that the host makes later stay out";
            changes.record(Section::Mounts, format!("rootfsPropagation {asked} becomes private"), reason);
        }
        _ => {
            return Err(refuse(
                Rule::Mounts,
                "linux.rootfsPropagation",
                short(asked),
                "mounts made in the container would appear on the host",
                "drop mountPropagation: Bidirectional from the volume mounts",
            ));
        }
    }
    Ok(PRIVATE.to_owned())
}

pub(crate) fn missing(section: &str) -> Refusal {
    Refusal::new(
        Rule::Spec,
        format!("config.json has no {section} section"),
        "what is missing there would be the runtime's own",
        "use a client that writes a whole config.json",
    )
}
