//! containerd's task service: each call finds its container and hands on.
//!
//! Invariant: every method of the service is written out here; none is left to the generated "not supported".

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
        ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
        StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    protobuf::{EnumOrUnknown, Message, MessageField, well_known_types::any::Any},
    shim::oci::ProcessDetails,
    shim_async::Task,
    ttrpc::{Result, r#async::TtrpcContext},
};

use super::{TaskError, Tasks, container::timestamp, create, exec, lifecycle, start, stats};
use crate::server::SocketFile;

/// The service, under whichever name it is called.
pub(crate) struct Service {
    tasks: Arc<Tasks>,
    socket: Arc<SocketFile>,
}

impl Service {
    /// The service of these tasks, found at this socket.
    pub(crate) fn new(tasks: Arc<Tasks>, socket: Arc<SocketFile>) -> Self {
        Self { tasks, socket }
    }
}

#[async_trait]
impl Task for Service {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let mut response = CreateTaskResponse::new();
        response.pid = create::create(&self.tasks, request).await?;
        Ok(response)
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let (container, process) = self.tasks.process(&request.id, &request.exec_id)?;
        let mut response = StartResponse::new();
        response.pid = start::start(Arc::clone(&self.tasks), container, process).await?;
        Ok(response)
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let (container, process) = self.tasks.process(&request.id, &request.exec_id)?;
        let mut response = StateResponse::new();
        response.id = if process.is_init() { container.id.to_string() } else { process.exec_id.clone() };
        response.exec_id.clone_from(&process.exec_id);
        response.bundle.clone_from(&container.bundle);
        response.pid = process.pid();
        response.status = EnumOrUnknown::new(process.status(container.is_paused()));
        response.stdin.clone_from(&process.paths.stdin);
        response.stdout.clone_from(&process.paths.stdout);
        response.stderr.clone_from(&process.paths.stderr);
        response.terminal = process.paths.terminal;
        if let Some(exit) = process.exited() {
            response.exit_status = exit.status;
            response.exited_at = timestamp(exit.at);
        }
        Ok(response)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let (_, process) = self.tasks.process(&request.id, &request.exec_id)?;
        let exit = process.wait().await;
        let exit = exit.ok_or_else(|| TaskError::Internal("the process was forgotten".to_owned()))?;
        let mut response = WaitResponse::new();
        response.exit_status = exit.status;
        response.exited_at = timestamp(exit.at);
        Ok(response)
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let container = self.tasks.get(&request.id)?;
        lifecycle::kill(&container, &request).await?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let container = self.tasks.get(&request.id)?;
        exec::exec(&self.tasks, &container, request).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let (_, process) = self.tasks.process(&request.id, &request.exec_id)?;
        let size = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        process.resize(size(request.width), size(request.height))?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let (_, process) = self.tasks.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.tasks.get(&request.id)?;
        let mut response = PidsResponse::new();
        for pid in container.pids()? {
            let mut info = ProcessInfo::new();
            info.pid = pid;
            if let Some(exec_id) = container.exec_of_pid(pid) {
                let mut details = ProcessDetails::new();
                details.exec_id = exec_id;
                info.info = MessageField::some(any("containerd.runc.v1.ProcessDetails", &details)?);
            }
            response.processes.push(info);
        }
        Ok(response)
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        let container = self.tasks.get(&request.id)?;
        lifecycle::pause(&self.tasks, &container).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        let container = self.tasks.get(&request.id)?;
        lifecycle::resume(&self.tasks, &container).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Result<Empty> {
        Err(TaskError::Unimplemented("checkpoint".to_owned()).into())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let container = self.tasks.get(&request.id)?;
        lifecycle::update(&self.tasks, &container, &request).await?;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.tasks.get(&request.id)?;
        let read = container.cgroup.stats().map_err(|error| TaskError::internal(&error))?;
        let mut response = StatsResponse::new();
        response.stats =
            MessageField::some(stats::any(self.tasks.stages().zygote().cgroups().version(), &read)?);
        Ok(response)
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        let mut response = ConnectResponse::new();
        response.shim_pid = std::process::id();
        // As runc's shim: a container that is not there has pid 0.
        response.task_pid = self.tasks.get(&request.id).map_or(0, |container| container.init.pid());
        Ok(response)
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.tasks.get(&request.id)?;
        Ok(lifecycle::delete(&self.tasks, &container, &request.exec_id).await?)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        if self.tasks.is_empty() {
            // Once this is answered containerd may start the next server for the same container.
            self.socket.remove();
            self.tasks.ask_shutdown();
        }
        Ok(Empty::new())
    }
}

/// A message in the form that containerd's typeurl expects: the bare name.
pub(super) fn any(name: &str, message: &impl Message) -> std::result::Result<Any, TaskError> {
    let mut any = Any::new();
    any.type_url = name.to_owned();
    any.value = message.write_to_bytes().map_err(|error| TaskError::internal(&error))?;
    Ok(any)
}
