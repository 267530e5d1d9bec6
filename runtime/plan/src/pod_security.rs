//! Pod Security "restricted", asked of what arrives: no admission controller has seen a static pod.
//!
//! Other files of this crate refuse what cannot be made to meet it (host namespaces, host paths, added capabilities, root,
//! unsafe sysctls, devices), whatever policy says here. What they tighten instead is refused here, where policy says
//! `pod_security = "restricted"`.
//!
//! Source: Kubernetes, Pod Security Standards, "Baseline" and "Restricted"; each refusal names its control. What CRI does not
//! tell apart is taken for the looser: a seccomp profile that is not set arrives as `Unconfined` does.

use bulkhead_model::{Confinement, ContainerKind, CreateRequest, PodSecurityRule, Refusal, Rule};
use oci_spec::runtime::{Capability, Linux, LinuxSeccompAction, Process};

use crate::{
    facts::HostFacts,
    refuse::{refuse, short},
};

/// What Kubernetes masks where procMount is `Default`: of all its releases.
///
/// Source: `defaultMaskedPaths`, kubernetes pkg/securitycontext/util.go.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// Source: `defaultReadonlyPaths`, same file.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// SELinux types that a pod may name.
///
/// Source: Pod Security Standards, "SELinux".
const SELINUX_TYPES: [&str; 4] = ["container_engine_t", "container_init_t", "container_kvm_t", "container_t"];

/// Refuses a pod's container that does not meet "restricted", where policy says so.
pub(crate) fn judge(
    request: &CreateRequest,
    linux: &Linux,
    process: &Process,
    confinement: &Confinement,
    host: &HostFacts,
) -> Result<(), Refusal> {
    match (confinement.pod_security, &request.kind) {
        (PodSecurityRule::Restricted, ContainerKind::InSandbox { .. }) => {}
        // The sandbox is containerd's own.
        (PodSecurityRule::Restricted, ContainerKind::Sandbox | ContainerKind::Plain)
        | (PodSecurityRule::Tightened, _) => return Ok(()),
    }
    non_root(process)?;
    capabilities(process)?;
    if process.no_new_privileges() != Some(true) {
        return Err(broken(
            Rule::Capabilities,
            "process.noNewPrivileges",
            "false",
            "Privilege Escalation",
            "set securityContext.allowPrivilegeEscalation: false",
        ));
    }
    seccomp(linux)?;
    proc_mount("linux.maskedPaths", linux.masked_paths().as_deref(), &MASKED)?;
    proc_mount("linux.readonlyPaths", linux.readonly_paths().as_deref(), &READ_ONLY)?;
    if host.modules.apparmor
        && matches!(process.apparmor_profile().as_deref(), None | Some("" | "unconfined"))
    {
        return Err(broken(
            Rule::Spec,
            "process.apparmorProfile",
            "none (Unconfined)",
            "AppArmor",
            "set securityContext.appArmorProfile: {type: RuntimeDefault}",
        ));
    }
    selinux(process)
}

fn non_root(process: &Process) -> Result<(), Refusal> {
    if process.user().uid() != 0 {
        return Ok(());
    }
    let fix = "set securityContext.runAsNonRoot: true and runAsUser to another uid";
    Err(broken(Rule::User, "process.user.uid", "uid 0 (root)", "Running as Non-root", fix))
}

fn capabilities(process: &Process) -> Result<(), Refusal> {
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    let mut kept: Vec<String> = bounding
        .into_iter()
        .flatten()
        .filter(|capability| **capability != Capability::NetBindService)
        .map(|capability| format!("CAP_{capability}"))
        .collect();
    kept.sort_unstable();
    let Some(first) = kept.first() else { return Ok(()) };
    let found = match kept.len() - 1 {
        0 => first.clone(),
        more => format!("{first} and {more} more"),
    };
    let fix = "set securityContext.capabilities.drop: [ALL], and add nothing but NET_BIND_SERVICE";
    Err(broken(Rule::Capabilities, "process.capabilities.bounding", &found, "Capabilities", fix))
}

fn seccomp(linux: &Linux) -> Result<(), Refusal> {
    let found = match linux.seccomp() {
        None => "no profile (Unconfined)",
        Some(profile) if profile.default_action() == LinuxSeccompAction::ScmpActAllow => {
            "a profile that allows what it does not name"
        }
        Some(_) => return Ok(()),
    };
    let fix = "set securityContext.seccompProfile: {type: RuntimeDefault}";
    Err(broken(Rule::Seccomp, "linux.seccomp", found, "Seccomp", fix))
}

fn proc_mount(field: &str, asked: Option<&[String]>, wanted: &[&str]) -> Result<(), Refusal> {
    let asked = asked.unwrap_or_default();
    let Some(missing) = wanted.iter().find(|path| !asked.iter().any(|asked| asked == *path)) else {
        return Ok(());
    };
    let found = format!("{missing} as it is (Unmasked)");
    let fix = "leave securityContext.procMount out, or set it to Default";
    Err(broken(Rule::Spec, field, &found, "/proc Mount Type", fix))
}

/// `user:role:type[:level]`.
fn selinux(process: &Process) -> Result<(), Refusal> {
    let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) else {
        return Ok(());
    };
    let mut parts = label.split(':');
    let (user, role, typ) = (parts.next(), parts.next(), parts.next());
    if user == Some("system_u")
        && role == Some("system_r")
        && typ.is_some_and(|typ| SELINUX_TYPES.contains(&typ))
    {
        return Ok(());
    }
    let fix = "leave user, role and type out of securityContext.seLinuxOptions";
    Err(broken(Rule::Spec, "process.selinuxLabel", &short(label), "SELinux", fix))
}

