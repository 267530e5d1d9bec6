//! Pods through containerd's CRI: what the kubelet would ask for.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use k8s_cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, ContainerState, ContainerStats, ContainerStatsRequest,
    ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest, ImageSpec, Int64Value,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, ListPodSandboxRequest, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, SecurityProfile, StartContainerRequest, StatusRequest, StopContainerRequest,
    StopPodSandboxRequest, UpdateContainerResourcesRequest, runtime_service_client::RuntimeServiceClient,
    security_profile::ProfileType,
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::{Containerd, HarnessError, Result, daemon::directory, fixture, run, tasks};

/// How long one CRI call may take.
const CALL: Duration = Duration::from_secs(180);

/// A CRI client of one daemon.
#[derive(Debug)]
pub struct Pods {
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
    tag: String,
    logs: PathBuf,
    containerd: u32,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its sandbox id.
    pub id: String,
    config: PodSandboxConfig,
}

impl Pod {
    /// Its UID, as the API server would have given it.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |metadata| &metadata.uid)
    }
}

/// A container to create in a pod. [`ContainerOptions::restricted`] is what Pod Security "restricted" asks for.
#[derive(Clone, Debug)]
pub struct ContainerOptions {
    /// Its name in the pod.
    pub name: String,
    /// Its image, which must be there.
    pub image: String,
    /// What it runs.
    pub command: Vec<String>,
    /// Its security context.
    pub security: LinuxContainerSecurityContext,
    /// Host path, path in the container, read-only.
    pub mounts: Vec<(PathBuf, String, bool)>,
    /// An image, and where it is mounted in the container: containerd 2.1 and later.
    pub image_volumes: Vec<(String, String)>,
}

/// What a command left that was run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl ContainerOptions {
    /// A container as Pod Security "restricted" has it.
    ///
    /// Source: Kubernetes, Pod Security Standards, "Restricted".
    #[must_use]
    pub fn restricted(name: &str, image: &str, command: &[&str]) -> Self {
        let security = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                drop_capabilities: vec!["ALL".to_owned()],
                ..Capability::default()
            }),
            namespace_options: Some(namespaces()),
            run_as_user: Some(Int64Value { value: crate::UID.into() }),
            run_as_group: Some(Int64Value { value: crate::UID.into() }),
            no_new_privs: true,
            seccomp: Some(SecurityProfile {
                profile_type: ProfileType::RuntimeDefault.into(),
                ..Default::default()
            }),
            ..LinuxContainerSecurityContext::default()
        };
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let (mounts, image_volumes) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), image: image.to_owned(), command, security, mounts, image_volumes }
    }
}

impl Containerd {
    /// A CRI client.
    pub fn pods(&self) -> Result<Pods> {
        let runtime = tasks::runtime()?;
        let channel = tasks::connect(&runtime, &self.socket())?;
        let logs = self.dir().join("pods");
        directory(&logs)?;
        let client = RuntimeServiceClient::new(channel);
        Ok(Pods { runtime, client, tag: self.tag().to_owned(), logs, containerd: self.pid() })
    }
}

/// One call of the CRI: the method's name, for the error, is that of the client's function.
macro_rules! call {
    ($pods:expr, $method:ident, $request:expr) => {{
        let mut client = $pods.client.clone();
        let mut request = tonic::Request::new($request);
        request.set_timeout(CALL);
        let answer = $pods.runtime.block_on(client.$method(request));
        answer.map(tonic::Response::into_inner).map_err(HarnessError::rpc(stringify!($method)))
    }};
}

impl Pods {
    /// Whether runtime and network are ready.
    pub fn ready(&self) -> Result<bool> {
        let status = call!(self, status, StatusRequest { verbose: false })?.status.unwrap_or_default();
        Ok(status.conditions.len() >= 2 && status.conditions.iter().all(|condition| condition.status))
    }

    /// Runs a pod of Kubernetes namespace `namespace` under the handler `runc` or `bulkhead`.
    pub fn run(&self, handler: &str, namespace: &str, name: &str) -> Result<Pod> {
        self.run_in(handler, namespace, name, namespaces())
    }

