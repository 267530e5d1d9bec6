//! The whole way from a real grant to a plan, for init and exec.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;

use bulkhead_model::{
    ConfineSpec, ExecRequest, FileRules, GeneratedFiles, GeneratedProfile, ImageAccess, Interaction,
    PathAccess, Rule, TcpRule,
};
use bulkhead_plan::{CANARY, HostFacts, plan, plan_exec};
use common::{grant, host, plan_of, request, spec};
use oci_spec::runtime::{Capability, Process, Spec};

const EXEC: &str = "exec = [\"id\", \"sh *\"]";

fn with(keys: &str, edit: impl FnOnce(&mut Spec)) -> Result<bulkhead_plan::Plan, bulkhead_model::Refusal> {
    let mut spec = spec("ctr-1.6-user");
    edit(&mut spec);
    plan_of(spec, keys)
}

fn rule(edit: impl FnOnce(&mut Spec)) -> Rule {
    with("", edit).map(|_| ()).unwrap_err().rule
}

#[test]
fn containerds_default_request_of_a_user_is_planned() {
    let plan = with("", |_| {}).unwrap();
    assert_eq!(plan.confine().credentials().uid, 1000);
    assert!(plan.confine().hardened().unwrap().root_read_only);
    assert_eq!(
        plan.confine().hardened().unwrap().landlock.image,
        ImageAccess::Whole(PathAccess::ReadExecute)
    );
    assert_eq!(plan.confine().hardened().unwrap().landlock.canary.to_str(), Some(CANARY));
    assert_eq!(plan.cgroup_path().unwrap().to_str(), Some("/default/c1"));
    assert!(plan.resources().unwrap().pids().is_some());
    assert!(!plan.confine().hardened().unwrap().seccomp.is_empty());
    assert!(!plan.changes().is_empty());
}

#[test]
fn privileged_host_network_and_root_are_refused_each_by_its_rule() {
    let refused = |name, keys| plan_of(spec(name), keys).map(|_| ()).unwrap_err();
    assert_eq!(refused("ctr-1.6-root", "").rule, Rule::User);
    assert_eq!(refused("ctr-1.6-host-network", "").rule, Rule::Namespaces);
    assert!(matches!(
        refused("ctr-1.6-privileged", "user = { force = 65532 }").rule,
        Rule::Devices | Rule::Capabilities
    ));
    assert_eq!(refused("ctr-1.6-bind", "").rule, Rule::Mounts);
    assert!(plan_of(spec("ctr-1.6-root"), "user = { force = 65532 }").is_ok());
}

#[test]
fn sections_of_the_spec_that_are_missing_are_refused() {
    type Edit = fn(&mut Spec);
    let edits: [(&str, Edit); 3] = [
        ("root", |spec| *spec.root_mut() = None),
        ("process", |spec| *spec.process_mut() = None),
        ("linux", |spec| *spec.linux_mut() = None),
    ];
    for (section, edit) in edits {
        let refusal = with("", edit).map(|_| ()).unwrap_err();
        assert!(refusal.what.contains(section), "{refusal}");
    }
}

#[test]
fn other_platforms_and_what_is_never_applied_are_refused() {
    use oci_spec::runtime::{
        LinuxIntelRdt, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityBuilder, LinuxPersonalityDomain,
        LinuxTimeOffset, Solaris, Windows,
    };
    type Edit = fn(&mut Spec);
    let edits: [(&str, Edit); 8] = [
        ("solaris", |spec| *spec.solaris_mut() = Some(Solaris::default())),
        ("windows", |spec| *spec.windows_mut() = Some(Windows::default())),
        ("intelRdt", |spec| {
            *spec.linux_mut().as_mut().unwrap().intel_rdt_mut() = Some(LinuxIntelRdt::default())
        }),
        ("memoryPolicy", |spec| {
            *spec.linux_mut().as_mut().unwrap().memory_policy_mut() = Some(LinuxMemoryPolicy::default());
        }),
        ("personality", |spec| {
            let domain = LinuxPersonalityDomain::PerLinux32;
            let personality = LinuxPersonalityBuilder::default().domain(domain).build().unwrap();
            *spec.linux_mut().as_mut().unwrap().personality_mut() = Some(personality);
        }),
        ("timeOffsets", |spec| {
            let offsets = [("boottime".to_owned(), LinuxTimeOffset::default())].into();
            *spec.linux_mut().as_mut().unwrap().time_offsets_mut() = Some(offsets);
        }),
        ("mountLabel", |spec| *spec.linux_mut().as_mut().unwrap().mount_label_mut() = Some("a:b".into())),
        ("netDevices", |spec| {
            *spec.linux_mut().as_mut().unwrap().net_devices_mut() =
                Some([("eth0".into(), Default::default())].into());
        }),
    ];
    for (field, edit) in edits {
        let refusal = with("", edit).map(|_| ()).unwrap_err();
        assert!(refusal.what.contains(field), "{refusal}");
    }
    let plain = |spec: &mut Spec| {
        *spec.linux_mut().as_mut().unwrap().personality_mut() = Some(LinuxPersonality::default());
    };
    assert!(with("", plain).is_ok(), "the personality that every process has");
}