fn broken(rule: Rule, field: &str, found: &str, control: &str, fix: &str) -> Refusal {
    let why = format!(
        "policy says pod_security = \"restricted\", and its control \"{control}\" does not allow that"
    );
    refuse(rule, field, found, &why, fix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oci_spec::runtime::{LinuxSeccompBuilder, Spec};

    use super::*;
    use crate::{SecurityModules, example};

    const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";

    /// A container of a pod that meets "restricted".
    fn restricted() -> CreateRequest {
        let mut request = example::request();
        request.kind = ContainerKind::InSandbox { sandbox: "s1".parse().unwrap() };
        let profile =
            LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno).build().unwrap();
        let texts = |list: &[&str]| Some(list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        edit(&mut request, |spec| {
            let process = spec.process_mut().as_mut().unwrap();
            process
                .set_no_new_privileges(Some(true))
                .set_capabilities(Some(crate::capabilities::none()))
                .set_apparmor_profile(Some("cri-containerd.apparmor.d".to_owned()))
                .set_selinux_label(Some(LABEL.to_owned()));
            let linux = spec.linux_mut().as_mut().unwrap();
            linux
                .set_seccomp(Some(profile))
                .set_masked_paths(texts(&MASKED))
                .set_readonly_paths(texts(&READ_ONLY));
        });
        request
    }

    fn edit(request: &mut CreateRequest, change: impl FnOnce(&mut Spec)) {
        change(&mut request.spec);
    }

    fn run(request: &CreateRequest, rule: PodSecurityRule, host: &HostFacts) -> Result<(), Refusal> {
        let confinement = Confinement { pod_security: rule, ..example::confinement() };
        let (linux, process) = (request.spec.linux().clone(), request.spec.process().clone());
        judge(request, &linux.unwrap(), &process.unwrap(), &confinement, host)
    }

    fn process(spec: &mut Spec) -> &mut Process {
        spec.process_mut().as_mut().unwrap()
    }

    fn linux(spec: &mut Spec) -> &mut Linux {
        spec.linux_mut().as_mut().unwrap()
    }

    #[test]
    fn container_that_meets_restricted_passes_and_may_bind_low_ports() {
        let mut request = restricted();
        run(&request, PodSecurityRule::Restricted, &example::host()).unwrap();
        let mut sets = crate::capabilities::none();
        sets.set_bounding(Some([Capability::NetBindService].into()));
        edit(&mut request, |spec| {
            process(spec).set_capabilities(Some(sets));
        });
        run(&request, PodSecurityRule::Restricted, &example::host()).unwrap();
    }

    #[test]
    fn each_control_that_is_not_met_is_refused_by_its_name_and_tightened_where_policy_says_so() {
        type Edit = fn(&mut Spec);
        let edits: [(&str, Edit); 9] = [
            ("Running as Non-root", |spec| {
                process(spec).user_mut().set_uid(0);
            }),
            ("Capabilities", |spec| {
                let mut sets = crate::capabilities::none();
                sets.set_bounding(Some([Capability::Chown, Capability::NetBindService].into()));
                process(spec).set_capabilities(Some(sets));
            }),
            ("Privilege Escalation", |spec| {
                process(spec).set_no_new_privileges(Some(false));
            }),
            ("Seccomp", |spec| {
                linux(spec).set_seccomp(None);
            }),
            ("Seccomp", |spec| {
                let profile = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActAllow);
                linux(spec).set_seccomp(Some(profile.build().unwrap()));
            }),
            ("/proc Mount Type", |spec| {
                linux(spec).set_masked_paths(Some(Vec::new()));
            }),
            ("/proc Mount Type", |spec| {
                linux(spec).set_readonly_paths(None);
            }),
            ("AppArmor", |spec| {
                process(spec).set_apparmor_profile(Some("unconfined".to_owned()));
            }),
            ("SELinux", |spec| {
                process(spec).set_selinux_label(Some("system_u:system_r:spc_t:s0".to_owned()));
            }),
        ];
        for (control, change) in edits {
            let mut request = restricted();
            edit(&mut request, change);
            let refusal = run(&request, PodSecurityRule::Restricted, &example::host()).unwrap_err();
            assert!(refusal.why.contains(&format!("\"{control}\"")), "{control}: {refusal}");
            run(&request, PodSecurityRule::Tightened, &example::host()).unwrap();
        }
    }

    #[test]
    fn apparmor_is_asked_for_only_where_the_kernel_has_it() {
        let mut request = restricted();
        edit(&mut request, |spec| {
            process(spec).set_apparmor_profile(None);
        });
        let without =
            HostFacts { modules: SecurityModules { apparmor: false, selinux: false }, ..example::host() };
        run(&request, PodSecurityRule::Restricted, &without).unwrap();
        assert!(run(&request, PodSecurityRule::Restricted, &example::host()).is_err());
    }

    #[test]
    fn sandbox_and_what_is_outside_of_pods_are_not_asked() {
        for kind in [ContainerKind::Sandbox, ContainerKind::Plain] {
            let mut request = restricted();
            request.kind = kind;
            edit(&mut request, |spec| {
                linux(spec).set_seccomp(None);
            });
            run(&request, PodSecurityRule::Restricted, &example::host()).unwrap();
        }
    }
}
