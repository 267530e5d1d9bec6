//! A Create call in our own words: parsed, bounded, not yet judged.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use bulkhead_cgroup::CgroupPath;
use bulkhead_model::{ContainerId, ContainerKind, CreateRequest, Mount, Namespace, Tenant};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::Spec;
use prost::Message;

use crate::task::TaskError;

/// containerd's namespace for pods: only there its annotations name the tenant.
///
/// Source: `K8sContainerdNamespace`, containerd internal/cri/constants.
const CRI_NAMESPACE: &str = "k8s.io";

/// Source: containerd internal/cri/annotations (pkg/cri/annotations before 2.0).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";

/// Largest config.json accepted, in bytes: containerd's CRI writes about 20 kB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What to do about a config.json that cannot be read as one.
pub(crate) const NO_SPEC: &str =
    "fix: use a client that writes a config.json of the OCI runtime specification 1.x";

/// A Create call.
pub(crate) struct Asked {
    /// Id of the container.
    pub(crate) id: ContainerId,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// What to mount as its root.
    pub(crate) rootfs: Vec<Mount>,
    /// Runtime options.
    pub(crate) options: Option<Any>,
}

/// containerd's options for runtimes that are not runc's.
///
/// Source: containerd api/types/runtimeoptions/v1/api.proto.
#[derive(Clone, PartialEq, Message)]
struct RuntimeOptions {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    config_body: Vec<u8>,
}

/// Of runc's options what is honoured.
///
/// Source: containerd api/types/runc/options/oci.proto.
#[derive(Clone, PartialEq, Message)]
struct RuncOptions {
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

/// Who makes the control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    /// systemd where the path is in its form, as containerd's CRI has it where the pod's group ends in `.slice`.
    ByPath,
    /// systemd.
    Systemd,
}

impl Asked {
    /// The policy file that the runtime options name, if any.
    pub(super) fn policy_file(&self) -> Result<Option<PathBuf>, TaskError> {
        let Some(options) = &self.options else { return Ok(None) };
        if options.value.is_empty() {
            return Ok(None);
        }
        if !options.type_url.ends_with("runtimeoptions.v1.Options") {
            tracing::warn!(
                kind = options.type_url,
                "runtime options of another runtime are ignored but for SystemdCgroup: they name a binary, a \
                 directory and owners of pipes, and bulkhead has its own"
            );
            return Ok(None);
        }
        let options = RuntimeOptions::decode(options.value.as_slice())
            .map_err(|error| TaskError::InvalidArgument(format!("runtime options: {error}")))?;
        if options.config_path.is_empty() && !options.config_body.is_empty() {
            return Err(TaskError::FailedPrecondition(
                "runtime options without ConfigPath mean nothing to bulkhead; fix: ConfigPath = \"/etc/bulkhead/policy.toml\", or none"
                    .to_owned(),
            ));
        }
        match options.config_path.as_str() {
            "" => Ok(None),
            path if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
            path => Err(TaskError::InvalidArgument(format!("ConfigPath {path:?} is not absolute"))),
        }
    }

    /// The driver that runc's options name, if they came; else the form of the path says which.
    pub(super) fn cgroup_driver(&self) -> Result<CgroupDriver, TaskError> {
        let Some(options) = &self.options else { return Ok(CgroupDriver::ByPath) };
        if !options.type_url.ends_with("containerd.runc.v1.Options") {
            return Ok(CgroupDriver::ByPath);
        }
        let options = RuncOptions::decode(options.value.as_slice())
            .map_err(|error| TaskError::InvalidArgument(format!("runtime options: {error}")))?;
        Ok(if options.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::ByPath })
    }

    /// The request, with its config.json read and its tenant named.
    pub(super) fn request(self, namespace: &Namespace) -> Result<CreateRequest, TaskError> {
        let spec = read_spec(&self.bundle.join("config.json"))?;
        Ok(CreateRequest {
            tenant: tenant(namespace, &spec)?,
            kind: kind(namespace, &spec, &self.id)?,
            id: self.id,
            bundle: self.bundle,
            spec,
            rootfs: self.rootfs,
        })
    }
}

/// The policy file that the runtime options on `start`'s standard input name, so that the server may read it. What
/// cannot be read there is Create's to complain of.
pub(crate) fn policy_file(input: &[u8]) -> Option<PathBuf> {
    use containerd_shim_protos::protobuf::Message as _;

    let options = Any::parse_from_bytes(input)
        .ok()
        .filter(|any| any.type_url.ends_with("runtimeoptions.v1.Options"))?;
    let options = RuntimeOptions::decode(options.value.as_slice()).ok()?;
    Some(PathBuf::from(options.config_path)).filter(|path| path.is_absolute())
}

