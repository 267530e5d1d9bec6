//! The loopback interface of a container whose network namespace is new: up, as runc has it, or nothing in the
//! container reaches 127.0.0.1. Nothing that the container is granted could do it later.
//!
//! Never here: a namespace that the request names by its path. That is the network plugin's.

use std::{fs::File, os::fd::AsFd};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use serde::Deserialize;

use crate::{LaunchError, sys};

/// The part of config.json that is asked.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    linux: Linux,
}

#[derive(Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
}

/// Whether the container gets a network namespace that nobody has set up.
pub(crate) fn is_new(config: &str) -> Result<bool, LaunchError> {
    let config: Config =
        serde_json::from_str(config).map_err(|error| LaunchError::Failed(error.to_string()))?;
    let new = |namespace: &Namespace| namespace.path.as_deref().is_none_or(str::is_empty);
    Ok(config.linux.namespaces.iter().any(|namespace| namespace.kind == "network" && new(namespace)))
}

/// Brings it up in the namespace of `pid`. The worker stays in that namespace: call it last.
pub(crate) fn up(pid: i32) -> Result<(), LaunchError> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).map_err(LaunchError::io("open(2)", path.clone()))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(LaunchError::io("setns(2)", path.clone()))?;
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(LaunchError::io("socket(2)", "loopback"))?;
    sys::interface_up(any.as_fd(), c"lo").map_err(LaunchError::io("ioctl(2) SIOCSIFFLAGS", "lo"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_namespace_without_a_path_is_new_and_one_of_a_plugin_or_none_is_not() {
        let config =
            |namespace: &str| format!(r#"{{"linux":{{"namespaces":[{{"type":"pid"}}{namespace}]}}}}"#);
        assert!(is_new(&config(r#",{"type":"network"}"#)).unwrap());
        assert!(is_new(&config(r#",{"type":"network","path":""}"#)).unwrap());
        assert!(!is_new(&config(r#",{"type":"network","path":"/run/netns/a"}"#)).unwrap());
        assert!(!is_new(&config("")).unwrap());
        assert!(is_new("{").is_err());
    }
}
