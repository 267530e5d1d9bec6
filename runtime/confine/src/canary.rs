//! A Landlock domain cannot be read back; a file outside of it can be tried, and a port.
//!
//! What is tried asks Landlock before anything else and would come to nothing without it: an address that is nobody's
//! (RFC 5737) cannot be bound, and TCP has no broadcast, so that no packet is sent.
//!
//! Not tried: EXECUTE and scopes. execve(2) needs READ_FILE too, which the canary has no rule for either, and neither a file
//! to be read only nor a process outside is at hand everywhere. They are bits of the ruleset that was tried.

use std::{collections::BTreeSet, fs::File, io, os::fd::AsRawFd as _, path::Path};

use bulkhead_model::TcpRule;
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
};

use crate::ConfineError;

/// Before Landlock: it opens, so that EACCES afterwards is Landlock's doing.
pub(crate) fn opens(path: &Path) -> Result<(), ConfineError> {
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(ConfineError::CanaryMissing { path: path.to_owned(), source }),
    }
}

/// Under Landlock: EACCES, and nothing else.
pub(crate) fn is_out_of_reach(path: &Path) -> Result<(), ConfineError> {
    let found = match File::open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(()),
        Err(error) => io::Error::to_string(&error),
        Ok(_) => "a file".to_owned(),
    };
    Err(ConfineError::CanaryReached { path: path.to_owned(), found })
}

/// Under Landlock: EACCES for a port that no rule names, in each direction that has rules. Before seccomp, which may lack
/// the calls.
pub(crate) fn ports_are_out_of_reach(to_bind: &TcpRule, to_connect: &TcpRule) -> Result<(), ConfineError> {
    let unnamed = |rule: &TcpRule| match rule {
        TcpRule::Any => None,
        TcpRule::Ports(ports) => unnamed_port(ports),
    };
    let (to_bind, to_connect) = (unnamed(to_bind), unnamed(to_connect));
    if to_bind.is_none() && to_connect.is_none() {
        return Ok(());
    }
    let tried = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(ConfineError::errno("socket(2)", "AF_INET"))?;
    let refused = |what: &str, port: u16, answer: nix::Result<()>| match answer {
        Err(Errno::EACCES) => Ok(()),
        other => {
            let found = other.map_or_else(|errno| errno.to_string(), |()| "no error".to_owned());
            Err(ConfineError::NotFullyEnforced(format!(
                "{what} of TCP port {port} gives {found}, not EACCES"
            )))
        }
    };
    if let Some(port) = to_bind {
        refused("bind(2)", port, bind(tried.as_raw_fd(), &SockaddrIn::new(192, 0, 2, 1, port)))?;
    }
    if let Some(port) = to_connect {
        refused("connect(2)", port, connect(tried.as_raw_fd(), &SockaddrIn::new(255, 255, 255, 255, port)))?;
    }
    // To close it would be a call more; execve(2) does it.
    std::mem::forget(tried);
    Ok(())
}

/// The last one that is not named: one of the first thousand could be denied for want of a capability.
fn unnamed_port(ports: &BTreeSet<u16>) -> Option<u16> {
    (1024..=u16::MAX).rev().find(|port| !ports.contains(port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn port_that_nothing_denies_is_told_and_without_rules_nothing_is_tried() {
        ports_are_out_of_reach(&TcpRule::Any, &TcpRule::Any).unwrap();
        for (to_bind, to_connect, call) in
            [(TcpRule::NONE, TcpRule::Any, "bind(2)"), (TcpRule::Any, TcpRule::NONE, "connect(2)")]
        {
            let error = ports_are_out_of_reach(&to_bind, &to_connect).unwrap_err().to_string();
            assert!(error.contains(call) && error.contains("65535"), "{error}");
        }
    }

    #[test]
    fn port_that_is_tried_is_none_of_a_rule() {
        assert_eq!(unnamed_port(&[u16::MAX, u16::MAX - 1].into()), Some(u16::MAX - 2));
        assert_eq!(unnamed_port(&(1024..=u16::MAX).collect()), None);
    }
}
