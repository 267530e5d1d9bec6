//! The command line of OCI runtimes (create, start, state, kill, delete) on a containerd and one of its shims, so that
//! suites written for runtimes see a shim.
//!
//! ```text
//! suite ─► oci create --bundle DIR ID ─► image of DIR's root ─► policy names it ─► container, snapshot, task
//!       ─► oci state | start | kill | delete ID ─► the same calls of the task API
//! ```
//! `OCI_SOCKET`, `OCI_CTR`, `OCI_NAMESPACE` and `OCI_RUNTIME` say where and how; `OCI_POLICY` is a file in which
//! @DIGEST@ stands for the image of the moment and @HOOKS@ for the hooks of its config.json, written to `OCI_POLICY_TO`.
//! What the container wrote is copied into the bundle's root when its state is asked: suites look for it there.
//!
//! Invariant: config.json reaches the shim byte by byte, but for the place of its root.
//! Never here: a judgement of what a suite asks; an error of containerd's goes to standard error as it is.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    str::FromStr as _,
};

use bulkhead_integration::{Image, Layer};
use containerd_client::{
    services::v1::{
        Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest,
        GetContainerRequest, GetRequest, KillRequest, StartRequest,
        container::Runtime,
        containers_client::ContainersClient,
        snapshots::{
            MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, snapshots_client::SnapshotsClient,
        },
        tasks_client::TasksClient,
    },
    types::v1::Status,
};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tonic::{Request, transport::Channel};

/// The snapshotter of every container here.
const OVERLAY: &str = "overlayfs";

/// Where a container's record keeps what only the command line knows.
const BUNDLE: &str = "bulkhead.test/bundle";
const ROOT: &str = "bulkhead.test/root";

/// As containerd's own clients mark a spec.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

type Done<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run()));
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run() -> Done<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let socket = variable("OCI_SOCKET")?;
    let client =
        Client { channel: containerd_client::connect(&socket).await?, namespace: variable("OCI_NAMESPACE")? };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["create", options @ .., id] => client.create(&Options::of(options)?, id).await,
        ["state", id] => {
            println!("{}", client.state(id).await?);
            Ok(())
        }
        ["start", id] => {
            let request = StartRequest { container_id: (*id).to_owned(), ..StartRequest::default() };
            client.tasks().start(client.request(request)?).await?;
            Ok(())
        }
        ["kill", id, signal] => client.kill(id, signal).await,
        ["delete", id] => client.delete(id).await,
        other => Err(format!("not known: {other:?}").into()),
    }
}

fn variable(name: &str) -> Done<String> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// What `create` was told beside the id.
struct Options {
    bundle: PathBuf,
    pid_file: Option<PathBuf>,
}

impl Options {
    fn of(words: &[&str]) -> Done<Self> {
        let mut options = Self { bundle: env::current_dir()?, pid_file: None };
        for pair in words.chunks(2) {
            match pair {
                ["--bundle", dir] => options.bundle = fs::canonicalize(dir)?,
                ["--pid-file", file] => options.pid_file = Some(PathBuf::from(file)),
                other => return Err(format!("not known: {other:?}").into()),
            }
        }
        Ok(options)
    }
}

struct Client {
    channel: Channel,
    namespace: String,
}

