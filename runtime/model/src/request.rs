//! What containerd asks for, parsed and not yet judged.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::{ContainerId, Interaction, Mount, Tenant};

/// What part a container has in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// No pod: `ctr run` and the like.
    Plain,
    /// The pod's own container (pause), whose id is the sandbox id.
    Sandbox,
    /// A container of the pod `sandbox`.
    InSandbox {
        /// Id of the pod's sandbox.
        sandbox: ContainerId,
    },
}

/// A task to be created.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// Id of the container, in its namespace.
    pub id: ContainerId,
    /// Who asks.
    pub tenant: Tenant,
    /// Its part in a pod.
    pub kind: ContainerKind,
    /// Directory of config.json and rootfs.
    pub bundle: PathBuf,
    /// config.json, as the client wrote it.
    pub spec: Spec,
    /// What containerd asks to mount as the root file system, lowest first.
    pub rootfs: Vec<Mount>,
}

/// A process to be run in a container that exists.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Id of the container.
    pub container: ContainerId,
    /// Id of the exec.
    pub exec: ContainerId,
    /// The process, as the client wrote it.
    pub process: Process,
    /// Whether it gets standard input and a terminal.
    pub interaction: Interaction,
}
