//! `process`: the command and its surroundings, for init and exec alike.
//!
//! HOME is not filled in here: what it should be stands in the container's /etc/passwd, which `bulkhead_launch`
//! reads without the C library (libcontainer would load NSS libraries of the image before it is confined).

use std::path::{Component, Path};

use bulkhead_model::{Confinement, Credentials, Refusal, Rule};
use oci_spec::runtime::{Box as ConsoleSize, Process, User};

use crate::{
    capabilities,
    change::{Changes, Section},
    facts::{HostFacts, SysResource},
    labels,
    limits::{COMMAND_BYTES_MAX, PATH_BYTES_MAX, STRING_BYTES_MAX, STRINGS_MAX, at_most, no_nul},
    refuse::{nothing_left, refuse, refuse_unsupported, short},
    rlimits, user,
};

/// PATH where neither image nor request has one: argv[0] without a slash could not be found.
///
/// Source: `defaultUnixEnv`, containerd oci/spec.go.
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lowest OOM score that is granted: the kubelet's for pods of class Guaranteed. Below are the node's own services.
///
/// Source: `guaranteedOOMScoreAdj`, kubernetes pkg/kubelet/qos/policy.go; the sandbox has -998.
const OOM_SCORE_MIN: i32 = -998;

/// Range of oom_score_adj. Source: proc_pid_oom_score_adj(5).
const OOM_SCORE_MAX: i32 = 1000;

/// A process as it may run.
#[derive(Debug)]
pub(crate) struct Hardened {
    pub(crate) process: Process,
    pub(crate) credentials: Credentials,
    /// What sysctls stand in for.
    pub(crate) asked: capabilities::Asked,
    /// The SELinux context that it gets at execve.
    pub(crate) selinux_label: Option<String>,
}

/// Judges a process and returns it as it may run.
pub(crate) fn harden(
    process: &Process,
    confinement: &Confinement,
    host: &HostFacts,
    changes: &mut Changes,
) -> Result<Hardened, Refusal> {
    known_fields_only(process)?;
    unsupported(process)?;
    judge_command(process)?;
    judge_cwd(process.cwd())?;
    let (user, credentials) = user::harden(process.user(), confinement.user, changes)?;
    let asked = capabilities::judge(process.capabilities().as_ref(), changes)?;
    let limits = rlimits::harden(process.rlimits().as_ref(), &host.hard_limits, host.sys_resource, changes)?;
    if process.no_new_privileges() != Some(true) {
        changes.record(
            Section::Capabilities,
            "no_new_privs",
            "no set-uid program or file capability takes effect",
        );
    }
    let selinux_label =
        labels::selinux("process.selinuxLabel", process.selinux_label().as_deref(), host.modules)?;
    let mut hardened = process.clone();
    hardened
        .set_terminal(Some(process.terminal().unwrap_or(false)))
        .set_console_size(console_size(process)?)
        .set_user(user)
        .set_env(Some(environment(process.env().as_deref().unwrap_or_default(), changes)))
        .set_capabilities(Some(capabilities::none()))
        .set_rlimits(Some(limits))
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(labels::apparmor(process.apparmor_profile().as_deref(), host.modules, changes)?)
        .set_selinux_label(selinux_label.clone())
        .set_command_line(None)
        .set_io_priority(None)
        .set_scheduler(None)
        .set_exec_cpu_affinity(None)
        .set_oom_score_adj(Some(oom_score(process.oom_score_adj(), host, changes)?));
    Ok(Hardened { process: hardened, credentials, asked, selinux_label })
}

pub(crate) fn known_fields_only(process: &Process) -> Result<(), Refusal> {
    let mut rest = process.clone();
    rest.set_terminal(None)
        .set_console_size(None)
        .set_user(User::default())
        .set_args(None)
        .set_command_line(None)
        .set_env(None)
        .set_cwd("".into())
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_apparmor_profile(None)
        .set_oom_score_adj(None)
        .set_selinux_label(None)
        .set_io_priority(None)
        .set_scheduler(None)
        .set_exec_cpu_affinity(None);
    nothing_left("process", &rest, r#"{"user":{},"cwd":""}"#)
}

/// What is never applied, and what a hardened process does not get: more than its share of processor and disk.
pub(crate) fn unsupported(process: &Process) -> Result<(), Refusal> {
    none_of(&[
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
    ])?;
    never_applied(process)
}

/// What is never applied.
pub(crate) fn never_applied(process: &Process) -> Result<(), Refusal> {
    let command_line = process.command_line().as_ref().is_some_and(|text| !text.is_empty());
    none_of(&[
        ("process.commandLine (Windows)", command_line),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ])
}

fn none_of(set: &[(&str, bool)]) -> Result<(), Refusal> {
    match set.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(refuse_unsupported(field)),
        None => Ok(()),
    }
}