    /// As [`Self::run`], with other namespaces than the kubelet's defaults.
    pub fn run_in(
        &self,
        handler: &str,
        namespace: &str,
        name: &str,
        namespaces: NamespaceOption,
    ) -> Result<Pod> {
        self.run_with(handler, namespace, name, |config| {
            let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
            if let Some(security) = security {
                security.namespace_options = Some(namespaces);
            }
        })
    }

    /// As [`Self::run`], with what `edit` makes of what the kubelet would ask.
    pub fn run_with(
        &self,
        handler: &str,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut PodSandboxConfig),
    ) -> Result<Pod> {
        let logs = self.logs.join(name);
        directory(&logs)?;
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{}-{name}", self.tag),
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: logs.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.tag),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    run_as_user: Some(Int64Value { value: crate::UID.into() }),
                    run_as_group: Some(Int64Value { value: crate::UID.into() }),
                    seccomp: Some(SecurityProfile {
                        profile_type: ProfileType::RuntimeDefault.into(),
                        ..Default::default()
                    }),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        };
        edit(&mut config);
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        let id = call!(self, run_pod_sandbox, request)?.pod_sandbox_id;
        Ok(Pod { id, config })
    }

    /// Creates a container in a pod; its id.
    pub fn create(&self, pod: &Pod, options: &ContainerOptions) -> Result<String> {
        self.create_with(pod, options, |_| {})
    }

    /// As [`Self::create`], with what `edit` makes of what the kubelet would ask.
    pub fn create_with(
        &self,
        pod: &Pod,
        options: &ContainerOptions,
        edit: impl FnOnce(&mut ContainerConfig),
    ) -> Result<String> {
        let mounts = options.mounts.iter().map(|(host, path, readonly)| Mount {
            host_path: host.display().to_string(),
            container_path: path.clone(),
            readonly: *readonly,
            ..Mount::default()
        });
        let image_volumes = options.image_volumes.iter().map(|(image, path)| Mount {
            container_path: path.clone(),
            readonly: true,
            image: Some(ImageSpec {
                image: image.clone(),
                user_specified_image: image.clone(),
                ..ImageSpec::default()
            }),
            ..Mount::default()
        });
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: options.name.clone(), attempt: 0 }),
            image: Some(ImageSpec {
                image: options.image.clone(),
                user_specified_image: options.image.clone(),
                ..ImageSpec::default()
            }),
            command: options.command.clone(),
            log_path: format!("{}.log", options.name),
            mounts: mounts.chain(image_volumes).collect(),
            linux: Some(LinuxContainerConfig {
                security_context: Some(options.security.clone()),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        };
        edit(&mut config);
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(call!(self, create_container, request)?.container_id)
    }

    /// Starts a container.
    pub fn start(&self, container: &str) -> Result<()> {
        call!(self, start_container, StartContainerRequest { container_id: container.to_owned() }).map(drop)
    }

    /// Creates and starts a container; its id.
    pub fn launch(&self, pod: &Pod, options: &ContainerOptions) -> Result<String> {
        let id = self.create(pod, options)?;
        self.start(&id)?;
        Ok(id)
    }

    /// Runs a command in a container to its end.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<Executed> {
        self.exec_within(container, command, 30)
    }

    /// As [`Self::exec`], for `seconds` at most.
    pub fn exec_within(&self, container: &str, command: &[&str], seconds: i64) -> Result<Executed> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: seconds,
        };
        let answer = call!(self, exec_sync, request)?;
        Ok(Executed {
            code: answer.exit_code,
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
        })
    }

    /// CPU and memory of a container.
    pub fn stats(&self, container: &str) -> Result<ContainerStats> {
        let answer =
            call!(self, container_stats, ContainerStatsRequest { container_id: container.to_owned() })?;
        Ok(answer.stats.unwrap_or_default())
    }

    /// Changes the limits of a container, as the kubelet does when a pod is resized.
    pub fn update(&self, container: &str, limits: LinuxContainerResources) -> Result<()> {
        let request = UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(limits),
            ..UpdateContainerResourcesRequest::default()
        };
        call!(self, update_container_resources, request).map(drop)
    }

    /// Exit code of a container that has ended, and why; `None` while it runs.
    pub fn exit_code(&self, container: &str) -> Result<Option<i32>> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let status = call!(self, container_status, request)?.status.unwrap_or_default();
        Ok((status.state() == ContainerState::ContainerExited).then_some(status.exit_code))
    }

    /// Waits for the end of a container; its exit code.
    pub fn wait(&self, container: &str) -> Result<i32> {
        let mut code = None;
        run::until("the container's end", Duration::from_secs(60), || {
            code = self.exit_code(container)?;
            Ok(code.is_some())
        })?;
        Ok(code.unwrap_or(-1))
    }

    /// Where CRI writes what the container `name` of a pod writes.
    #[must_use]
    pub fn log(&self, pod: &Pod, name: &str) -> PathBuf {
        PathBuf::from(&pod.config.log_directory).join(format!("{name}.log"))
    }

    /// What the container `name` of a pod wrote in its life, which is over, without the log's prefixes.
    ///
    /// CRI writes it on its own time, which may be after it has told the exit: it is whole when containerd has closed it.
    pub fn output(&self, pod: &Pod, name: &str) -> Result<String> {
        let path = self.log(pod, name);
        let log = fs::metadata(&path).map_err(HarnessError::at("stat", &path))?;
        run::until(&format!("the end of {}", path.display()), Duration::from_secs(60), || {
            Ok(!has_open(self.containerd, &log))
        })?;
        self.output_so_far(pod, name)
    }

    /// What a container of a pod wrote that writes something in any case, and ended with 0: runc's is made again, as
    /// [`crate::heard`] says. `launch` is given a name that the pod has for no other.
    pub fn said(&self, handler: &str, pod: &Pod, launch: impl Fn(&str) -> Result<String>) -> Result<String> {
        run::heard(handler, || {
            let name = format!("said{}", fixture::unique());
            let code = self.wait(&launch(&name)?)?;
            let said = self.output(pod, &name)?;
            match code {
                0 => Ok(said),
                code => Err(HarnessError::Format { what: "an end with 0", found: format!("{code}: {said}") }),
            }
        })
    }

    /// As [`Self::output`], of a container that runs: as much as has reached the log.
    pub fn output_so_far(&self, pod: &Pod, name: &str) -> Result<String> {
        let path = self.log(pod, name);
        let log = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
        // 2026-11-21T05:00:00.0Z stdout F text
        let lines = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        Ok(lines.map(|line| format!("{line}\n")).collect())
    }

    /// Stops a container: SIGTERM, and SIGKILL after `grace` seconds.
    pub fn stop(&self, container: &str, grace: i64) -> Result<()> {
        let request = StopContainerRequest { container_id: container.to_owned(), timeout: grace };
        call!(self, stop_container, request).map(drop)
    }

    /// Removes a container.
    pub fn remove(&self, container: &str) -> Result<()> {
        call!(self, remove_container, RemoveContainerRequest { container_id: container.to_owned() }).map(drop)
    }

    /// Stops and removes a pod with all in it.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        call!(self, stop_pod_sandbox, StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() })?;
        call!(self, remove_pod_sandbox, RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() }).map(drop)
    }

    /// How many pods containerd knows.
    pub fn count(&self) -> Result<usize> {
        Ok(call!(self, list_pod_sandbox, ListPodSandboxRequest { filter: None })?.items.len())
    }
}

/// Whether a process has a file open.
fn has_open(pid: u32, file: &fs::Metadata) -> bool {
    // A descriptor that was closed meanwhile is none.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut open = open.filter_map(|entry| fs::metadata(entry.path()).ok());
    open.any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}

/// As the kubelet sets them: network and IPC per pod, PIDs per container.
#[must_use]
pub fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        ipc: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    }
}
