//! A shim, driven as containerd drives it: `start`, then ttrpc.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use bulkhead_integration::HarnessError;
use containerd_shim_protos::{
    api::{
        CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, Mount, ShutdownRequest,
        StartRequest, StartResponse, WaitRequest, WaitResponse,
    },
    protobuf::{Message, MessageField, well_known_types::any::Any},
    ttrpc,
};

use super::reap;
use crate::{
    job::{Job, Turn},
    wrong,
};

/// The name of the task service that every shim has.
///
/// Source: containerd api/runtime/task/v2/shim.proto; v3 has the same messages.
const SERVICE: &str = "containerd.task.v2.Task";

/// How long one call may take, in nanoseconds.
const CALL_NS: i64 = 60_000_000_000;

/// A shim that serves.
pub(super) struct Shim {
    client: ttrpc::Client,
    id: String,
    /// Both ends of its log: it waits for a reader.
    _log: File,
}

impl Shim {
    /// Starts it.
    ///
    /// Source: `binary.Start`, containerd runtime/v2/binary.go; `Command`, pkg/shim.
    pub(super) fn start(job: &Job, turn: &Turn) -> Result<Self, HarnessError> {
        let log = turn.bundle.join("log");
        let opened = OpenOptions::new().read(true).write(true).open(&log);
        let opened = opened.map_err(HarnessError::at("open", &log))?;
        let ttrpc = format!("{}.ttrpc", job.containerd.display());
        let mut command = Command::new(&turn.shim);
        command.arg("-namespace").arg(&job.namespace).arg("-address").arg(&job.proxy);
        command.args(["-publish-binary", "/usr/bin/containerd", "-id", &turn.id, "start"]);
        command.env("TTRPC_ADDRESS", ttrpc).env("GRPC_ADDRESS", &job.proxy).env("NAMESPACE", &job.namespace);
        command.env("GOMAXPROCS", "2").current_dir(&turn.bundle).stdin(Stdio::null());
        let failed = |source| HarnessError::Run { program: turn.shim.clone(), source };
        let output = command.output().map_err(failed)?;
        let address = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || !address.starts_with("unix://") {
            let said = format!("{}\n{address}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
            return Err(wrong("the address of a shim", said));
        }
        let client = ttrpc::Client::connect(&address)
            .map_err(|error| wrong("a connection to the shim", error.to_string()))?;
        Ok(Self { client, id: turn.id.clone(), _log: opened })
    }

    /// Creates the container, with its standard output and error where `streams` says.
    pub(super) fn create(&self, turn: &Turn, streams: Option<(&Path, &Path)>) -> Result<(), HarnessError> {
        let mut request = CreateTaskRequest::new();
        request.id.clone_from(&self.id);
        request.bundle = turn.bundle.to_string_lossy().into_owned();
        if let Some((stdout, stderr)) = streams {
            request.stdout = stdout.to_string_lossy().into_owned();
            request.stderr = stderr.to_string_lossy().into_owned();
        }
        request.rootfs = turn.rootfs.iter().map(mount).collect();
        request.options = MessageField::from_option(turn.binary.as_ref().map(|binary| {
            let mut options = Any::new();
            options.type_url = "containerd.runc.v1.Options".to_owned();
            options.value = binary_name(&binary.to_string_lossy());
            options
        }));
        self.call::<CreateTaskResponse>("Create", &request).map(drop)
    }

    /// Waits for its end as containerd does, from before it is started; `meanwhile` goes on beside it.
    pub(super) fn run_to_its_end<T>(
        &self,
        meanwhile: impl FnOnce() -> Result<T, HarnessError>,
    ) -> Result<T, HarnessError> {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut request = WaitRequest::new();
                request.id.clone_from(&self.id);
                self.call::<WaitResponse>("Wait", &request)
            });
            let mut request = StartRequest::new();
            request.id.clone_from(&self.id);
            self.call::<StartResponse>("Start", &request)?;
            let done = meanwhile()?;
            let ended = waiting.join().map_err(|_| wrong("an answer to Wait", "a panic"))??;
            match ended.exit_status {
                0 => Ok(done),
                other => Err(wrong("a container that ends with 0", other.to_string())),
            }
        })
    }

    /// Deletes the container.
    pub(super) fn delete(&self) -> Result<(), HarnessError> {
        let mut request = DeleteRequest::new();
        request.id.clone_from(&self.id);
        self.call::<DeleteResponse>("Delete", &request).map(drop)
    }

    /// Asks it to end. A shim may do so before it has answered.
    pub(super) fn shut_down(&self) {
        let mut request = ShutdownRequest::new();
        request.id.clone_from(&self.id);
        if let Err(error) = self.call::<Empty>("Shutdown", &request) {
            // That every process ends is asked next, and decides.
            drop(error);
        }
    }

    fn call<T: Message>(&self, method: &str, body: &impl Message) -> Result<T, HarnessError> {
        let mut request = ttrpc::Request::new();
        request.service = SERVICE.to_owned();
        request.method = method.to_owned();
        request.timeout_nano = CALL_NS;
        let failed = |error: String| wrong("an answer of the shim", format!("{method}: {error}"));
        request.payload = body.write_to_bytes().map_err(|error| failed(error.to_string()))?;
        let answer = self.client.request(request).map_err(|error| failed(error.to_string()))?;
        T::parse_from_bytes(&answer.payload).map_err(|error| failed(error.to_string()))
    }
}

fn mount(mount: &crate::job::RootMount) -> Mount {
    let mut out = Mount::new();
    out.type_.clone_from(&mount.kind);
    out.source.clone_from(&mount.source);
    out.options.clone_from(&mount.options);
    out
}

/// `binary_name` of runc's shim's options: field 6, a string.
///
/// Source: containerd api/types/runc/options/oci.proto.
fn binary_name(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(0).min(0x7f);
    let mut bytes = vec![6 << 3 | 2, length];
    bytes.extend(&name.as_bytes()[..length.into()]);
    bytes
}

/// What every bundle holds beside its spec.
pub(crate) fn make_log(bundle: &Path) -> Result<(), HarnessError> {
    reap::make_fifo(&bundle.join("log"))
}