pub(crate) fn judge_command(process: &Process) -> Result<(), Refusal> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(refuse(
            Rule::Spec,
            "process.args",
            "no command",
            "there is nothing to run",
            "name a command, or use an image with ENTRYPOINT or CMD",
        ));
    }
    let env = process.env().as_deref().unwrap_or_default();
    for (field, strings) in [("process.args", args), ("process.env", env)] {
        at_most(field, strings.len(), STRINGS_MAX, "entries")?;
        for text in strings {
            no_nul(field, text)?;
            at_most(field, text.len(), STRING_BYTES_MAX, "bytes in one entry")?;
        }
    }
    let bytes = args.iter().chain(env).map(|text| text.len() + 1).sum();
    at_most("process.args with process.env", bytes, COMMAND_BYTES_MAX, "bytes")?;
    match env.iter().find(|entry| entry.split('=').next().is_none_or(str::is_empty)) {
        None => Ok(()),
        // The value may be a secret: it is not shown.
        Some(_) => Err(refuse(
            Rule::Spec,
            "process.env",
            "an entry without a name",
            "an entry is NAME=value",
            "give it a name",
        )),
    }
}

/// Absolute, without `..`, and not in /proc: `/proc/self/fd/7` was a way out (CVE-2024-21626).
pub(crate) fn judge_cwd(cwd: &Path) -> Result<(), Refusal> {
    let text = cwd.to_string_lossy();
    no_nul("process.cwd", &text)?;
    at_most("process.cwd", text.len(), PATH_BYTES_MAX, "bytes")?;
    let plain = cwd.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if cwd.is_absolute() && plain && !cwd.starts_with("/proc") {
        return Ok(());
    }
    Err(refuse(
        Rule::Spec,
        "process.cwd",
        format!("{:?}", short(&text)),
        "a working directory is absolute, without \"..\", and not below /proc",
        "set another working directory (pod: workingDir, image: WORKDIR, ctr: --cwd)",
    ))
}

pub(crate) fn console_size(process: &Process) -> Result<Option<ConsoleSize>, Refusal> {
    let Some(size) = process.console_size() else { return Ok(None) };
    let sixteen_bits = u64::from(u16::MAX);
    if size.height() > sixteen_bits || size.width() > sixteen_bits {
        return Err(refuse(
            Rule::Spec,
            "process.consoleSize",
            format!("{}×{}", size.width(), size.height()),
            "a terminal has at most 65535 rows and columns",
            "ask for a smaller one",
        ));
    }
    Ok(process.terminal().unwrap_or(false).then_some(size))
}

fn environment(env: &[String], changes: &mut Changes) -> Vec<String> {
    let mut env = env.to_vec();
    if !env.iter().any(|entry| entry.strip_prefix("PATH=").is_some_and(|path| !path.is_empty())) {
        changes.record(Section::Process, PATH_DEFAULT, "a command without a slash could not be found");
        env.retain(|entry| entry != "PATH" && entry != "PATH=");
        env.push(PATH_DEFAULT.to_owned());
    }
    env
}