#[test]
fn root_file_system_of_the_host_is_refused() {
    let path = |path: &str| {
        let path = path.to_owned();
        with("", move |spec| drop(spec.root_mut().as_mut().unwrap().set_path(path.into()).clone()))
    };
    assert!(path("rootfs").is_ok());
    assert!(path("/run/containerd/io.containerd.runtime.v2.task/default/c1/rootfs").is_ok());
    for strange in
        ["/", "", "rootfs/../..", "/run/containerd/io.containerd.runtime.v2.task/default/c2/rootfs"]
    {
        assert_eq!(path(strange).map(|_| ()).unwrap_err().rule, Rule::Rootfs, "{strange}");
    }
}

#[test]
fn root_is_writable_only_if_policy_and_request_both_say_so() {
    let read_only = |keys: &str, readonly: Option<bool>| {
        let plan = with(keys, |spec| drop(spec.root_mut().as_mut().unwrap().set_readonly(readonly).clone()))
            .unwrap();
        assert_eq!(
            plan.spec().root().as_ref().unwrap().readonly(),
            Some(plan.confine().hardened().unwrap().root_read_only)
        );
        plan.confine().hardened().unwrap().root_read_only
    };
    assert!(read_only("", None));
    assert!(read_only("root = \"writable\"", Some(true)));
    assert!(!read_only("root = \"writable\"", None));
}

#[test]
fn propagation_to_the_host_is_refused() {
    let set = |text: &str| {
        let text = text.to_owned();
        with("", |spec| *spec.linux_mut().as_mut().unwrap().rootfs_propagation_mut() = Some(text))
    };
    for text in ["shared", "rshared", "strange"] {
        assert_eq!(set(text).map(|_| ()).unwrap_err().rule, Rule::Mounts, "{text}");
    }
    for text in ["", "private", "rprivate", "rslave", "slave"] {
        let plan = set(text).unwrap();
        assert_eq!(plan.spec().linux().as_ref().unwrap().rootfs_propagation().as_deref(), Some("private"));
    }
}

#[test]
fn annotations_do_not_reach_the_runtime_and_too_many_are_refused() {
    let many = |count: usize| {
        move |spec: &mut Spec| {
            *spec.annotations_mut() =
                Some((0..count).map(|n| (format!("run.oci.x{n}"), String::new())).collect());
        }
    };
    assert_eq!(with("", many(3)).unwrap().spec().annotations(), &None);
    assert_eq!(rule(many(2000)), Rule::Spec);
}

#[test]
fn seccomp_section_is_added_to_the_baseline_and_a_notifier_is_refused() {
    use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompBuilder};
    let baseline = with("", |_| {}).unwrap().confine().hardened().unwrap().seccomp.clone();
    assert_ne!(
        plan_of(spec("ctr-1.6-terminal"), "").unwrap().confine().hardened().unwrap().seccomp,
        baseline
    );
    let section = |action| {
        move |spec: &mut Spec| {
            let section = LinuxSeccompBuilder::default().default_action(action).build().unwrap();
            *spec.linux_mut().as_mut().unwrap().seccomp_mut() = Some(section);
        }
    };
    assert_eq!(rule(section(LinuxSeccompAction::ScmpActNotify)), Rule::Seccomp);
    assert!(with("", section(LinuxSeccompAction::ScmpActAllow)).is_ok());
}

fn exec(
    keys: &str,
    edit: impl FnOnce(&mut Process),
) -> Result<bulkhead_plan::ExecPlan, bulkhead_model::Refusal> {
    let mut created = request(spec("ctr-1.6-user"));
    let mut process = created.spec.process().clone().unwrap();
    process.set_args(Some(vec!["id".to_owned()]));
    edit(&mut process);
    // What a terminal of the exec needs must be there whatever the init has.
    created.spec.process_mut().as_mut().unwrap().set_terminal(Some(false));
    let grant = grant(&created, keys);
    let plan = plan(&created, &grant, &host(&created)).unwrap();
    let argv = process.args().clone().unwrap();
    let request = ExecRequest {
        container: created.id.clone(),
        exec: "e1".parse().unwrap(),
        process,
        interaction: Interaction::default(),
    };
    plan_exec(&request, &plan, &grant.admit_exec(&argv, Interaction::default()).unwrap(), None)
}

#[test]
fn exec_is_confined_as_its_init_is() {
    let init = with(EXEC, |_| {}).unwrap();
    let exec = exec(EXEC, |_| {}).unwrap();
    assert_eq!(exec.confine(), init.confine());
    assert_eq!(exec.process().no_new_privileges(), Some(true));
    for set in [exec.process().capabilities().as_ref().unwrap().bounding(), &Some(Default::default())] {
        assert!(set.as_ref().unwrap().is_empty());
    }
}

