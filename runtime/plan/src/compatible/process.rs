//! `process` as it is asked for: ids, capability sets, no_new_privs, limits.

use bulkhead_model::{CapabilitySets, Credentials, Refusal, Rule};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};

use crate::{
    change::{Changes, Section},
    facts::HostFacts,
    labels,
    limits::{GROUPS_MAX, at_most},
    process::{console_size, judge_command, judge_cwd, known_fields_only, never_applied},
    refuse::refuse,
    user::within_nine_bits,
};

/// What the process must turn out to have.
pub(super) struct Privileges {
    pub(super) credentials: Credentials,
    pub(super) capabilities: CapabilitySets,
    pub(super) no_new_privileges: bool,
    pub(super) selinux_label: Option<String>,
}

/// A process as it is asked for. What an exec leaves out, it has from `init`.
///
/// Source: `newInitConfig`, runc libcontainer/container_linux.go.
pub(super) fn as_asked(
    asked: &Process,
    init: Option<&Process>,
    host: &HostFacts,
    changes: &mut Changes,
) -> Result<(Process, Privileges), Refusal> {
    known_fields_only(asked)?;
    never_applied(asked)?;
    judge_command(asked)?;
    judge_cwd(asked.cwd())?;
    let credentials = credentials(asked)?;
    let umask = asked.user().umask();
    umask.map_or(Ok(()), within_nine_bits)?;
    let inherited = init.and_then(|init| init.capabilities().clone());
    let sets = asked.capabilities().clone().or(inherited);
    let no_new_privileges = asked.no_new_privileges().unwrap_or(false)
        || init.and_then(|init| init.no_new_privileges()).unwrap_or(false);
    let capabilities = sets_of(sets.as_ref(), changes);

    let selinux_label =
        labels::selinux("process.selinuxLabel", asked.selinux_label().as_deref(), host.modules)?;
    let profile = asked.apparmor_profile().clone().filter(|profile| !profile.is_empty());
    let profile = profile.or_else(|| init.and_then(|init| init.apparmor_profile().clone()));

    let mut process = asked.clone();
    process
        .set_apparmor_profile(labels::apparmor(profile.as_deref(), host.modules, changes)?)
        .set_terminal(Some(asked.terminal().unwrap_or(false)))
        .set_console_size(console_size(asked)?)
        .set_no_new_privileges(Some(no_new_privileges))
        .set_capabilities(Some(sets.unwrap_or_else(none)));
    if let Some(init) = init
        && process.rlimits().as_ref().is_none_or(Vec::is_empty)
    {
        process.set_rlimits(init.rlimits().clone());
    }
    Ok((process, Privileges { credentials, capabilities, no_new_privileges, selinux_label }))
}

fn none() -> LinuxCapabilities {
    crate::capabilities::none()
}

fn credentials(process: &Process) -> Result<Credentials, Refusal> {
    let user = process.user();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    at_most("process.user.additionalGids", groups.len(), GROUPS_MAX, "groups")?;
    groups.sort_unstable();
    if [user.uid(), user.gid()].iter().chain(&groups).any(|id| *id == u32::MAX) {
        let why = "to the kernel that means \"no change\"";
        return Err(refuse(Rule::User, "process.user", "id 4294967295", why, "use another id"));
    }
    Ok(Credentials { uid: user.uid(), gid: user.gid(), groups })
}

/// The sets as bits. A set that is absent is empty, as for runc. What cannot be ambient is not, and it is said.
fn sets_of(asked: Option<&LinuxCapabilities>, changes: &mut Changes) -> CapabilitySets {
    let bits = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
        let names = asked.and_then(|asked| set(asked).as_ref());
        names.into_iter().flatten().fold(0, |bits, capability| bits | 1_u64 << number(*capability))
    };
    let (permitted, inheritable) = (bits(LinuxCapabilities::permitted), bits(LinuxCapabilities::inheritable));
    let asked_ambient = bits(LinuxCapabilities::ambient);
    let ambient = asked_ambient & permitted & inheritable;
    if ambient != asked_ambient {
        let what = format!("ambient set {ambient:#x} in place of {asked_ambient:#x}");
        changes.record(
            Section::Capabilities,
            what,
            "the kernel lets a capability be ambient only where it is permitted and inheritable",
        );
    }
    CapabilitySets {
        bounding: bits(LinuxCapabilities::bounding),
        permitted,
        inheritable,
        effective: bits(LinuxCapabilities::effective),
        ambient,
    }
}

/// Source: include/uapi/linux/capability.h.
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}