fn oom_score(asked: Option<i32>, host: &HostFacts, changes: &mut Changes) -> Result<i32, Refusal> {
    let score = asked.unwrap_or(0);
    if !(-OOM_SCORE_MAX..=OOM_SCORE_MAX).contains(&score) {
        let why = "it is between -1000 and 1000";
        return Err(refuse(Rule::Spec, "process.oomScoreAdj", score, why, "correct it"));
    }
    let (floor, reason) = match host.sys_resource {
        SysResource::Held => {
            (OOM_SCORE_MIN, "only the node's own services are spared before a pod's sandbox")
        }
        SysResource::Missing => (
            host.oom_score_adj.max(OOM_SCORE_MIN),
            "the runtime lacks CAP_SYS_RESOURCE to lower its own score",
        ),
    };
    let settled = score.max(floor);
    if settled != score {
        changes.record(Section::Process, format!("oomScoreAdj {score} becomes {settled}"), reason);
    } else if asked.is_none() {
        let reason = "without it the process would have the runtime's own score";
        changes.record(Section::Process, format!("oomScoreAdj {settled}"), reason);
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oci_spec::runtime::{ExecCPUAffinity, LinuxIOPriority, Scheduler};

    use super::*;
    use crate::example;

    fn run(change: impl FnOnce(&mut Process) -> &mut Process) -> Result<Hardened, Refusal> {
        let mut process = example::process();
        change(&mut process);
        harden(&process, &example::confinement(), &example::host(), &mut Changes::default())
    }

    #[test]
    fn process_leaves_with_no_new_privs_and_without_capabilities() {
        let hardened = run(|process| process.set_no_new_privileges(Some(false))).unwrap();
        assert_eq!(hardened.process.no_new_privileges(), Some(true));
        assert_eq!(hardened.process.capabilities(), &Some(capabilities::none()));
    }

    #[test]
    fn what_is_never_applied_is_refused_by_name() {
        type Edit = fn(&mut Process) -> &mut Process;
        let edits: [(&str, Edit); 4] = [
            ("commandLine", |p| p.set_command_line(Some("a".into()))),
            ("ioPriority", |p| p.set_io_priority(Some(LinuxIOPriority::default()))),
            ("scheduler", |p| p.set_scheduler(Some(Scheduler::default()))),
            ("execCPUAffinity", |p| p.set_exec_cpu_affinity(Some(ExecCPUAffinity::default()))),
        ];
        for (field, edit) in edits {
            assert!(run(edit).unwrap_err().what.contains(field), "{field}");
        }
    }

    #[test]
    fn command_is_needed() {
        for args in [None, Some(vec![]), Some(vec![String::new()])] {
            assert!(run(|p| p.set_args(args)).unwrap_err().what.contains("process.args"));
        }
    }

    #[test]
    fn nul_bytes_and_names_that_are_empty_are_refused_without_showing_the_value() {
        for entry in ["=hunter2", "SECRET=hun\0ter2"] {
            let refusal = run(|p| p.set_env(Some(vec![entry.to_owned()]))).unwrap_err();
            assert!(!refusal.to_string().contains("hun"), "{refusal}");
        }
        assert!(run(|p| p.set_args(Some(vec!["a\0b".to_owned()]))).is_err());
        assert!(run(|p| p.set_args(Some(vec!["a".repeat(STRING_BYTES_MAX + 1)]))).is_err());
        assert!(run(|p| p.set_args(Some(vec!["a".repeat(STRING_BYTES_MAX)]))).is_ok());
    }

    #[test]
    fn path_is_filled_in_only_where_there_is_none() {
        let env = |env: &[&str]| {
            let env = env.iter().map(|entry| (*entry).to_owned()).collect();
            run(|p| p.set_env(Some(env))).unwrap().process.env().clone().unwrap()
        };
        assert_eq!(env(&["A=b"]), ["A=b", PATH_DEFAULT]);
        assert_eq!(env(&["PATH="]), [PATH_DEFAULT]);
        assert_eq!(env(&["PATH=/bin"]), ["PATH=/bin"]);
    }

    #[test]
    fn working_directory_is_absolute_and_not_in_proc() {
        for cwd in ["/", "/srv/app"] {
            assert!(run(|p| p.set_cwd(cwd.into())).is_ok(), "{cwd} was refused");
        }
        for cwd in ["", "srv", "/a/../b", "/proc/self/fd/7", "/proc"] {
            assert!(run(|p| p.set_cwd(cwd.into())).is_err(), "{cwd} was accepted");
        }
    }

    #[test]
    fn oom_score_is_clamped_to_what_the_host_can_set() {
        let score = |asked, host: HostFacts| oom_score(asked, &host, &mut Changes::default());
        let missing = HostFacts { sys_resource: SysResource::Missing, oom_score_adj: 0, ..example::host() };
        let held = HostFacts { sys_resource: SysResource::Held, ..example::host() };
        assert_eq!(score(Some(-997), missing.clone()), Ok(0));
        assert_eq!(score(Some(-997), held.clone()), Ok(-997));
        assert_eq!(score(Some(-1000), held.clone()), Ok(-998));
        assert_eq!(score(Some(500), missing), Ok(500));
        assert_eq!(score(None, held.clone()), Ok(0));
        assert!(score(Some(1001), held).is_err());
    }
}
