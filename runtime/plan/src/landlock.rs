//! The Landlock ruleset: the image's files, a rule for each mount and each device, none for /dev as a whole.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{
    GeneratedFiles, ImageAccess, LandlockRule, LandlockSpec, PathAccess, PathRule, Refusal, RootRule, Rule,
    ScopeRule, TcpRule,
};

use crate::CANARY;

/// Devices that libcontainer makes in every container.
///
/// Source: libcontainer rootfs/utils.rs, `default_devices`; OCI runtime spec, config-linux.md, "Default Devices".
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// First ABI that can restrict TCP. Source: landlock(7).
const ABI_TCP: u8 = 4;

/// First ABI that can scope signals and abstract sockets. Source: landlock(7).
const ABI_SCOPE: u8 = 6;

/// Whether init has a terminal: it is bound to /dev/console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// Yes.
    Terminal,
    /// No.
    Absent,
}

/// What a ruleset is made of besides policy.
pub(crate) struct Ground<'a> {
    /// Landlock ABI of the kernel.
    pub(crate) abi: u8,
    pub(crate) root: RootRule,
    pub(crate) console: Console,
    /// A rule for each mount.
    pub(crate) mounts: Vec<PathRule>,
    /// The image's files, where they are told one by one.
    pub(crate) files: Option<&'a GeneratedFiles>,
    /// TCP ports that the image's config EXPOSEs.
    pub(crate) exposed: &'a BTreeSet<u16>,
}

/// The ruleset of a container.
pub(crate) fn ruleset(policy: &LandlockRule, ground: Ground<'_>) -> Result<LandlockSpec, Refusal> {
    let Ground { abi, root, console, mounts, files, exposed } = ground;
    let floor_abi = floor(policy, abi)?;
    let device = |path: &str| PathRule { path: PathBuf::from(path), access: PathAccess::Device };
    let mut paths: Vec<PathRule> = DEVICES.iter().map(|path| device(path)).collect();
    match console {
        Console::Terminal => paths.push(device("/dev/console")),
        Console::Absent => {}
    }
    paths.extend(mounts);
    Ok(LandlockSpec {
        floor_abi,
        image: match (files, root) {
            (Some(files), _) => ImageAccess::Files(files.rules().clone()),
            (None, RootRule::ReadOnly) => ImageAccess::Whole(PathAccess::ReadExecute),
            (None, RootRule::Writable) => ImageAccess::Whole(PathAccess::ReadWriteExecute),
        },
        paths,
        tcp_bind: bind(policy, exposed),
        tcp_connect: policy.tcp_connect.clone(),
        scope: policy.scope.clone(),
        canary: PathBuf::from(CANARY),
    })
}

/// The same ruleset under a policy that may be newer: what either denies stays denied. `files` are those of this moment,
/// which know the commands that may be exec'd now; where there are none any more, those of init stay.
pub(crate) fn narrow(
    mut spec: LandlockSpec,
    policy: &LandlockRule,
    abi: u8,
    files: Option<&GeneratedFiles>,
    exposed: &BTreeSet<u16>,
) -> Result<LandlockSpec, Refusal> {
    spec.floor_abi = spec.floor_abi.max(floor(policy, abi)?);
    spec.tcp_bind = spec.tcp_bind.common(&bind(policy, exposed));
    spec.tcp_connect = spec.tcp_connect.common(&policy.tcp_connect);
    spec.scope.extend(&policy.scope);
    if let Some(files) = files {
        spec.image = ImageAccess::Files(files.rules().clone());
    }
    Ok(spec)
}

fn bind(policy: &LandlockRule, exposed: &BTreeSet<u16>) -> TcpRule {
    match policy.tcp_bind.exposed {
        true => policy.tcp_bind.ports.common(&TcpRule::Ports(exposed.clone())),
        false => policy.tcp_bind.ports.clone(),
    }
}

/// The oldest ABI that can keep what policy says; a kernel below it is refused.
fn floor(policy: &LandlockRule, abi: u8) -> Result<u8, Refusal> {
    let LandlockRule { floor_abi, files: _, tcp_bind, tcp_connect, scope } = policy;
    let needs = [
        (*tcp_connect != TcpRule::Any, "tcp_connect", ABI_TCP),
        (tcp_bind.exposed || tcp_bind.ports != TcpRule::Any, "tcp_bind", ABI_TCP),
        (scope.contains(&ScopeRule::Signals), "scope", ABI_SCOPE),
        (scope.contains(&ScopeRule::AbstractSockets), "scope", ABI_SCOPE),
    ];
    let needed = needs.iter().filter(|(asked, _, _)| *asked).max_by_key(|(_, _, abi)| *abi);
    let (floor, because) = match needed {
        Some((_, key, needed)) if needed > floor_abi => (*needed, format!(" ({key} needs {needed})")),
        Some(_) | None => ((*floor_abi).max(1), String::new()),
    };
    if abi >= floor {
        return Ok(floor);
    }
    Err(Refusal::new(
        Rule::Policy,
        format!("the kernel has Landlock ABI {abi}"),
        format!("policy wants at least {floor}{because}, and a weaker ruleset is not used instead"),
        "run the pod on a node with a newer kernel, or lower landlock.floor_abi in the policy",
    ))
}

#[cfg(test)]
mod tests;
