//! The rest of containerd's task API: one process of a container, its init (`exec` is empty) or an exec.

use containerd_client::{
    services::v1::{
        CheckpointTaskRequest, CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, GetRequest,
        KillRequest, ListPidsRequest, MetricsRequest, PauseTaskRequest, ResizePtyRequest, StartRequest,
        UpdateTaskRequest, WaitRequest,
    },
    types::v1::Status,
};
use prost_types::Any;
use serde_json::json;

use crate::{HarnessError, Result, Tasks};

/// What containerd tells of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub status: String,
    /// Its pid.
    pub pid: u32,
    /// Its exit status; 0 before its end.
    pub exit_status: u32,
}

/// Where the streams of an exec lead; empty for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamPaths<'a> {
    /// Standard input.
    pub stdin: &'a str,
    /// Standard output.
    pub stdout: &'a str,
}

/// One call: the method's name is that of the client's function, its name for people the second word.
macro_rules! call {
    ($tasks:expr, $method:ident, $name:literal, $request:expr) => {{
        let mut client = $tasks.client();
        let answer = $tasks.block_on(client.$method($tasks.request($request)));
        answer.map(tonic::Response::into_inner).map_err(HarnessError::rpc($name))
    }};
}

impl Tasks {
    /// State of a process.
    pub fn state(&self, id: &str, exec: &str) -> Result<Seen> {
        let request = GetRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let found = call!(self, get, "tasks.Get", request)?.process.unwrap_or_default();
        let status = Status::try_from(found.status).unwrap_or_default().as_str_name().to_owned();
        Ok(Seen { status, pid: found.pid, exit_status: found.exit_status })
    }

    /// Adds an exec, run as [`crate::UID`] in `/`.
    pub fn add_exec(&self, id: &str, exec: &str, command: &[&str], streams: StreamPaths<'_>) -> Result<()> {
        self.add_exec_of(id, exec, &Self::process(command), streams)
    }

    /// The `process` that [`Self::add_exec`] sends.
    #[must_use]
    pub fn process(command: &[&str]) -> serde_json::Value {
        json!({
            "user": { "uid": crate::UID, "gid": crate::UID },
            "args": command,
            "env": ["PATH=/bin:/sbin:/usr/bin"],
            "cwd": "/",
        })
    }

    /// Adds an exec whose `process` is the caller's.
    pub fn add_exec_of(
        &self,
        id: &str,
        exec: &str,
        process: &serde_json::Value,
        streams: StreamPaths<'_>,
    ) -> Result<()> {
        let request = ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdin: streams.stdin.to_owned(),
            stdout: streams.stdout.to_owned(),
            spec: Some(typed("types.containerd.io/opencontainers/runtime-spec/1/Process", process)),
            ..ExecProcessRequest::default()
        };
        call!(self, exec, "tasks.Exec", request)
    }

    /// Adds an exec with a process document of the caller's choice.
    pub fn add_exec_raw(&self, id: &str, exec: &str, document: Vec<u8>) -> Result<()> {
        let type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned();
        let request = ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            spec: Some(Any { type_url, value: document }),
            ..ExecProcessRequest::default()
        };
        call!(self, exec, "tasks.Exec", request)
    }

    /// Starts an exec; its pid.
    pub fn start_exec(&self, id: &str, exec: &str) -> Result<u32> {
        let request = StartRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        Ok(call!(self, start, "tasks.Start", request)?.pid)
    }

    /// Waits for the end of an exec; its exit status.
    pub fn wait_exec(&self, id: &str, exec: &str) -> Result<u32> {
        let request = WaitRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        Ok(call!(self, wait, "tasks.Wait", request)?.exit_status)
    }

    /// Sends a signal to an exec.
    pub fn kill_exec(&self, id: &str, exec: &str, signal: u32) -> Result<()> {
        let request =
            KillRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), signal, all: false };
        call!(self, kill, "tasks.Kill", request)
    }

    /// Deletes an exec; its exit status.
    pub fn delete_exec(&self, id: &str, exec: &str) -> Result<u32> {
        let request = DeleteProcessRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        Ok(call!(self, delete_process, "tasks.DeleteProcess", request)?.exit_status)
    }

    /// How many processes a task has.
    pub fn pids(&self, id: &str) -> Result<usize> {
        Ok(call!(self, list_pids, "tasks.ListPids", ListPidsRequest { container_id: id.to_owned() })?
            .processes
            .len())
    }

    /// How many tasks answer with their metrics.
    pub fn metrics(&self, id: &str) -> Result<usize> {
        let request = MetricsRequest { filters: vec![format!("id=={id}")] };
        Ok(call!(self, metrics, "tasks.Metrics", request)?.metrics.len())
    }

    /// Freezes a task.
    pub fn pause(&self, id: &str) -> Result<()> {
        call!(self, pause, "tasks.Pause", PauseTaskRequest { container_id: id.to_owned() })
    }

    /// Sets the size of a terminal.
    pub fn resize(&self, id: &str, exec: &str) -> Result<()> {
        let request =
            ResizePtyRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), width: 80, height: 24 };
        call!(self, resize_pty, "tasks.ResizePty", request)
    }

    /// Ends the input of a process.
    pub fn close_stdin(&self, id: &str, exec: &str) -> Result<()> {
        let request = CloseIoRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), stdin: true };
        call!(self, close_io, "tasks.CloseIO", request)
    }

    /// Asks for a checkpoint.
    pub fn checkpoint(&self, id: &str) -> Result<()> {
        let request =
            CheckpointTaskRequest { container_id: id.to_owned(), ..CheckpointTaskRequest::default() };
        call!(self, checkpoint, "tasks.Checkpoint", request).map(drop)
    }

    /// Changes the limits of a task: the `linux.resources` of a spec.
    pub fn update(&self, id: &str, resources: &serde_json::Value) -> Result<()> {
        let name = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let request = UpdateTaskRequest {
            container_id: id.to_owned(),
            resources: Some(typed(name, resources)),
            ..UpdateTaskRequest::default()
        };
        call!(self, update, "tasks.Update", request)
    }
}

/// JSON in the form of containerd's typeurl.
pub(crate) fn typed(name: &str, value: &serde_json::Value) -> Any {
    Any { type_url: name.to_owned(), value: value.to_string().into_bytes() }
}