/// Its control group: as config.json says, else as `ctr` or, with systemd's driver, runc would have said.
pub(crate) fn cgroup_path(
    spec: &Spec,
    namespace: &Namespace,
    id: &ContainerId,
    driver: CgroupDriver,
) -> Result<CgroupPath, TaskError> {
    let named = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let text = match named {
        Some(path) if !path.as_os_str().is_empty() => path.display().to_string(),
        _ if driver == CgroupDriver::Systemd => format!(":bulkhead:{id}"),
        _ => format!("/{namespace}/{id}"),
    };
    let path: CgroupPath = text.parse().map_err(|error| TaskError::FailedPrecondition(format!("{error}")))?;
    if driver == CgroupDriver::Systemd && !path.is_systemds() {
        return Err(TaskError::FailedPrecondition(format!(
            "SystemdCgroup = true and linux.cgroupsPath {text:?} do not agree; fix: give slice:prefix:name, or \
             SystemdCgroup = false"
        )));
    }
    Ok(path)
}

/// Reads config.json.
pub(super) fn read_spec(path: &Path) -> Result<Spec, TaskError> {
    let wrong = |call: &str, error: &dyn std::fmt::Display| {
        TaskError::Internal(format!(
            "{call} {}: {error}; fix: leave the bundle to containerd while a container is created",
            path.display()
        ))
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(|error| wrong("open(2)", &error))?
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|error| wrong("read(2)", &error))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(TaskError::InvalidArgument(format!(
            "{} has over {CONFIG_BYTES_MAX} bytes; fix: shorten annotations, process.args or process.env",
            path.display()
        )));
    }
    serde_json::from_slice(&text)
        .map_err(|error| TaskError::InvalidArgument(format!("{}: {error}; {NO_SPEC}", path.display())))
}

fn annotation<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    spec.annotations().as_ref()?.get(name).map(String::as_str)
}

/// The pod's namespace where containerd's CRI plugin said it, else containerd's own.
fn tenant(namespace: &Namespace, spec: &Spec) -> Result<Tenant, TaskError> {
    let said = match namespace.as_str() {
        CRI_NAMESPACE => annotation(spec, SANDBOX_NAMESPACE),
        _ => None,
    };
    let tenant = match said {
        None => namespace.clone(),
        Some(text) => Namespace::of_pod(text).map_err(|error| {
            TaskError::InvalidArgument(format!("annotation {SANDBOX_NAMESPACE}: {error}"))
        })?,
    };
    Ok(Tenant { containerd_namespace: namespace.clone(), namespace: tenant })
}