impl Client {
    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    fn request<T>(&self, body: T) -> Done<Request<T>> {
        let mut request = Request::new(body);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse()?);
        Ok(request)
    }

    async fn create(&self, options: &Options, id: &str) -> Done<()> {
        let mut spec: Value = serde_json::from_slice(&fs::read(options.bundle.join("config.json"))?)?;
        let root = spec.pointer("/root/path").and_then(Value::as_str).ok_or("config.json names no root")?;
        let root = options.bundle.join(root);
        spec["root"]["path"] = json!("rootfs");
        let (name, chain) = import(&root, id, &hooks(&spec))?;
        let container = Container {
            id: id.to_owned(),
            labels: [
                (BUNDLE.to_owned(), options.bundle.display().to_string()),
                (ROOT.to_owned(), root.display().to_string()),
            ]
            .into(),
            image: name,
            runtime: Some(Runtime { name: variable("OCI_RUNTIME")?, options: None }),
            spec: Some(prost_types::Any { type_url: SPEC.to_owned(), value: spec.to_string().into_bytes() }),
            snapshotter: OVERLAY.to_owned(),
            snapshot_key: id.to_owned(),
            ..Container::default()
        };
        let prepare = PrepareSnapshotRequest {
            snapshotter: OVERLAY.to_owned(),
            key: id.to_owned(),
            parent: chain,
            labels: HashMap::from([("containerd.io/gc.root".to_owned(), "oci".to_owned())]),
        };
        let record = CreateContainerRequest { container: Some(container) };
        self.containers().create(self.request(record)?).await?;
        let created = self.create_task(prepare, id).await;
        if created.is_err() {
            drop(self.remove(id).await);
        }
        let pid = created?;
        if let Some(file) = &options.pid_file {
            fs::write(file, pid.to_string())?;
        }
        Ok(())
    }

    async fn create_task(&self, prepare: PrepareSnapshotRequest, id: &str) -> Done<u32> {
        let rootfs = self.snapshots().prepare(self.request(prepare)?).await?.into_inner().mounts;
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdout: stream(1)?,
            stderr: stream(2)?,
            ..CreateTaskRequest::default()
        };
        Ok(self.tasks().create(self.request(request)?).await?.into_inner().pid)
    }

    /// Source: OCI runtime spec, runtime.md, "State".
    async fn state(&self, id: &str) -> Done<Value> {
        let request = self.request(GetRequest { container_id: id.to_owned(), exec_id: String::new() })?;
        let process = self.tasks().get(request).await?.into_inner().process.ok_or("no process")?;
        let request = self.request(GetContainerRequest { id: id.to_owned() })?;
        let container = self.containers().get(request).await?.into_inner().container.ok_or("no container")?;
        let spec: Value = serde_json::from_slice(&container.spec.unwrap_or_default().value)?;
        self.copy_back(id, container.labels.get(ROOT).ok_or("no root")?).await?;
        let status = match Status::try_from(process.status)? {
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Paused | Status::Pausing => "paused",
            Status::Unknown => return Err("containerd does not know the status".into()),
        };
        Ok(json!({
            "ociVersion": spec["ociVersion"], "id": id, "status": status, "pid": process.pid,
            "bundle": container.labels.get(BUNDLE), "annotations": spec["annotations"],
        }))
    }

    async fn copy_back(&self, id: &str, root: &str) -> Done<()> {
        let request = MountsRequest { snapshotter: OVERLAY.to_owned(), key: id.to_owned() };
        let mounts = self.snapshots().mounts(self.request(request)?).await?.into_inner().mounts;
        let options = mounts.iter().flat_map(|mount| &mount.options);
        let upper = options.filter_map(|option| option.strip_prefix("upperdir=")).next();
        let from = format!("{}/.", upper.ok_or("the snapshot is no overlay")?);
        // What is in use, or a whiteout, is not what a suite looks for.
        Command::new("cp").args(["-r", "--no-dereference", &from, root]).stderr(Stdio::null()).status()?;
        Ok(())
    }

    async fn kill(&self, id: &str, signal: &str) -> Done<()> {
        let number = match signal.parse::<u32>() {
            Ok(number) => number,
            Err(_) => Signal::from_str(&format!("SIG{}", signal.trim_start_matches("SIG")))? as u32,
        };
        let request = KillRequest { container_id: id.to_owned(), signal: number, ..KillRequest::default() };
        self.tasks().kill(self.request(request)?).await?;
        Ok(())
    }

    async fn delete(&self, id: &str) -> Done<()> {
        let request = DeleteTaskRequest { container_id: id.to_owned() };
        self.tasks().delete(self.request(request)?).await?;
        self.remove(id).await
    }

    async fn remove(&self, id: &str) -> Done<()> {
        let container = DeleteContainerRequest { id: id.to_owned() };
        self.containers().delete(self.request(container)?).await?;
        let snapshot = RemoveSnapshotRequest { snapshotter: OVERLAY.to_owned(), key: id.to_owned() };
        self.snapshots().remove(self.request(snapshot)?).await?;
        Ok(())
    }
}

/// An image of this root file system, imported and named by the policy; its name and chain ID.
fn import(root: &Path, id: &str, hooks: &[String]) -> Done<(String, String)> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", root)?;
    let layer = Layer::of_tar(tar.into_inner()?);
    let name = format!("registry.test/oci/{id}:1");
    let archive = env::temp_dir().join(format!("oci-{id}.tar"));
    let digests = Image::of_config(&name, vec![layer], Map::new()).write(&archive)?;
    let ctr = Command::new(variable("OCI_CTR")?)
        .args(["-a", &variable("OCI_SOCKET")?, "-n", &variable("OCI_NAMESPACE")?, "images", "import"])
        .arg(&archive)
        .output()?;
    fs::remove_file(&archive)?;
    if !ctr.status.success() {
        return Err(String::from_utf8_lossy(&ctr.stderr).into_owned().into());
    }
    let policy = fs::read_to_string(variable("OCI_POLICY")?)?.replace("@DIGEST@", &digests.manifest);
    fs::write(variable("OCI_POLICY_TO")?, policy.replace("@HOOKS@", &hooks.join(", ")))?;
    Ok((name, digests.chain_id()))
}

/// The programs of a spec's hooks, each quoted.
fn hooks(spec: &Value) -> Vec<String> {
    let lists = spec["hooks"].as_object().into_iter().flat_map(Map::values);
    let hooks = lists.filter_map(Value::as_array).flatten();
    let mut paths: Vec<String> = hooks.map(|hook| hook["path"].to_string()).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// A standard stream as containerd names it: the file that this program was given for it, where it is one.
fn stream(number: u32) -> Done<String> {
    let file = fs::read_link(format!("/proc/self/fd/{number}"))?;
    Ok(if file.is_file() { format!("file://{}", file.display()) } else { String::new() })
}