#[test]
fn exec_as_root_is_refused_or_forced_and_with_more_capabilities_refused() {
    let root = |process: &mut Process| {
        let user = oci_spec::runtime::UserBuilder::default().uid(0u32).gid(0u32).build().unwrap();
        process.set_user(user);
    };
    assert_eq!(exec(EXEC, root).map(|_| ()).unwrap_err().rule, Rule::User);
    let forced = exec(&format!("user = {{ force = 65532 }}\n{EXEC}"), root).unwrap();
    assert_eq!(forced.confine().credentials().uid, 65532);
    assert_eq!(forced.process().user().uid(), 65532);
    let privileged = |process: &mut Process| {
        let mut capabilities = process.capabilities().clone().unwrap();
        capabilities.set_bounding(Some([Capability::SysAdmin].into()));
        process.set_capabilities(Some(capabilities));
    };
    assert_eq!(exec(EXEC, privileged).map(|_| ()).unwrap_err().rule, Rule::Capabilities);
}

#[test]
fn exec_keeps_its_terminal_and_has_its_limits_and_score() {
    let exec = exec(EXEC, |process| drop(process.set_terminal(Some(true)).clone())).unwrap();
    assert_eq!(exec.process().terminal(), Some(true));
    assert_eq!(exec.process().oom_score_adj(), Some(0));
    let limits = exec.process().rlimits().as_ref().unwrap();
    assert!(limits.iter().any(|limit| limit.typ().to_string() == "RLIMIT_CORE" && limit.hard() == 1));
}

#[test]
fn exec_under_a_newer_policy_is_under_the_stricter_of_both() {
    let created = request(spec("ctr-1.6-user"));
    let plan = plan(&created, &grant(&created, "memfd = \"allowed\""), &host(&created)).unwrap();
    let mut process = created.spec.process().clone().unwrap();
    process.set_args(Some(vec!["id".to_owned()]));
    let argv = ["id".to_owned()];
    let request = ExecRequest {
        container: created.id.clone(),
        exec: "e1".parse().unwrap(),
        process,
        interaction: Interaction::default(),
    };
    let newer = |keys: &str| {
        grant(&created, &format!("{EXEC}\n{keys}")).admit_exec(&argv, Interaction::default()).unwrap()
    };
    let same = plan_exec(&request, &plan, &newer("memfd = \"allowed\""), None).unwrap();
    assert_eq!(same.confine(), plan.confine());
    let stricter = plan_exec(&request, &plan, &newer("landlock = { tcp_connect = \"none\" }"), None).unwrap();
    assert_eq!(stricter.confine().hardened().unwrap().landlock.tcp_connect, TcpRule::NONE);
    let denied = grant(&created, "memfd = \"denied\"");
    let denied = self::plan(&created, &denied, &host(&created)).unwrap();
    let seccomp = |confine: &ConfineSpec| confine.hardened().unwrap().seccomp.clone();
    assert_ne!(seccomp(stricter.confine()), seccomp(plan.confine()));
    assert_eq!(seccomp(stricter.confine()), seccomp(denied.confine()), "memfd is denied now");
}

#[test]
fn exec_under_a_generated_profile_has_no_call_of_the_small_init() {
    let created = request(spec("ctr-1.6-user"));
    let calls = ["read".to_owned(), "write".to_owned()].into();
    let files = GeneratedFiles::new(FileRules::default(), Some("not told".to_owned()));
    let profile = Arc::new(GeneratedProfile::new(calls, Default::default(), None, files));
    let host = HostFacts { profile: Some(Arc::clone(&profile)), ..host(&created) };
    let granted = |keys: &str| grant(&created, &format!("{EXEC}\nseccomp = \"generated\"\n{keys}"));
    let filter = |confine: &ConfineSpec| confine.hardened().unwrap().seccomp.clone();
    let alone = plan(&created, &granted(""), &host).unwrap();
    let small = plan(&created, &granted("init = true"), &host).unwrap();
    assert_ne!(filter(small.confine()), filter(alone.confine()), "the init's own calls are added for it");

    let mut process = created.spec.process().clone().unwrap();
    process.set_args(Some(vec!["id".to_owned()]));
    let request = ExecRequest {
        container: created.id.clone(),
        exec: "e1".parse().unwrap(),
        process,
        interaction: Interaction::default(),
    };
    let may = || granted("init = true").admit_exec(&["id".to_owned()], Interaction::default()).unwrap();
    for plan in [&alone, &small] {
        let exec = plan_exec(&request, plan, &may(), Some(&profile)).unwrap();
        assert_eq!(filter(exec.confine()), filter(alone.confine()));
    }

    let pinned = |keys: &str| {
        let granted = grant(&created, &format!("seccomp = \"{}\"\n{keys}", profile.hash()));
        plan(&created, &granted, &host)
    };
    assert_eq!(pinned("init = true").unwrap_err().rule, Rule::Seccomp);
    pinned("").unwrap();
}
