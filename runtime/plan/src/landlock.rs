//! The Landlock ruleset: one rule for each mount and each device, none for /dev as a whole.

use std::path::PathBuf;

use bulkhead_model::{LandlockRule, LandlockSpec, PathAccess, PathRule, Refusal, RootRule, Rule, TcpRule};

use crate::CANARY;

/// Devices that libcontainer makes in every container.
///
/// Source: libcontainer rootfs/utils.rs, `default_devices`; OCI runtime spec, config-linux.md, "Default Devices".
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// First ABI that can restrict TCP. Source: landlock(7).
const ABI_TCP: u8 = 4;

/// Whether init has a terminal: it is bound to /dev/console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// Yes.
    Terminal,
    /// No.
    Absent,
}

/// The ruleset of a container whose mounts have `mounts` as rules.
pub(crate) fn ruleset(
    policy: LandlockRule,
    abi: u8,
    root: RootRule,
    console: Console,
    mounts: Vec<PathRule>,
) -> Result<LandlockSpec, Refusal> {
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
        image: match root {
            RootRule::ReadOnly => PathAccess::ReadExecute,
            RootRule::Writable => PathAccess::ReadWriteExecute,
        },
        paths,
        tcp_connect: policy.tcp_connect,
        canary: PathBuf::from(CANARY),
    })
}

/// The same ruleset under a policy that may be newer: what either denies stays denied.
pub(crate) fn narrow(mut spec: LandlockSpec, policy: LandlockRule, abi: u8) -> Result<LandlockSpec, Refusal> {
    spec.floor_abi = spec.floor_abi.max(floor(policy, abi)?);
    match policy.tcp_connect {
        TcpRule::None => spec.tcp_connect = TcpRule::None,
        TcpRule::Any => {}
    }
    Ok(spec)
}

/// The oldest ABI that can keep what policy says; a kernel below it is refused.
fn floor(policy: LandlockRule, abi: u8) -> Result<u8, Refusal> {
    let (floor, because) = match policy.tcp_connect {
        TcpRule::None if policy.floor_abi < ABI_TCP => (ABI_TCP, " (tcp_connect needs 4)"),
        TcpRule::None | TcpRule::Any => (policy.floor_abi.max(1), ""),
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(abi: u8, floor_abi: u8, tcp_connect: TcpRule) -> Result<LandlockSpec, Refusal> {
        let policy = LandlockRule { floor_abi, tcp_connect };
        ruleset(policy, abi, RootRule::ReadOnly, Console::Absent, Vec::new())
    }

    #[test]
    fn kernel_below_the_floor_is_refused() {
        assert!(run(1, 1, TcpRule::Any).is_ok());
        assert!(run(0, 0, TcpRule::Any).is_err());
        assert!(run(2, 3, TcpRule::Any).is_err());
    }

    #[test]
    fn tcp_rule_is_never_left_out_on_an_old_kernel() {
        assert_eq!(run(4, 1, TcpRule::None).unwrap().floor_abi, 4);
        assert!(run(3, 1, TcpRule::None).unwrap_err().why.contains("tcp_connect"));
    }

    #[test]
    fn console_has_a_rule_only_where_there_is_one() {
        let policy = LandlockRule { floor_abi: 1, tcp_connect: TcpRule::Any };
        let paths = |console| {
            let spec = ruleset(policy, 7, RootRule::Writable, console, Vec::new()).unwrap();
            spec.paths.into_iter().any(|rule| rule.path.as_os_str() == "/dev/console")
        };
        assert!(paths(Console::Terminal));
        assert!(!paths(Console::Absent));
    }
}
