//! The control group that a client wants the shim in: `ShimCgroup` of runc's options, which containerd's Go client
//! (`WithShimCgroup`) sends to any runtime, and containerd passes on to `start`.

use std::{fs, io};

use bulkhead_cgroup::{CgroupPath, Host, Version};
use prost::Message as _;
use protobuf::{Message as _, well_known_types::any::Any};

use super::FrontError;

/// Of runc's options the one that is for the shim itself.
///
/// Source: containerd api/types/runc/options/oci.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(string, tag = "3")]
    shim_cgroup: String,
}

/// Moves this process, of which the server is then forked, into the group that the options name. It has to be there:
/// it is the client's. On v1 a hierarchy that does not have it is left out, as runc's shim does.
pub(super) fn join(options: &[u8]) -> Result<(), FrontError> {
    let Some(path) = named(options)? else { return Ok(()) };
    let subject = || format!("control group {path} (runtime option ShimCgroup)");
    let host = Host::detect().map_err(|error| FrontError::Usage(format!("{}: {error}", subject())))?;
    // A move of one thread does not wait for the kernel as that of a process does, and `start` has one thread.
    let file = if host.version() == Version::V2 { "cgroup.procs" } else { "tasks" };
    let mut joined = false;
    for (_, dir) in host.cgroup(&path).dirs() {
        match fs::write(dir.join(file), "0") {
            Ok(()) => joined = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FrontError::io("write(2)", subject())(error)),
        }
    }
    if joined {
        Ok(())
    } else {
        Err(FrontError::Usage(format!("there is no {}; fix: make it first", subject())))
    }
}

fn named(options: &[u8]) -> Result<Option<CgroupPath>, FrontError> {
    // What is no options is Create's to complain of.
    let Ok(any) = Any::parse_from_bytes(options) else { return Ok(None) };
    if !any.type_url.ends_with("containerd.runc.v1.Options") {
        return Ok(None);
    }
    let asked = RuncOptions::decode(any.value.as_slice());
    let asked = asked.map_err(|error| FrontError::Usage(format!("runtime options: {error}")))?;
    if asked.shim_cgroup.is_empty() {
        return Ok(None);
    }
    let path = asked.shim_cgroup.parse();
    path.map(Some).map_err(|error| FrontError::Usage(format!("runtime option ShimCgroup: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(kind: &str, shim_cgroup: &str) -> Vec<u8> {
        let mut any = Any::new();
        any.type_url = kind.to_owned();
        any.value = RuncOptions { shim_cgroup: shim_cgroup.to_owned() }.encode_to_vec();
        any.write_to_bytes().unwrap()
    }

    #[test]
    fn group_of_the_shim_is_read_from_runcs_options_alone() {
        let runc = "containerd.runc.v1.Options";
        assert_eq!(named(&options(runc, "/a/b")).unwrap().unwrap().to_string(), "/a/b");
        assert!(named(&options(runc, "")).unwrap().is_none());
        assert!(named(&options("runtimeoptions.v1.Options", "/a/b")).unwrap().is_none());
        assert!(named(&[]).unwrap().is_none());
    }

    #[test]
    fn group_outside_of_the_hierarchies_and_one_that_is_not_there_are_errors() {
        let runc = "containerd.runc.v1.Options";
        assert!(named(&options(runc, "/a/../..")).is_err());
        let error = join(&options(runc, "/no/such/group/of/bulkhead")).unwrap_err().to_string();
        assert!(error.contains("/no/such/group/of/bulkhead"), "{error}");
    }
}