fn kind(namespace: &Namespace, spec: &Spec, id: &ContainerId) -> Result<ContainerKind, TaskError> {
    if namespace.as_str() != CRI_NAMESPACE {
        return Ok(ContainerKind::Plain);
    }
    match (annotation(spec, CONTAINER_TYPE), annotation(spec, SANDBOX_ID)) {
        (None, None) => Ok(ContainerKind::Plain),
        (Some("sandbox"), Some(sandbox)) if sandbox == id.as_str() => Ok(ContainerKind::Sandbox),
        (Some("container"), Some(sandbox)) => {
            let sandbox = sandbox
                .parse()
                .map_err(|error| TaskError::InvalidArgument(format!("annotation {SANDBOX_ID}: {error}")))?;
            Ok(ContainerKind::InSandbox { sandbox })
        }
        (kind, sandbox) => Err(TaskError::InvalidArgument(format!(
            "annotations {CONTAINER_TYPE}={kind:?} and {SANDBOX_ID}={sandbox:?} of container {id} do not agree"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(annotations: &[(&str, &str)]) -> Spec {
        let annotations: std::collections::HashMap<_, _> =
            annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut spec = Spec::default();
        spec.set_annotations(Some(annotations));
        spec
    }

    fn asked(options: Option<Any>) -> Asked {
        Asked { id: "c".parse().unwrap(), bundle: PathBuf::new(), rootfs: Vec::new(), options }
    }

    fn options(kind: &str, options: &RuntimeOptions) -> Option<Any> {
        let mut any = Any::new();
        any.type_url = kind.to_owned();
        any.value = options.encode_to_vec();
        Some(any)
    }

    #[test]
    fn pod_namespace_names_the_tenant_inside_the_cri_namespace() {
        let spec = spec(&[(SANDBOX_NAMESPACE, "payments")]);
        let tenant = tenant(&CRI_NAMESPACE.parse().unwrap(), &spec).unwrap();
        assert_eq!(tenant.namespace.as_str(), "payments");
    }

    #[test]
    fn pod_namespace_that_is_no_name_is_spelled_as_one_and_an_empty_one_is_an_error() {
        let of =
            |namespace| tenant(&CRI_NAMESPACE.parse().unwrap(), &spec(&[(SANDBOX_NAMESPACE, namespace)]));
        assert_eq!(of("../payments").unwrap().namespace.as_str(), "%2E.%2Fpayments");
        assert!(of("").is_err());
    }

    #[test]
    fn annotation_names_no_tenant_outside_of_it() {
        let spec = spec(&[(SANDBOX_NAMESPACE, "payments"), (CONTAINER_TYPE, "sandbox"), (SANDBOX_ID, "c")]);
        let namespace = "default".parse().unwrap();
        assert_eq!(tenant(&namespace, &spec).unwrap().namespace, namespace);
        assert_eq!(kind(&namespace, &spec, &"c".parse().unwrap()).unwrap(), ContainerKind::Plain);
    }

    #[test]
    fn annotations_of_a_pod_that_do_not_agree_are_an_error() {
        let namespace = CRI_NAMESPACE.parse().unwrap();
        let id = "c".parse().unwrap();
        assert!(kind(&namespace, &spec(&[(CONTAINER_TYPE, "sandbox"), (SANDBOX_ID, "d")]), &id).is_err());
        assert!(kind(&namespace, &spec(&[(CONTAINER_TYPE, "container")]), &id).is_err());
        assert!(kind(&namespace, &spec(&[(CONTAINER_TYPE, "vm"), (SANDBOX_ID, "c")]), &id).is_err());
    }

    #[test]
    fn config_path_names_the_policy() {
        let path = RuntimeOptions { config_path: "/etc/p.toml".into(), ..RuntimeOptions::default() };
        for kind in ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"] {
            let file = asked(options(kind, &path)).policy_file().unwrap();
            assert_eq!(file, Some(PathBuf::from("/etc/p.toml")));
        }
    }

    #[test]
    fn relative_config_path_and_other_configuration_are_errors() {
        let kind = "runtimeoptions.v1.Options";
        let relative = RuntimeOptions { config_path: "p.toml".into(), ..RuntimeOptions::default() };
        assert!(asked(options(kind, &relative)).policy_file().is_err());
        let body = RuntimeOptions { config_body: b"x = 1".to_vec(), ..RuntimeOptions::default() };
        assert!(asked(options(kind, &body)).policy_file().is_err());
    }

    #[test]
    fn options_of_runc_are_ignored() {
        let path = RuntimeOptions { config_path: "/etc/p.toml".into(), ..RuntimeOptions::default() };
        assert_eq!(asked(options("containerd.runc.v1.Options", &path)).policy_file().unwrap(), None);
    }

    #[test]
    fn container_without_a_cgroup_path_gets_one_of_its_own() {
        let mut spec = Spec::default();
        spec.set_linux(None);
        let path =
            |driver| cgroup_path(&spec, &"default".parse().unwrap(), &"c".parse().unwrap(), driver).unwrap();
        assert_eq!(path(CgroupDriver::ByPath).to_string(), "/default/c");
        assert_eq!(path(CgroupDriver::Systemd).relative(), "system.slice/bulkhead-c.scope");
    }

    #[test]
    fn systemd_is_asked_where_the_path_or_runcs_options_say_so_and_both_must_agree() {
        let path = |text: &str, driver| {
            let mut linux = oci_spec::runtime::Linux::default();
            linux.set_cgroups_path(Some(text.into()));
            let mut spec = Spec::default();
            spec.set_linux(Some(linux));
            cgroup_path(&spec, &"default".parse().unwrap(), &"c".parse().unwrap(), driver)
        };
        let (by_path, systemd) = (CgroupDriver::ByPath, CgroupDriver::Systemd);
        assert!(path("pod.slice:cri-containerd:c", by_path).unwrap().is_systemds());
        assert!(path("pod.slice:cri-containerd:c", systemd).unwrap().is_systemds());
        assert!(!path("/pod.slice/c", by_path).unwrap().is_systemds());
        assert!(path("/pod.slice/c", systemd).is_err());
        assert!(path("../x.slice:p:c", by_path).is_err());

        let mut any = Any::new();
        any.type_url = "containerd.runc.v1.Options".to_owned();
        any.value = RuncOptions { systemd_cgroup: true }.encode_to_vec();
        assert_eq!(asked(Some(any.clone())).cgroup_driver().unwrap(), systemd);
        any.value.clear();
        assert_eq!(asked(Some(any.clone())).cgroup_driver().unwrap(), by_path);
        any.value = vec![0xff];
        assert!(asked(Some(any)).cgroup_driver().is_err());
        assert_eq!(asked(None).cgroup_driver().unwrap(), by_path);
    }
}
